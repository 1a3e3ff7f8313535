"""Images that all get the same captions: found exactly, quickly, and said by `write` and `check`."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from chat_server import ChatServer, Reply, completion, good, ok
from eegprompt.captions.alike import AlikeWatch, alike_images
from eegprompt.captions.file import FileCaptioner
from eegprompt.captions.review import review_table
from eegprompt.captions.store import facts_of
from eegprompt.captions.validity import check_table
from eegprompt.cli.app import app
from eegprompt.core.kinds import KINDS
from eegprompt.steps.caption import caption as write_captions
from eegprompt.steps.caption import check_captions, review_captions
from eegprompt.study import Study

TEN = list(KINDS)


def table_of(sets: dict[str, dict[str, str]], **columns: Any) -> pd.DataFrame:
    rows = [(i, kind, text) for i, own in sets.items() for kind, text in own.items()]
    return pd.DataFrame(rows, columns=["image_id", "kind", "text"]).assign(**columns)


def of_codes(codes: np.ndarray) -> pd.DataFrame:
    return table_of(
        {f"i{n}": {k: f"text {c}" for k, c in zip(TEN, row)} for n, row in enumerate(codes)}
    )


@pytest.fixture
def study(small_study: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    return Study(small_study)


# -- what is found ---------------------------------------------------------------------------------
@pytest.mark.parametrize("n_kinds", [3, 5, 9, 10])
@pytest.mark.parametrize("n_texts", [2, 3, 8])
def test_what_is_found_is_what_a_comparison_of_all_pairs_finds(n_kinds: int, n_texts: int) -> None:
    rng = np.random.default_rng(n_kinds * n_texts)
    codes = rng.integers(0, n_texts, (60, n_kinds))
    differ = (codes[:, None] != codes[None]).sum(axis=2)
    np.fill_diagonal(differ, 99)
    found = alike_images(of_codes(codes))
    same = (differ == 0).any(axis=1)
    near = (differ <= n_kinds // 10).any(axis=1) & ~same
    assert (found.images, found.same, found.nearly) == (60, same.sum(), near.sum())
    groups = [int((differ[i] == 0).sum()) + 1 for i in range(60)]
    assert len(found.largest) == (max(groups) if same.any() else 0)


def test_case_punctuation_and_spaces_make_no_difference() -> None:
    plain = {k: f"a red house {k}" for k in TEN}
    other = {k: f" A red house,  {k}." for k in TEN}
    assert alike_images(table_of({"a": plain, "b": other})).same == 2


def test_captions_of_one_meaning_and_images_of_equal_bytes_may_be_the_same() -> None:
    sets = {f"i{n}": good(n % 2) for n in range(6)}
    assert alike_images(table_of(sets)).alarming
    meanings = [f"category {n % 2}" for n in range(6) for _ in TEN]
    given = table_of(sets, meaning=meanings)
    assert (alike_images(given).images, alike_images(given).same) == (2, 0)
    crossed = table_of(sets, meaning=[f"category {n}" for n in range(6) for _ in TEN])
    assert alike_images(crossed).same == 6  # six meanings, two texts
    files = {f"i{n}": f"sha {n % 2}" for n in range(6)}
    assert alike_images(table_of(sets), files).same == 0


def test_one_or_two_kinds_say_too_little_to_tell() -> None:
    two = {f"i{n}": dict.fromkeys(TEN[:2], "a face") for n in range(9)}
    assert alike_images(table_of(two)).images == 0
    assert not alike_images(table_of(two)).alarming


def test_a_few_twins_are_a_remark_and_many_a_problem() -> None:
    sets = {f"i{n}": good(n) for n in range(40)}
    whole = review_table(table_of(sets), list(sets))
    assert whole.problems == [] and not any("in common" in r for r in whole.remarks)
    sets["i1"] = good(0)
    sets["i2"] = {**good(0), "MoodFeel": "quite another mood"}
    few = review_table(table_of(sets), list(sets))
    assert few.problems == []
    assert [r for r in few.remarks if "2 of 40 images" in r and "1 more" in r]
    for n in range(5):
        sets[f"i{n}"] = good(0)
    handful = review_table(table_of(sets), list(sets))
    assert len(handful.problems) == 1 and "5 of 40 images" in handful.problems[0]


# -- what is said ----------------------------------------------------------------------------------
def test_a_server_that_ignores_images_is_an_alarm_in_write_and_check(study: Study) -> None:
    line = ["captions", "write", str(study.path), "--captioner", "chat:m", "--name", "chat"]
    with ChatServer(lambda i, attempt, request: ok(0)) as server:
        written = CliRunner().invoke(app, [*line, "--base-url", server.url])
    assert written.exit_code == 0
    said = " ".join(written.output.split())
    assert "8 of 8 images have all 10 captions in common" in said and "does not see" in said
    assert any("8 of 8 images" in note for note in facts_of(study.path, "chat")["notes"])
    checked = CliRunner().invoke(app, ["captions", "check", str(study.path), "--name", "chat"])
    assert checked.exit_code == 2 and "8 of 8 images" in " ".join(checked.output.split())
    found = json.loads(
        CliRunner()
        .invoke(app, ["captions", "check", str(study.path), "--name", "chat", "--json"])
        .stdout
    )
    assert any("8 of 8 images" in problem for problem in found["problems"])


def test_a_server_that_only_reads_the_label_is_one_too(study: Study) -> None:
    def of_label(i: int, attempt: int, request: dict[str, Any]) -> Reply:
        return Reply(completion(json.dumps(good("face" in str(request["messages"][1])))))

    with ChatServer(of_label) as server:
        write_captions(study, "chat:m", "chat", base_url=server.url)
    problems = review_captions(study, "chat").problems
    assert any("8 of 8 images" in p and "most often 4" in p for p in problems)
    assert check_captions(study, "chat") == []  # each image by itself is in order


def test_it_is_said_while_captions_are_written(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hasty(AlikeWatch):
        def __init__(self, labels: Any, files: Any):
            super().__init__(labels, files, after=5)

    monkeypatch.setattr("eegprompt.steps.caption.AlikeWatch", Hasty)
    with ChatServer(lambda i, attempt, request: ok(0)) as server:
        with pytest.warns(UserWarning, match="the first 5 images got 1 different"):
            write_captions(study, "chat:m", "chat", base_url=server.url)
    with ChatServer() as server:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            write_captions(study, "chat:m", "seen", base_url=server.url)


def test_the_watch_waits_for_enough_images_of_each_label() -> None:
    labels = {f"i{n}": f"label {n // 2}" for n in range(40)}
    watch = AlikeWatch(labels, {}, after=10)
    rows = [{"kind": k, "text": f"{k} of {{}}"} for k in TEN]

    def told(n: int) -> str:
        own = [{**row, "text": row["text"].format(labels[f"i{n}"])} for row in rows]
        return watch.add(f"i{n}", own)

    said = [told(n) for n in range(12)]
    assert not any(said[:9]) and "10 images got 5 different" in said[9] and not any(said[10:])
    equal = AlikeWatch({}, {f"i{n}": "one file" for n in range(40)}, after=3)
    assert not any(equal.add(f"i{n}", rows) for n in range(40))


def test_captions_by_category_are_no_alarm(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    rows = [f"{c},{k},{k} of a {c}" for c in ("face", "house") for k in TEN]
    path.write_text("category,kind,text\n" + "\n".join(rows) + "\n")
    write_captions(study, f"file:{path}", "mine")
    assert review_captions(study, "mine").problems == []
    assert not any("in common" in note for note in facts_of(study.path, "mine")["notes"])


# -- how long it takes -----------------------------------------------------------------------------
def test_a_check_of_many_images_is_quick() -> None:
    """A look through the whole table for each image made 16,740 images take 22 minutes."""
    n = 4000
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(2000)])
    drawn = words[rng.integers(0, 2000, (n, 10, 6))]
    sets = {f"i{i}": {k: " ".join(drawn[i, j]) for j, k in enumerate(TEN)} for i in range(n)}
    table = table_of(sets)
    start = time.process_time()
    assert check_table(table, list(sets)) == []
    found = alike_images(table)
    taken = time.process_time() - start
    assert (found.images, found.same + found.nearly) == (n, 0)
    assert taken < 6  # about 0.5; the quadratic one takes minutes


def test_a_file_of_many_captions_is_compared_with_its_study_quickly(tmp_path: Path) -> None:
    """Kinds were looked for in the whole file for each image: two minutes for 16,740 images."""
    n = 4000
    lines = [f"i{i},{kind},{kind} of image {i}" for i in range(n) for kind in TEN]
    path = tmp_path / "captions.csv"
    path.write_text("image_id,kind,text\n" + "\n".join(lines) + "\n")
    captioner = FileCaptioner(path)
    ids = [f"i{i}" for i in range(n)]
    images = pd.DataFrame({"image_id": ids, "category": "c", "path": ""})
    start = time.process_time()
    assert captioner.check(SimpleNamespace(images=images), ids) == []  # type: ignore[arg-type]
    assert time.process_time() - start < 4  # about 0.4; ten times as long and more before


def test_a_set_with_holes_is_named_as_before() -> None:
    sets = {f"i{n}": good(n) for n in range(4)}
    del sets["i1"]["MoodFeel"]
    sets["i2"]["ThemeTag"] = sets["i2"]["StoryHint"]
    problems = check_table(table_of(sets), [*sets, "i9"])
    assert len(problems) == 3
    assert "1 of 5 images have no captions (first: i9)" in problems[0]
    assert "MoodFeel" in problems[1] and "i1" in problems[1]
    assert "'i2'" in problems[2] and "StoryHint and ThemeTag" in problems[2]
