"""The real openai client against a real server on this machine, with all it may answer."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from chat_server import ChatServer, Reply, completion, error, good, image_number, ok
from eegprompt.captions import chat
from eegprompt.captions.answers import read_answer
from eegprompt.captions.instruction import DEFAULT_INSTRUCTION, load_instruction
from eegprompt.captions.store import facts_of
from eegprompt.cli.app import app
from eegprompt.core.errors import CaptionError, InputError
from eegprompt.core.kinds import KINDS
from eegprompt.steps.caption import caption as write_captions
from eegprompt.steps.caption import estimate_captions, failed_captions
from eegprompt.steps.info import info as study_info
from eegprompt.study import Study

KEY = "sk-a-secret-of-the-user-1234567890"


@pytest.fixture
def study(small_study: Path) -> Study:
    return Study(small_study)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.05)


def write(study: Study, server: ChatServer, **options: Any) -> Any:
    path = write_captions(study, "chat:m", "chat", base_url=server.url, **options)
    return study.captions(path.stem)


def failures(study: Study) -> dict[str, str]:
    return {f["image_id"]: f["error"] for f in failed_captions(study, "chat")}


def assert_whole(table: Any, images: list[int]) -> None:
    expected = {(f"img-{i}", kind, text) for i in images for kind, text in good(i).items()}
    assert set(zip(table["image_id"], table["kind"], table["text"])) == expected
    assert len(table) == len(expected)


def test_one_request_an_image_brings_ten_captions(study: Study) -> None:
    with ChatServer() as server:
        table = write(study, server)
        again = write(study, server)
    assert_whole(table, list(range(8)))
    assert_whole(again, list(range(8)))
    assert sorted(i for i, _ in server.requests) == list(range(8))  # and none for the second call
    request = server.requests[0][1]
    assert request["model"] == "m"
    schema = request["response_format"]["json_schema"]
    assert schema["strict"] and schema["schema"]["required"] == list(KINDS)
    assert all(kind.instruction in request["messages"][0]["content"] for kind in KINDS.values())
    row = table.iloc[0]
    assert row["captioner"] == "chat" and row["model"] == "m" and row["created"] and row["key"]
    assert row["prompt_version"].startswith("1-")
    # The key went over the wire and nowhere else.
    assert server.authorization == {f"Bearer {KEY}"}
    for path in study.path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


def test_every_bad_answer_is_mended_once_or_recorded(study: Study) -> None:
    missing = {k: v for k, v in good(1).items() if k != "MoodFeel"}
    german = {k: f"{k} mit der Katze auf dem Tisch und ein Hund" for k in KINDS}
    first = {
        0: '{"ObjectSnap": "cut o',
        1: json.dumps(missing),
        2: "Sure!\n```json\n" + json.dumps({**good(2), "Extra": "x", "Other": {"a": 1}}) + "\n```",
        3: "<!DOCTYPE html><html><body>gateway</body></html>",
        4: json.dumps({**good(4), "ColorTone": "  "}),
        5: json.dumps({**good(5), "StoryHint": "word " * 500}),
        6: json.dumps(german),
        7: json.dumps({**good(7), "ThemeTag": "<script>alert(1)</script>"}),
    }
    mended = {0, 7}

    def script(i: int, attempt: int, request: dict[str, Any]) -> Reply:
        return ok(i) if attempt and i in mended else Reply(completion(first[i]))

    with ChatServer(script) as server:
        table = write(study, server)
        assert_whole(table, [0, 2, 7])
        assert server.counts == {i: 1 if i == 2 else 2 for i in range(8)}
        repair = next(r for i, r in server.requests if i == 1 and len(r["messages"]) == 4)
        assert "MoodFeel is missing" in repair["messages"][3]["content"]
        reasons = failures(study)
        for i, said in {1: "MoodFeel is missing", 3: "web page", 4: "ColorTone is empty",
                        5: "longer than 20 words", 6: "'de'"}.items():  # fmt: skip
            assert said in reasons[f"img-{i}"]
        assert len(reasons) == 5
        # Failed images are asked for again only on request, and then they alone.
        server.counts.clear()
        write(study, server)
        assert not server.counts
        server.script = lambda i, attempt, request: ok(i)
        table = write(study, server, retry_failed=True)
    assert_whole(table, list(range(8)))
    assert server.counts == dict.fromkeys((1, 3, 4, 5, 6), 1)
    assert failures(study) == {}


def test_failures_of_the_server_are_repeated(study: Study) -> None:
    bad = {
        0: error(500),
        1: error(503),
        2: Reply(completion(json.dumps(good(2))), drop=True),
        3: error(429, "slow down", retry_after="0.4"),
        4: Reply(b"<html>proxy</html>"),
        5: Reply(b"", 502),
    }

    def script(i: int, attempt: int, request: dict[str, Any]) -> Reply:
        if i == 6:
            return Reply(delay=5.0)
        if i == 7:
            return Reply(endless=True)
        return ok(i) if attempt else bad[i]

    with ChatServer(script) as server:
        started = time.monotonic()
        table = write(study, server, timeout=1.5, retries=1)
        took = time.monotonic() - started
    assert_whole(table, [0, 1, 2, 3, 4, 5])
    reasons = failures(study)
    assert "no answer within 1.5 s, 2 times" in reasons["img-6"]
    assert "longer than 1 MiB" in reasons["img-7"] or "no answer" in reasons["img-7"]
    assert took > 0.4 and server.counts[6] == 2


def test_retry_after_is_waited_for(study: Study) -> None:
    stamps: list[float] = []

    def script(i: int, attempt: int, request: dict[str, Any]) -> Reply:
        stamps.append(time.monotonic())
        return error(429, retry_after="0.5") if len(stamps) == 1 else ok(i)

    with ChatServer(script) as server:
        write(study, server, concurrency=1)
    assert len(stamps) == 9
    assert stamps[1] - stamps[0] >= 0.45


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (error(401, f"bad key {KEY}"), "401 .*check OPENAI_API_KEY"),
        (error(403), "403"),
        (error(404, "no such model"), "check the model 'm' and base_url"),
        (error(429, "insufficient_quota"), "quota is used up"),
        (error(429, retry_after="86400"), "asks to wait 86400 s"),
    ],
)
def test_what_no_repetition_mends_ends_the_run(study: Study, reply: Reply, said: str) -> None:
    with ChatServer() as server:
        write(study, server, max_images=3)
        server.script = lambda i, attempt, request: reply
        with pytest.raises(CaptionError, match=said) as caught:
            write(study, server, concurrency=1)
        assert KEY not in str(caught.value) and "run the same command again" in str(caught.value)
        assert len(server.requests) <= 5  # the rest was not even tried
        server.script = lambda i, attempt, request: ok(i)
        assert_whole(write(study, server), list(range(8)))
    assert [server.counts[i] for i in range(3)] == [1, 1, 1]  # what was finished was kept


def test_a_server_that_is_down_ends_the_run(study: Study, monkeypatch: Any) -> None:
    monkeypatch.setattr(chat, "_BROKEN_AFTER", 3)
    with ChatServer() as server:
        url = server.url
    with pytest.raises(CaptionError, match="requests in a row failed: connection failed"):
        write_captions(study, "chat:m", base_url=url, retries=0, concurrency=1)


def test_servers_without_schemas_are_asked_otherwise(study: Study) -> None:
    def script(i: int, attempt: int, request: dict[str, Any]) -> Reply:
        kind = request.get("response_format", {}).get("type")
        if kind:
            return error(400, f"response_format {kind} is not supported")
        if "max_tokens" in request:
            return error(400, "use max_completion_tokens instead of max_tokens")
        if "temperature" in request:
            return error(400, "temperature does not support 0")
        return ok(i)

    with ChatServer(script) as server:
        assert_whole(write(study, server, concurrency=1), list(range(8)))
    # Whichever image is asked first finds out; the others are asked as it was in the end.
    assert sorted(server.counts.values()) == [1] * 7 + [5]
    notes = " ".join(facts_of(study.path, "chat")["notes"])
    assert "refused a JSON schema (response_format json_schema is not supported)" in notes
    assert "refused a JSON object" in notes and "takes no temperature" in notes


def test_a_form_is_given_up_only_where_another_is_answered(study: Study) -> None:
    """A first image that is refused in every form costs the others nothing."""

    def refuses_a_image(i: int, attempt: int, request: dict[str, Any]) -> Reply:
        return error(400, "this image format is not allowed") if i == 0 else ok(i)

    with ChatServer(refuses_a_image) as server:
        assert_whole(write(study, server, concurrency=1), list(range(1, 8)))
    assert server.counts == {0: 3, **dict.fromkeys(range(1, 8), 1)}
    asked = [r["response_format"]["type"] for i, r in server.requests if i]
    assert asked == ["json_schema"] * 7
    assert not any("refused a JSON" in n for n in facts_of(study.path, "chat")["notes"])


def test_a_schema_that_is_refused_without_a_word_is_given_up(study: Study) -> None:
    def script(i: int, attempt: int, request: dict[str, Any]) -> Reply:
        schema = request["response_format"]["type"] == "json_schema"
        return error(400, "bad request") if schema else ok(i)

    with ChatServer(script) as server:
        assert_whole(write(study, server, concurrency=1), list(range(8)))
    assert sorted(server.counts.values()) == [1] * 7 + [2]
    said = (
        "the server refused a JSON schema (bad request), so answers were asked for as a JSON object"
    )
    assert said in facts_of(study.path, "chat")["notes"]


def test_refusals_are_recorded(study: Study) -> None:
    def script(i: int, attempt: int, request: dict[str, Any]) -> Reply:
        if i == 1:
            return Reply(completion(None, refusal="I cannot look at this"))
        if i == 2:
            return Reply(completion("I'm sorry, but I can't help with that."))
        if i == 3 and attempt == 0:
            return Reply(completion(json.dumps({**good(3), "MoodFeel": "I'm unable to tell."})))
        return error(400, "image rejected by content policy") if i == 4 else ok(i)

    with ChatServer(script) as server:
        assert_whole(write(study, server), [0, 3, 5, 6, 7])
    reasons = failures(study)
    assert "refused" in reasons["img-1"] and "is a refusal" in reasons["img-2"]
    assert "content policy" in reasons["img-4"]


def test_a_bad_image_stops_nothing(study: Study) -> None:
    study.image_path("img-3").write_bytes(b"no image")
    study.image_path("img-4").unlink()
    cut = study.image_path("img-5")
    cut.write_bytes(cut.read_bytes()[:40])
    with ChatServer() as server:
        assert_whole(write(study, server), [0, 1, 2, 6, 7])
    reasons = failures(study)
    assert "cannot be read" in reasons["img-3"] and "missing" in reasons["img-4"]
    assert set(reasons) == {"img-3", "img-4", "img-5"}
    assert str(study.path) not in " ".join(reasons.values())


def test_images_of_every_kind_are_sent_upright_small_and_as_rgb(study: Study) -> None:
    """Each image is as bright as its number says, so that the server knows it by what it sees."""

    def put(i: int, image: Image.Image, suffix: str, **options: Any) -> None:
        path = study.image_path(f"img-{i}")
        image.save(path, format=suffix, **options)  # the name ends in .png whatever it holds

    def gray(i: int, size: tuple[int, int] = (40, 20)) -> Image.Image:
        return Image.new("RGB", size, (30 * i,) * 3)

    put(0, gray(0).convert("CMYK"), "JPEG", quality=95)
    put(1, Image.fromarray(np.full((20, 40), 30 * 257, np.uint16)), "PNG")
    put(2, gray(2), "GIF", save_all=True, append_images=[gray(8), gray(0)])
    exif = Image.Exif()
    exif[0x0112] = 6
    put(3, gray(3), "JPEG", exif=exif, quality=95)
    put(4, gray(4, (9000, 4000)), "JPEG")
    put(5, Image.new("1", (20000, 20000)), "PNG")  # 400 million pixels in 50 kB
    study.image_path("img-6").write_bytes(study.image_path("img-3").read_bytes()[:250])
    put(7, Image.new("RGBA", (20, 20), (210, 210, 210, 255)), "PNG")
    with ChatServer() as server:
        assert_whole(write(study, server), [0, 1, 2, 3, 4, 7])
    reasons = failures(study)
    assert set(reasons) == {"img-5", "img-6"}
    assert "too many pixels" in reasons["img-5"] and "cannot be read" in reasons["img-6"]
    sizes = {}
    for i, request in server.requests:
        url = request["messages"][1]["content"][-1]["image_url"]["url"]
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as sent:
            assert sent.format == "JPEG" and sent.mode == "RGB" and not sent.getexif()
            sizes[i] = sent.size
    assert sizes[0] == (40, 20) and sizes[3] == (20, 40) and sizes[4] == (512, 228)


def test_nothing_and_silence_are_failures_of_their_image_alone(study: Study) -> None:
    stop = threading.Event()

    def script(i: int, attempt: int, request: dict[str, Any]) -> Reply:
        if i == 1:
            return Reply(completion(""))
        if i == 2:
            return Reply(completion(None))
        if i == 3:
            stop.wait(20)  # never answers, as far as the client can tell
        return ok(i)

    with ChatServer(script) as server:
        assert_whole(write(study, server, timeout=0.7, retries=0), [0, 4, 5, 6, 7])
        stop.set()
    reasons = failures(study)
    assert "empty" in reasons["img-1"] and "empty" in reasons["img-2"]
    assert "no answer within 0.7 s" in reasons["img-3"] and len(reasons) == 3


def test_the_command_names_what_failed_and_retries_just_that(study: Study) -> None:
    study.image_path("img-5").write_bytes(b"x")
    line = ["captions", "write", str(study.path), "--captioner", "chat:m", "--name", "chat"]
    said = ""
    with ChatServer(lambda i, a, r: error(400, f"{KEY} [red]no[/red]") if i == 2 else ok(i)) as s:
        for more, captioned in (([], 6), ([], 6), (["--retry-failed"], 7)):
            answer = CliRunner().invoke(app, [*line, "--base-url", s.url, *more])
            assert answer.exit_code == 0, answer.output
            assert f"{10 * captioned} captions of {captioned} images" in answer.stdout
            assert "img-5" in answer.stderr and ("img-2" in answer.stderr) == (captioned == 6)
            said += answer.output
            s.script = lambda i, attempt, request: ok(i)
        # A 400 before the first answer is tried in other forms too, then left until asked for.
        assert 2 <= s.counts.pop(2) <= 4 and s.counts == dict.fromkeys((0, 1, 3, 4, 6, 7), 1)
        told = CliRunner().invoke(app, [*line, "--base-url", s.url, "--dry-run", "--json"])
        budget = ["--base-url", s.url, "--name", "few", "--max-images", "3"]
        few = CliRunner().invoke(app, [*line, *budget])
    # What a limit left undone is said, and what was spent.
    assert "5 of 8 images have no captions yet" in few.stderr and "3 requests" in few.stderr
    assert json.loads(told.stdout)["requests"] == 0
    assert "2 images failed; --retry-failed asks for just these" in said and "[red]no" in said
    # The key stands in no line and no file, though the server repeated it.
    assert KEY not in said + told.output
    for path in study.path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


def test_all_failing_says_so(study: Study) -> None:
    with ChatServer(lambda i, attempt, request: Reply(completion("no"))) as server:
        with pytest.raises(CaptionError, match="all 8 images it was asked for failed"):
            write(study, server)
        # No table was written, but what failed is not hidden.
        said = study_info(study)["captions"]["chat"]
        assert said.startswith("none: 8 of 8 images failed, the first with: ")
        server.script = lambda i, attempt, request: ok(i)
        assert_whole(write(study, server, retry_failed=True), list(range(8)))


def test_concurrency_and_budget(study: Study) -> None:
    prices = {"price_in": 1.0, "price_out": 5.0}  # 1000 and 200 tokens: 0.002 a request
    with ChatServer(lambda i, a, r: Reply(ok(i).body, delay=0.1)) as server:
        table = write(study, server, concurrency=3, max_cost=0.011, max_tokens=500, **prices)
        assert 1 <= table["image_id"].nunique() < 8
        assert len(server.requests) * 0.002 <= 0.011 and server.most_at_once <= 3
        notes = json.loads((study.path / "captions" / "chat.json").read_text())["notes"]
        assert any("budget of 0.011 is reached" in n for n in notes)
        done = table["image_id"].nunique()
        table = write(study, server, max_images=2)
        assert table["image_id"].nunique() == done + 2
        assert_whole(write(study, server, concurrency=3), list(range(8)))
    assert max(server.counts.values()) == 1
    with pytest.raises(InputError, match="needs the server's prices"):
        write_captions(study, "chat:m", max_cost=1)


def test_a_dry_run_asks_nothing(study: Study) -> None:
    with ChatServer() as server:
        options = {"base_url": server.url, "price_in": 2.0, "price_out": 8.0}
        facts = estimate_captions(study, "chat:m", **options)
        some = estimate_captions(study, "chat:m", max_images=3, **options)
        assert facts["requests"] == facts["images"] == 8 and facts["done"] == 0
        assert facts["cost"] == pytest.approx(
            (facts["tokens_in"] * 2 + facts["tokens_out"] * 8) / 1e6
        )
        assert some["tokens_in"] * 8 == facts["tokens_in"] * 3
        assert KEY not in json.dumps(facts) and "base64,…" in json.dumps(
            facts["example"], ensure_ascii=False
        )
        write(study, server, max_images=2)
        assert estimate_captions(study, "chat:m", **options)["requests"] == 6
    assert len(server.requests) == 2


def test_without_images_label_and_measurements_are_sent(study: Study) -> None:
    with ChatServer(lambda i, attempt, request: ok(0)) as server:
        write(study, server, images=False, max_images=1)
    content = server.requests[0][1]["messages"][1]["content"]
    assert '"house"' in content and "black" in content and image_number(server.requests[0][1]) < 0


def test_the_instruction_is_a_file_one_can_replace(study: Study, tmp_path: Path) -> None:
    own = tmp_path / "own.md"
    own.write_text('version: mine\nWrite JSON {"a": 1}.\n{kinds}\nNames: {names}')
    with ChatServer() as server:
        table = write(study, server, instruction=own, kinds="high")
        assert set(table["kind"]) == {"MoodFeel", "ThemeTag", "StoryHint"}
        assert table["prompt_version"].iloc[0].startswith("mine-")
        text = server.requests[0][1]["messages"][0]["content"]
        assert '{"a": 1}' in text and "Names: MoodFeel, ThemeTag, StoryHint" in text
        with pytest.raises(CaptionError, match="was written by chat m mine-"):
            write(study, server)
    before = load_instruction(own).version
    own.write_text(own.read_text() + " ")  # an empty change is none
    assert load_instruction(own).version == before
    own.write_text(own.read_text() + "More.")
    assert load_instruction(own).version != before
    own.write_text("no version\n{kinds}")
    with pytest.raises(CaptionError, match="must begin with a line 'version"):
        load_instruction(own)
    own.write_text("version: 2\nnothing")
    with pytest.raises(CaptionError, match=r"must hold \{kinds\}"):
        load_instruction(own)
    assert DEFAULT_INSTRUCTION.is_file()


def test_bad_options_are_refused(monkeypatch: pytest.MonkeyPatch, study: Study) -> None:
    for options, said in (
        ({"concurrency": 0}, "concurrency must be"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": "soon"}, "timeout must be a number"),
        ({"price_in": -1}, "price_in must be a number of at least 0"),
        ({"base_url": "http://me:secret@host/v1"}, "OPENAI_API_KEY"),
        ({"base_url": "localhost:8000/v1"}, "begins with http://"),
    ):
        with pytest.raises(InputError, match=said):
            chat.ChatCaptioner("m", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs a model"):
        chat.ChatCaptioner(None)
    with pytest.raises(
        InputError, match=r"'chat': 'temprature'; did you mean 'temperature'\? Allow"
    ):
        write_captions(study, "chat:m", temprature=1)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        write_captions(study, "chat:m", "x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("[" * 50_000, "not a JSON object"),
        ("x" * 200_000, "200000 characters"),
        ("null", "not a JSON object"),
        ("[1, 2]", "not a JSON object"),
        (json.dumps({**good(0), "ThemeTag": 3}), "ThemeTag is int"),
        (json.dumps({**good(0), "ThemeTag": "One. Two."}), "more than one sentence"),
        (json.dumps({**good(0), "ThemeTag": good(0)["MoodFeel"]}), "is a copy of"),
        (json.dumps(dict.fromkeys(KINDS, "красный дом")), "Latin"),
    ],
)
def test_answers_that_are_not_in_order(text: str, problem: str) -> None:
    assert problem in "; ".join(read_answer(text, list(KINDS)).problems)


def test_answers_in_other_forms_are_read() -> None:
    plain = good(0)
    for text in (
        json.dumps({"captions": plain}),
        json.dumps([{"kind": k, "text": v} for k, v in plain.items()]),
        "Here {it} is: " + json.dumps({k.lower(): f" {v}\n" for k, v in plain.items()}) + " Bye {",
    ):
        answer = read_answer(text, list(KINDS))
        assert answer.captions == plain and answer.problems == ()


_WRITER = """
import sys
from eegprompt.steps.caption import caption as write_captions
from eegprompt.study import Study
from eegprompt.steps.info import info as study_info
write_captions(Study(sys.argv[1]), "chat:m", base_url=sys.argv[2], concurrency=2, name="chat")
"""


def test_killed_at_any_moment_it_goes_on_and_asks_nothing_twice(study: Study) -> None:
    rng = random.Random(0)
    kills = 0
    with ChatServer(lambda i, a, r: Reply(ok(i).body, delay=0.15)) as server:
        command = [sys.executable, "-c", _WRITER, str(study.path), server.url]
        while True:
            n_before = len(server.requests)
            process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE)
            if kills < 2:
                while len(server.requests) == n_before and process.poll() is None:
                    time.sleep(0.01)
                time.sleep(rng.uniform(0.0, 0.4))
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                continue
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0, said
            break
    assert_whole(study.captions("chat"), list(range(8)))
    # Two requests are under way at once; one counts until its answer is written.
    assert sum(server.counts.values()) - 8 <= kills * 2


def test_a_draft_in_the_thinking_is_no_answer(study: Study) -> None:
    """Each model marks its thinking in its own way; what counts is what comes after it."""
    draft = json.dumps({kind: f"a draft of {kind}" for kind in KINDS})
    marks = {
        0: ("<think>", "</think>"),
        1: ("", "</think>"),  # the beginning stands in the server's template
        2: ("<thinking>\n", "\n</thinking>"),
        3: ("[THINK]", "[/THINK]"),
        4: ("◁think▷", "◁/think▷"),
        5: (
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
        ),
        6: ("<Reasoning>", "</Reasoning> Here it is: "),
        7: ("<think></think><think>", "</think>"),
    }

    def script(i: int, attempt: int, request: dict[str, Any]) -> Reply:
        begin, end = marks[i]
        return Reply(completion(f"{begin}Perhaps {draft}? Rather not.{end}{json.dumps(good(i))}"))

    with ChatServer(script) as server:
        assert_whole(write(study, server), list(range(8)))
    assert server.counts == dict.fromkeys(range(8), 1)


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{json.dumps(good(0))}",  # never ends
        f"<think>{json.dumps(good(0))}</think>",  # nothing follows
        f"<think>{json.dumps(good(0))}</think>\n  ",
        f"{json.dumps(good(0))}\nBetter: {json.dumps(good(1))}",  # which of the two?
    ],
)
def test_what_might_be_a_draft_is_not_taken(text: str) -> None:
    answer = read_answer(text, list(KINDS))
    assert answer.problems and not answer.captions


def test_the_same_set_twice_and_beside_other_json_is_one_answer() -> None:
    plain = json.dumps(good(0))
    for text in (f"{plain}\n{plain}", f'{{"steps": 3}} {plain}', f"{plain} Colors: [1, 2] {{}}"):
        answer = read_answer(text, list(KINDS))
        assert answer.captions == good(0) and not answer.problems


def test_an_answer_that_cannot_get_better_is_not_asked_for_again(study: Study) -> None:
    whole, half = json.dumps(good(4)), json.dumps(good(3))[:90]

    def ended(body: bytes, reason: str, tokens: int = 50) -> Reply:
        record = json.loads(body)
        record["choices"][0]["finish_reason"] = reason
        record["usage"]["completion_tokens"] = tokens
        return Reply(json.dumps(record).encode())

    replies = {
        0: Reply(completion(None, reasoning_content=whole)),
        1: Reply(completion("", reasoning="It shows a house.")),
        2: ended(completion("", reasoning_content="Let me see"), "length"),
        3: ended(completion(half), "length"),
        4: ended(completion(whole + "\n" * 40), "length"),  # cut off after the answer was whole
        5: ended(completion(half), "length", tokens=20),
    }
    with ChatServer(lambda i, a, r: replies.get(i, ok(i))) as server:
        assert_whole(write(study, server, max_tokens=50), [4, 6, 7])
    assert server.counts == dict.fromkeys(range(8), 1)
    reasons = failures(study)
    assert set(reasons) == {f"img-{i}" for i in (0, 1, 2, 3, 5)}
    assert "'reasoning_content'" in reasons["img-0"] and "'reasoning'" in reasons["img-1"]
    assert "'reasoning_content'" in reasons["img-2"] and "max_tokens=200" in reasons["img-2"]
    assert "max_tokens=200" in reasons["img-3"] and "context" in reasons["img-5"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "m is not a multimodal model None"),
        (400, "Invalid content type. image_url is only supported by certain models."),
        (400, "this model does not support image input (ref: 1)"),
        (500, "image input is not supported - hint: you may need to provide the mmproj"),
        (500, 'Failed to parse messages: Unsupported content part type: "image_url"; messages'),
        (422, "messages[1]: unknown variant `image_url`, expected `text`"),
        (400, "'messages.1' : for 'role:user' content must be a string"),
        (404, "No endpoints found that support image input"),
        (400, "Model does not support images. Please use a model that does."),
        (400, "At most 0 image(s) may be provided in one request."),
    ],
)
def test_a_model_that_takes_no_images_ends_the_run_and_says_the_way_out(
    study: Study, status: int, message: str
) -> None:
    with ChatServer(lambda i, a, r: error(status, message)) as server:
        with pytest.raises(CaptionError) as problem:
            write(study, server, concurrency=1)
        # Two questions are prepared ahead of the answer at most.
        assert sum(server.counts.values()) <= 2
    assert "takes no images" in str(problem.value) and "images=false" in str(problem.value)


@pytest.mark.parametrize(
    "message",
    [
        "this image format is not allowed",
        "unsupported image format: image/tiff",
        "the server does not support image files larger than 20 MB",
        "image rejected by content policy",
        "could not process image",
    ],
)
def test_an_image_that_is_refused_ends_nothing(study: Study, message: str) -> None:
    with ChatServer(lambda i, a, r: error(400, message) if i == 2 else ok(i)) as server:
        assert_whole(write(study, server), [0, 1, 3, 4, 5, 6, 7])
    assert set(failures(study)) == {"img-2"}


def test_a_question_that_nobody_can_answer_is_not_asked_for_every_image(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "_BROKEN_AFTER", 3)
    with ChatServer(lambda i, a, r: error(400, "no")) as server:
        with pytest.raises(CaptionError, match="3 requests in a row failed"):
            write(study, server, concurrency=1)
        assert len(server.counts) <= 5
