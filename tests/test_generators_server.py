"""Images from a server: what is asked for, what comes back, and every way it can go wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eegprompt.core.errors import InputError, ModelLoadError
from eegprompt.generators import load_generator
from eegprompt.generators.base import Generator

KEY = "sk-test-0123456789"


def color_of(prompt: str, seed: int) -> tuple[int, ...]:
    return tuple(hashlib.sha256(f"{prompt}{seed}".encode()).digest()[:3])


def png(color: tuple[int, ...], size: tuple[int, int] = (8, 8)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, "PNG")
    return stream.getvalue()


Reply = tuple[int, Any, dict[str, str]]


def good(body: dict[str, Any]) -> Reply:
    image = png(color_of(body["prompt"], body.get("seed", 0)))
    data = [{"b64_json": base64.b64encode(image).decode()}]
    return 200, {"created": 1, "data": data}, {}


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    return status, {"error": {"message": message, "code": code}}, headers


class ImageServer:
    """Serves on 127.0.0.1; `script(body, attempt)` decides each reply."""

    def __init__(self, script: Callable[[dict[str, Any], int], Reply] | None = None):
        self.script = script or (lambda body, attempt: good(body))
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str] = []
        self.at_once = self.most_at_once = 0
        self.delay = 0.0
        lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: Any) -> None:
                pass

            def _send(self, status: int, content: bytes, kind: str, headers: dict) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                owner.paths.append(self.path)
                owner.keys.append(self.headers.get("Authorization", ""))
                if self.path == "/gone.png":
                    self._send(404, b"", "text/plain", {})
                else:
                    self._send(200, png((1, 2, 3)), "image/png", {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    attempt = sum(b.get("prompt") == body["prompt"] for b in owner.bodies)
                    owner.bodies.append(body)
                    owner.paths.append(self.path)
                    owner.keys.append(self.headers.get("Authorization", ""))
                    owner.at_once += 1
                    owner.most_at_once = max(owner.most_at_once, owner.at_once)
                try:
                    time.sleep(owner.delay)
                    status, answer, headers = owner.script(body, attempt)
                    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                    self._send(status, content, "application/json", headers)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with lock:
                        owner.at_once -= 1

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: Any) -> None:
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def generator(self, **options: Any) -> Any:
        given = {"height": 8, "width": 8, "retries": 0, "timeout": 5, **options}
        return load_generator(f"server:{self.root}/v1", **given)

    def __enter__(self) -> ImageServer:
        return self

    def __exit__(self, *problem: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    with ImageServer() as one:
        yield one


PROMPTS = [f"image {i}" for i in range(6)]


def test_every_prompt_comes_back_in_its_place_with_its_seed(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.delay = 0.05
    generator = server.generator(model="m", concurrency=3, steps=4, extra={"quality": "low"})
    assert isinstance(generator, Generator)
    images = generator.generate(PROMPTS, range(6))
    assert images.shape == (6, 8, 8, 3) and images.dtype == np.uint8
    for i, image in enumerate(images):
        assert tuple(image[0, 0]) == color_of(PROMPTS[i], i)
    assert server.paths == ["/v1/images/generations"] * 6
    assert server.keys == [f"Bearer {KEY}"] * 6
    body = server.bodies[0]
    assert body == {
        "prompt": "image 0",
        "model": "m",
        "n": 1,
        "size": "8x8",
        "seed": 0,
        "response_format": "b64_json",
        "num_inference_steps": 4,
        "quality": "low",
    }
    assert 1 < server.most_at_once <= 3
    assert generator.blanked == [False] * 6
    assert KEY not in json.dumps(generator.settings) + repr(generator)
    assert np.array_equal(generator.generate(PROMPTS[:2], [0, 1]), images[:2])


def test_no_key_is_sent_where_there_is_none(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.generator().generate(["a"], [0])
    assert server.keys == ["Bearer none"]
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        load_generator("server:https://api.openai.com/v1")


def test_a_server_that_knows_no_seed_is_asked_without(server):
    def script(body, attempt):
        for field in ("seed", "response_format"):
            if field in body:
                return error(400, f"Unknown parameter: '{field}'.")
        return good(body)

    server.script = script
    generator = server.generator()
    assert generator.generate(PROMPTS[:3], [1, 2, 3]).shape == (3, 8, 8, 3)
    assert not generator.seeded and "seed" not in server.bodies[-1]
    assert len(server.bodies) == 5  # what it accepts is found out once


def test_a_image_may_come_as_an_address(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    place = {"url": f"{server.root}/here.png"}
    server.script = lambda body, attempt: (200, {"created": 1, "data": [place]}, {})
    image = server.generator().generate(["a"], [0])[0]
    assert tuple(image[0, 0]) == (1, 2, 3)
    assert server.keys == [f"Bearer {KEY}", ""]  # the key goes to the server alone
    place["url"] = f"{server.root}/gone.png"
    with pytest.raises(ModelLoadError, match=r"sent no image \(HTTPError"):
        server.generator().generate(["a"], [0])
    place["url"] = "file:///etc/hostname"
    with pytest.raises(ModelLoadError, match="sent no image"):
        server.generator().generate(["a"], [0])


def test_what_the_content_filter_refuses_is_marked_not_scored(server):
    def script(body, attempt):
        if body["prompt"] == "image 1":
            return error(400, "Your request was rejected.", "content_policy_violation")
        return good(body)

    server.script = script
    generator = server.generator()
    images = generator.generate(PROMPTS[:3], [0, 1, 2])
    assert generator.blanked == [False, True, False]
    assert not images[1].any() and images[0].any() and images[2].any()


def test_failures_are_repeated_and_then_succeed(server):
    def script(body, attempt):
        if attempt == 0:
            return error(429, "slow down", retry_after_ms="1")
        if attempt == 1:
            return error(503, "busy", retry_after_ms="1")
        return good(body)

    server.script = script
    images = server.generator(retries=2).generate(["a"], [5])
    assert tuple(images[0, 0, 0]) == color_of("a", 5) and len(server.bodies) == 3


@pytest.mark.parametrize(
    ("status", "match"),
    [
        (401, "answered 401 .*set OPENAI_API_KEY"),
        (403, "answered 403 .*may not use the model"),
        (404, "answered 404 .*check the address and the model 'm'"),
        (429, r"answered 429 1 times .*smaller concurrency"),
        (500, r"answered 500 1 times .*server's own log"),
    ],
)
def test_what_cannot_be_mended_is_said_without_the_key(server, monkeypatch, status, match):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.script = lambda body, attempt: error(status, f"bad key {KEY}")
    with pytest.raises(ModelLoadError, match=match) as problem:
        server.generator(model="m").generate(["a"], [0])
    assert KEY not in str(problem.value) and "what was drawn is kept" in str(problem.value)


def test_a_request_that_is_refused_is_an_error_of_the_input(server):
    server.script = lambda body, attempt: error(400, "size must be 1024x1024")
    with pytest.raises(InputError, match=r"refuses the request \(400: size must be 1024x1024"):
        server.generator().generate(["a"], [0])


def test_a_server_that_is_silent_or_gone_is_said(server):
    server.delay = 1.0
    with pytest.raises(ModelLoadError, match=r"no answer within 0.2 s, 1 times"):
        server.generator(timeout=0.2).generate(["a"], [0])
    gone = load_generator("server:http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(ModelLoadError, match="cannot be reached"):
        gone.generate(["a"], [0])


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"<html>hello</html>", "sent no image"),
        ({"created": 1, "data": []}, "sent no image"),
        ({"created": 1, "data": [{}]}, "neither b64_json nor url"),
        (
            {"created": 1, "data": [{"b64_json": "bm8gcGljdHVyZQ=="}]},
            "10 bytes that are no image",
        ),
        ({"created": 1, "data": [{"b64_json": "?"}]}, "sent no image"),
        (
            {"data": [{"b64_json": base64.b64encode(png((0, 0, 0), (16, 8))).decode()}]},
            "draws 16x8 pixels and was asked for 8x8; set width=16",
        ),
    ],
)
def test_answers_that_are_no_image_are_refused(server, answer, match):
    server.script = lambda body, attempt: (200, answer, {})
    with pytest.raises(ModelLoadError, match=match):
        server.generator().generate(["a"], [0])


def test_what_cannot_be_asked_is_refused_before(server):
    for url in ("", "localhost:8000", "ftp://x/v1"):
        with pytest.raises(InputError, match="needs the server's address"):
            load_generator(f"server:{url}")
    with pytest.raises(InputError, match="no user, password or key"):
        load_generator("server:http://me:secret@x/v1")
    with pytest.raises(InputError, match="concurrency must be"):
        server.generator(concurrency=0)
    with pytest.raises(InputError, match="timeout must be"):
        server.generator(timeout=0)
    with pytest.raises(InputError, match="prompt 0 is empty"):
        server.generator().generate([" "], [0])
    with pytest.raises(InputError, match="as many seeds"):
        server.generator().generate(["a"], [])
    assert server.generator().generate([], []).shape == (0, 8, 8, 3)
    assert not server.bodies
