"""Captions from a file, the store that keeps them, and their checks."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from eegprompt.captions.base import Answered, Captioner
from eegprompt.captions.file import FileCaptioner
from eegprompt.captions.store import CaptionStore, Origin
from eegprompt.core.errors import CaptionError, EegpromptError, InputError, UnknownNameError
from eegprompt.core.kinds import KINDS
from eegprompt.steps.caption import caption as write_captions
from eegprompt.steps.caption import check_captions, load_captioner
from eegprompt.study import Study


@pytest.fixture
def study(small_study: Path) -> Study:
    return Study(small_study)


def ids(study: Study) -> list[str]:
    return list(study.images["image_id"])


def test_wide_and_long_files_of_every_format_agree(study: Study, tmp_path: Path) -> None:
    texts = {
        (i, k): [f"{k} one of {i}", f"{k} two of {i}"] for i in ids(study) for k in list(KINDS)[:3]
    }
    long = pd.DataFrame(
        [{"image_id": i, "kind": k, "text": t} for (i, k), ts in texts.items() for t in ts]
    )
    wide = pd.DataFrame(
        [
            {"image_id": i, **{k: texts[i, k][n] for k in list(KINDS)[:3]}}
            for i in ids(study)
            for n in (0, 1)
        ]
    )
    nested = [
        {"image_id": i, "captions": {k: texts[i, k] for k in list(KINDS)[:3]}} for i in ids(study)
    ]
    files = [tmp_path / f for f in ("l.csv", "w.csv", "w.tsv", "l.parquet", "w.jsonl", "n.jsonl")]
    long.to_csv(files[0], index=False)
    wide.to_csv(files[1], index=False)
    wide.to_csv(files[2], index=False, sep="\t")
    long.to_parquet(files[3])
    wide.to_json(files[4], orient="records", lines=True)
    files[5].write_text("\n".join(json.dumps(r) for r in nested))
    for file in files:
        path = write_captions(study, f"file:{file}", name=file.stem + file.suffix[1:])
        table = study.captions(path.stem)
        found = {key: rows["text"].tolist() for key, rows in table.groupby(["image_id", "kind"])}
        assert found == texts, file.name
        assert "meaning" not in table
        assert list(dict.fromkeys(table["image_id"])) == ids(study)
    first = study.captions("lcsv").iloc[0]
    assert first["captioner"] == "file" and first["model"] == "l.csv"
    assert first["created"] and first["key"] and len(first["prompt_version"]) == 12


def test_captions_of_a_category_hold_for_its_images(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    rows = [f"{c},ObjectSnap,a {c}\n{c},ObjectSnap,one {c}" for c in study.categories]
    file.write_text("category,kind,text\n" + "\n".join(rows) + "\n")
    table = study.captions(write_captions(study, f"file:{file}").stem)
    of_image = dict(zip(study.images["image_id"], study.images["category"]))
    assert len(table) == 2 * len(study.images)
    assert (table["meaning"] == table["image_id"].map(of_image)).all()
    file.write_text(
        "category,kind,text,meaning\n" + "".join(f"{c},ThemeTag,t,same\n" for c in study.categories)
    )
    table = study.captions(write_captions(study, f"file:{file}", name="own").stem)
    assert set(table["meaning"]) == {"same"}


def test_rows_may_name_files(study: Study, tmp_path: Path) -> None:
    for called in (lambda i: f"{i}.png", lambda i: f"images/{i}.png", lambda i: i):
        file = tmp_path / "f.csv"
        file.write_text("file,ThemeTag\n" + "".join(f"{called(i)},about {i}\n" for i in ids(study)))
        table = study.captions(write_captions(study, f"file:{file}", name="f", overwrite=True).stem)
        assert table["text"].tolist() == [f"about {i}" for i in ids(study)]


def long_csv(path: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    pd.DataFrame(rows, columns=["image_id", "kind", "text"]).to_csv(path, index=False)
    return path


def complete(study: Study) -> list[tuple[str, str, str]]:
    return [(i, "ObjectSnap", f"thing {i}") for i in ids(study)]


def test_notes_on_what_is_odd_but_usable(study: Study, tmp_path: Path) -> None:
    rows = [*complete(study), ("nowhere", "ObjectSnap", "x")]
    rows[0] = (rows[0][0], "ObjectSnap", "word " * 21)
    captioner = FileCaptioner(long_csv(tmp_path / "c.csv", rows))
    notes = captioner.check(study)
    assert any("1 entries of c.csv are not in the study" in n and "nowhere" in n for n in notes)
    assert any("longer than 20 words (first: line 2, 21 words)" in n for n in notes)
    assert any("no captions of the kinds ColorTone" in n for n in notes)
    path = write_captions(study, captioner)
    stored = json.loads(path.with_suffix(".json").read_text())
    assert stored["notes"] == notes and stored["n_captions"] == len(study.images)
    problems = check_captions(study, path.stem)
    assert len(problems) == 1 and "longer than 20 words" in problems[0]
    same = tmp_path / "same.csv"
    same.write_text(
        "category,kind,text\n" + "".join(f"{c},ThemeTag,alike\n" for c in study.categories)
    )
    assert any("more than one meaning" in n for n in FileCaptioner(same).check(study))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "image_id,kind,text\nimg-0,ObjektSnap,x\n",
            r"line 2\) 'ObjektSnap'; did you mean 'ObjectSn",
        ),
        ("image_id,MoodFeal\nimg-0,x\n", r"did you mean 'MoodFeel'"),
        (
            "image_id,kind,text\nimg-0,MoodFeel,\n",
            r"line 2: the caption MoodFeel of 'img-0' is empty",
        ),
        ("image_id,kind,text\nimg-0,MoodFeel,  \n", "is empty"),
        ("image_id,kind,text\n,MoodFeel,x\n", "line 2: column 'image_id' is empty"),
        ("image_id,kind\nimg-0,MoodFeel\n", "none called 'text'"),
        ("kind,text\nMoodFeel,x\n", "needs a column that says what a caption describes"),
        ("image_id,meaning\nimg-0,x\n", "neither the columns 'kind' and 'text'"),
        ("image_id,kind,text\n", "holds no captions"),
        ("image_id,kind,kind\na,b,c\n", "two columns of one name"),
        ("", "cannot be read as CSV"),
        ("image_id,kind,text\nother,MoodFeel,x\n", r"none of the study's images \(img-0"),
        ("category,kind,text\nother,MoodFeel,x\n", "none of the study's categories"),
        (
            "image_id,kind,text\nimg-0,MoodFeel,x\n",
            r"7 of 8 images have no captions .*allow_miss",
        ),
    ],
)
def test_bad_files_are_refused(content: str, message: str, study: Study, tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text(content)
    before = study.caption_names()
    with pytest.raises(InputError, match=message) as caught:
        write_captions(study, f"file:{file}", name="new")
    assert "\n" not in str(caught.value)
    assert study.caption_names() == before
    assert not (study.path / "captions" / "new.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1 is not valid JSON"),
        ("[1, 2]", "must be an object"),
        ('{"image_id": "img-0", "captions": "x"}', "'captions' must be an object"),
        ('{"image_id": "img-0", "ThemeTag": 3}', "a caption is text, got 3"),
        ('{"image_id": "img-0", "ThemeTag": {"a": "b"}}', "a caption is text"),
        ("\udcff", "not UTF-8"),
        ("[" * 100000, "not valid JSON"),
    ],
)
def test_bad_jsonl_is_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CaptionError, match=message):
        FileCaptioner(file)


def test_kinds_are_there_for_all_images_or_none(study: Study, tmp_path: Path) -> None:
    rows = [*complete(study), ("img-3", "MoodFeel", "glad")]
    with pytest.raises(CaptionError, match="has no caption of the kinds MoodFeel"):
        write_captions(study, f"file:{long_csv(tmp_path / 'c.csv', rows)}", name="new")


def test_options_and_names(study: Study, tmp_path: Path) -> None:
    file = long_csv(tmp_path / "c.csv", complete(study)[:3])
    path = write_captions(study, f"file:{file}", name="few", allow_missing=True)
    assert study.captions(path.stem)["image_id"].nunique() == 3
    assert "5 of 8 images have no captions" in check_captions(study, "few")[0]
    with pytest.raises(InputError, match=r"'file': 'colour'\. Allowed: allow_missing, kind"):
        write_captions(study, f"file:{file}", name="few", colour="red")
    with pytest.raises(InputError, match="belong to a captioner given by its name"):
        write_captions(study, FileCaptioner(file), name="few", allow_missing=True)
    with pytest.raises(CaptionError, match="needs the file"):
        load_captioner("file")
    with pytest.raises(CaptionError, match="does not exist"):
        load_captioner("file:nowhere.csv")
    with pytest.raises(CaptionError, match=r"unknown format '\.txt'"):
        load_captioner("file:captions.txt")
    with pytest.raises(UnknownNameError, match="did you mean 'file:PATH'"):
        load_captioner("fil:x.csv")
    with pytest.raises(InputError, match="cannot be a file name"):
        write_captions(study, f"file:{file}", name="../x", allow_missing=True)


class Scripted(Captioner):
    """A captioner that counts what it is asked and stops where told."""

    name = "scripted"
    model = "m1"
    prompt_version = "1"

    def __init__(self, stop_after: int | None = None, words: str = "of"):
        self.asked: list[str] = []
        self.words = words
        self.stop_after = stop_after

    def answers(self, study: Study, image_ids: Sequence[str]) -> Iterator[Answered]:
        for image_id in image_ids:
            if self.stop_after is not None and len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(image_id)
            kinds = ("ThemeTag", "ObjectSnap")
            yield image_id, {k: f" {k}  {self.words}\n{image_id} " for k in kinds}, None


def test_a_stopped_call_goes_on_and_asks_nothing_twice(study: Study) -> None:
    first = Scripted(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        write_captions(study, first)
    assert "scripted" not in study.caption_names()
    journal = study.path / "captions" / "scripted.jsonl"
    assert len(journal.read_text().splitlines()) == 3
    # A crash in the middle of a line: that line is lost, and nothing else.
    with journal.open("ab") as stream:
        stream.write(b'[{"image_id": "img-2", "ki')
    second = Scripted()
    seen: list[tuple[int, int, str]] = []
    write_captions(study, second, progress=lambda *a: seen.append(a))
    assert second.asked == ids(study)[3:]
    assert seen[0] == (3, 8, "captions") and seen[-1] == (8, 8, "captions")
    table = study.captions("scripted")
    assert len(table) == 16 and not table.duplicated(["image_id", "kind"]).any()
    assert table["text"].iloc[0] == "ObjectSnap of img-0" and table["kind"].iloc[1] == "ThemeTag"
    assert not journal.exists()
    third = Scripted()
    before = {p.name: p.read_bytes() for p in journal.parent.iterdir()}
    write_captions(study, third)
    assert third.asked == []
    assert {p.name: p.read_bytes() for p in journal.parent.iterdir()} == before


def test_the_journal_survives_a_cut_at_any_byte(study: Study) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_captions(study, Scripted(stop_after=6))
    journal = study.path / "captions" / "scripted.jsonl"
    whole = journal.read_bytes()
    rng = random.Random(0)
    for _ in range(12):
        cut = rng.randrange(len(whole))
        journal.write_bytes(whole[:cut])
        finished = whole[:cut].count(b"\n")
        captioner = Scripted()
        write_captions(study, captioner)
        assert captioner.asked == ids(study)[finished:]
        assert len(study.captions("scripted")) == 16
        (study.path / "captions" / "scripted.parquet").unlink()
    journal.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(CaptionError, match="line 1 is no caption record; delete that line"):
        write_captions(study, Scripted())


def test_a_set_has_one_origin(study: Study, tmp_path: Path) -> None:
    write_captions(study, Scripted())
    other = Scripted()
    other.prompt_version = "2"
    with pytest.raises(
        CaptionError, match=r"written by scripted m1 1, not by scripted m1 2.*--over"
    ):
        write_captions(study, other)
    assert other.asked == []
    write_captions(study, other, overwrite=True)
    assert set(study.captions("scripted")["prompt_version"]) == {"2"}
    # A set that came with the study is not replaced unasked either.
    existing = study.caption_names()[0]
    file = long_csv(tmp_path / "c.csv", complete(study))
    if existing != "scripted":
        with pytest.raises(CaptionError, match="was written by"):
            write_captions(study, f"file:{file}", name=existing)


def test_a_changed_image_is_captioned_anew(study: Study) -> None:
    write_captions(study, Scripted())
    store = CaptionStore(study, "scripted", Origin.of(Scripted()))
    assert store.done() == set(store.keys(ids(study)).values())
    study.images.loc[2, "sha256"] = "f" * 64
    again = Scripted(words="changed")
    write_captions(study, again)
    assert again.asked == [ids(study)[2]]
    table = study.captions("scripted")
    assert len(table) == 16
    assert table["text"].str.contains("changed").tolist() == (table["image_id"] == "img-2").tolist()


def test_a_captioner_that_writes_nothing_or_emptiness(study: Study) -> None:
    class Silent(Captioner):
        name = "silent"

        def answers(self, study: Study, image_ids: Sequence[str]) -> Iterator[Answered]:
            return iter(())

    with pytest.raises(CaptionError, match="'silent' wrote no captions"):
        write_captions(study, Silent())

    class Empty(Silent):
        name = "empty"

        def answers(self, study: Study, image_ids: Sequence[str]) -> Iterator[Answered]:
            yield image_ids[0], {"ThemeTag": " \n"}, None

    with pytest.raises(CaptionError, match="ThemeTag of image 'img-0' is empty"):
        write_captions(study, Empty())
    assert "empty" not in study.caption_names()


def test_checks_find_what_is_amiss(study: Study) -> None:
    rows = [{"image_id": i, "kind": k, "text": f"{k} {i}"} for i in ids(study) for k in KINDS]
    table = pd.DataFrame(rows)
    study.write_captions("good", table)
    assert check_captions(study, "good") == []
    bad = table.copy()
    bad.loc[0, "text"] = ""
    bad.loc[1, "text"] = "One sentence. And another."
    bad.loc[2, "text"] = "<b>bold</b>"
    bad.loc[11, "text"] = bad.loc[12, "text"]
    study.write_captions("bad", bad.drop(index=25))
    found = " | ".join(check_captions(study, "bad"))
    for part in (f"1 images have no caption of the kind {table['kind'][25]}", "1 captions are empty",
                 "more than one sentence", "hold markup", "serve two kinds"):  # fmt: skip
        assert part in found


def test_the_captions_we_wrote_for_faces_and_houses(tmp_path: Path) -> None:
    recipe = Path(__file__).parents[1] / "recipes" / "n170-captions.csv"
    table = pd.read_csv(recipe)
    assert set(table["category"]) == {"face", "house"} and set(table["kind"]) == set(KINDS)
    assert table.groupby(["category", "kind"]).size().min() >= 3
    assert table["text"].str.split().str.len().max() <= 20
    assert not table.duplicated(["kind", "text"]).any()
    assert FileCaptioner(recipe).kinds == tuple(KINDS)


def test_any_damage_gives_an_error_of_ours_or_captions(study: Study, tmp_path: Path) -> None:
    rng = random.Random(1)
    source = long_csv(tmp_path / "c.csv", complete(study))
    jsonl = tmp_path / "c.jsonl"
    jsonl.write_text("\n".join(json.dumps({"image_id": i, "ThemeTag": "x"}) for i in ids(study)))
    parquet = tmp_path / "c.parquet"
    pd.read_csv(source).to_parquet(parquet)
    errors = 0
    for file in (source, jsonl, parquet):
        whole = file.read_bytes()
        for _ in range(25):
            damaged = bytearray(whole[: rng.randrange(1, len(whole) + 1)])
            for _ in range(rng.randrange(3)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            file.write_bytes(bytes(damaged))
            try:
                write_captions(study, f"file:{file}", name="fuzz", overwrite=True)
            except EegpromptError as problem:
                assert "\n" not in str(problem)
                errors += 1
    assert errors > 30
