"""A small chat server that behaves as well, or as badly, as a test wants."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eegprompt.core.kinds import KINDS


def good(i: int) -> dict[str, str]:
    """Ten captions of image number i that are in order."""
    return {kind: f"{kind.lower()} number {i}" for kind in KINDS}


def completion(text: Any, **more: Any) -> bytes:
    """A chat completion that holds a text."""
    message = {"role": "assistant", "content": text, **more}
    return json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "model": "m",
            "created": 0,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
        }
    ).encode()


@dataclass
class Reply:
    """What the server sends."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False  # cut the connection after half of the body
    endless: bool = False


def ok(i: int) -> Reply:
    """A good answer for image number i."""
    return Reply(completion(json.dumps(good(i))))


def error(status: int, message: str = "no", **headers: str) -> Reply:
    """An error as OpenAI words it."""
    body = json.dumps({"error": {"message": message, "code": None}}).encode()
    return Reply(body, status, {k.replace("_", "-"): v for k, v in headers.items()})


def image_number(request: dict[str, Any]) -> int:
    """Which gray image was sent: image i of the small study is i × 30 bright."""
    from PIL import Image

    content = request["messages"][1]["content"]
    if isinstance(content, str):
        return -1
    url = next(p["image_url"]["url"] for p in content if p["type"] == "image_url")
    match = re.fullmatch(r"data:image/jpeg;base64,(.+)", url)
    assert match is not None
    with Image.open(io.BytesIO(base64.b64decode(match[1]))) as image:
        return round(sum(image.resize((1, 1)).getpixel((0, 0))) / 90)


class ChatServer:
    """Serves on 127.0.0.1; `script(image, attempt, request)` decides each reply.

    `attempt` counts the requests for that image from 0. `requests` keeps what came.
    """

    def __init__(self, script: Callable[[int, int, dict[str, Any]], Reply] | None = None):
        self.script = script or (lambda i, attempt, request: ok(i))
        self.requests: list[tuple[int, dict[str, Any]]] = []
        self.authorization: set[str] = set()
        self.counts: Counter[int] = Counter()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with owner._lock:
                    image = image_number(body)
                    attempt = owner.counts[image]
                    owner.counts[image] += 1
                    owner.requests.append((image, body))
                    owner.authorization.add(self.headers.get("Authorization", ""))
                    owner.at_once += 1
                    owner.most_at_once = max(owner.most_at_once, owner.at_once)
                try:
                    owner._send(self, owner.script(image, attempt, body))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with owner._lock:
                        owner.at_once -= 1

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *args: Any) -> None:
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.delay:
            time.sleep(reply.delay)
        handler.send_response(reply.status)
        handler.send_header("Content-Type", "application/json")
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        length = len(reply.body) if not reply.endless else 10**12
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if reply.drop:
            handler.wfile.write(reply.body[: len(reply.body) // 2])
            handler.close_connection = True
            return
        handler.wfile.write(reply.body)
        while reply.endless:
            handler.wfile.write(b" " * 65536)

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._server.shutdown()
        self._server.server_close()
