"""Images of every kind, the captioner `rules`, reviews of caption sets, and more file formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from eegprompt.builtin.drawing import draw
from eegprompt.builtin.world import sample_scene
from eegprompt.captions._colors import balance, color_name, to_lab
from eegprompt.captions._image_data import data_url, load_image
from eegprompt.captions._salient import salient_mask
from eegprompt.captions.file import FileCaptioner
from eegprompt.captions.review import example_page, review_table
from eegprompt.captions.rules import describe, measure
from eegprompt.captions.text_quality import (
    is_list,
    is_refusal,
    mood_words,
    text_problem,
    wrong_language,
)
from eegprompt.core.errors import CaptionError, InputError, UnknownNameError
from eegprompt.core.kinds import KINDS
from eegprompt.steps.caption import caption as write_captions
from eegprompt.steps.caption import failed_captions, review_captions
from eegprompt.study import Study


@pytest.fixture
def study(small_study: Path) -> Study:
    return Study(small_study)


# -- images --------------------------------------------------------------------------------------
def test_images_of_every_mode_come_out_right(tmp_path: Path) -> None:
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 255

    def load(image: Image.Image, name: str, **options: object) -> np.ndarray:
        image.save(tmp_path / name, **options)
        return np.asarray(load_image(tmp_path / name), dtype=int)

    base = Image.fromarray(red)
    cmyk = load(base.convert("CMYK"), "c.jpg", quality=95)
    assert cmyk.shape == (20, 30, 3) and np.abs(cmyk - [255, 0, 0]).max() < 12
    ramp = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    deep = load(Image.fromarray(ramp), "d.png")
    assert np.abs(deep[..., 0] - np.round(ramp / 257)).max() <= 1
    bright = load(Image.fromarray(np.full((9, 9), 0.5, np.float32)), "f.tif")
    assert np.abs(bright - 127.5).max() <= 0.5
    glass = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    assert (load(glass, "a.png") == 255).all()
    frames = [Image.new("RGB", (9, 9), c) for c in ((0, 0, 255), (255, 0, 0))]
    frames[0].save(tmp_path / "m.gif", save_all=True, append_images=frames[1:])
    moving = np.asarray(load_image(tmp_path / "m.gif"))
    assert moving[4, 4, 2] > 200 and moving[4, 4, 0] < 50
    assert load(base.convert("P"), "p.png").shape == (20, 30, 3)
    assert set(np.unique(load(Image.new("1", (9, 9), 1), "1.png"))) == {255}


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    half = np.zeros((20, 40, 3), np.uint8)
    half[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(half).save(tmp_path / "r.jpg", exif=exif, quality=95)
    turned = np.asarray(load_image(tmp_path / "r.jpg"))
    assert turned.shape == (40, 20, 3)
    assert turned[5].min() > 200 and turned[35].max() < 60


def test_large_images_are_reduced_and_impossible_ones_refused(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1000), (10, 200, 30)).save(tmp_path / "l.jpg")
    assert load_image(tmp_path / "l.jpg", 512).size == (512, 171)
    url = data_url(load_image(tmp_path / "l.jpg", 64))
    assert url.startswith("data:image/jpeg;base64,") and len(url) < 3000
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(CaptionError, match="too many pixels"):
        load_image(tmp_path / "bomb.png")
    whole = (tmp_path / "l.jpg").read_bytes()
    for name, content in (("e.jpg", b""), ("t.jpg", whole[:200]), ("x.png", b"\x89PNG\r\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CaptionError, match=f"{name} cannot be read") as caught:
            load_image(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(CaptionError, match="is missing"):
        load_image(tmp_path / "nowhere.png")


# -- rules -----------------------------------------------------------------------------------------
def test_colors_are_named() -> None:
    named = {
        "red": (214, 32, 38), "orange": (250, 128, 18), "yellow": (250, 220, 40),
        "green": (48, 170, 62), "blue": (36, 92, 216), "purple": (124, 48, 168),
        "pink": (250, 120, 186), "white": (246, 246, 246), "gray": (128, 128, 128),
        "brown": (112, 72, 42), "black": (22, 20, 26),
    }  # fmt: skip
    assert {name: color_name(rgb) for name, rgb in named.items()} == {n: n for n in named}


def test_a_color_is_named_as_in_full_light() -> None:
    x = np.full((64, 64, 3), (120, 180, 240), np.uint8)
    x[20:44, 16:32] = (250, 128, 18)
    x[20:44, 32:48] = (118, 62, 12)  # its shaded half, which alone would be brown
    assert color_name(x[30, 40]) == "brown"
    assert measure(Image.fromarray(x)).object_colors[0] == "orange"
    x[20:44, 16:48] = 246
    x[50:] = (90, 130, 60)
    warm = (x * np.array([1.0, 0.84, 0.72])).astype(np.uint8)
    assert color_name(warm[30, 40]) != "white"
    assert measure(Image.fromarray(warm)).object_colors[0] == "white"


def test_the_main_thing_is_found_though_it_touches_the_border() -> None:
    x = np.full((64, 64, 3), (120, 180, 240), np.uint8)
    x[40:] = (210, 190, 130)
    truth = np.zeros((64, 64), bool)
    truth[14:46, 40:] = True
    x[truth] = (36, 92, 216)
    x[4:10, 4:10] = (250, 220, 40)  # a small thing of another color
    mask, parts = salient_mask(to_lab(balance(x.astype(float))))
    assert parts == 1 and (mask & truth).sum() / (mask | truth).sum() > 0.85
    empty, parts = salient_mask(np.zeros((64, 64, 3)))
    assert not empty.any() and parts == 1


def test_what_is_drawn_is_measured() -> None:
    for place, (row, column) in {
        "left": (24, 6), "right": (24, 44), "top": (4, 25), "bottom": (45, 25), "center": (24, 25)
    }.items():  # fmt: skip
        x = np.full((64, 64, 3), (120, 180, 240), np.uint8)
        x[row : row + 15, column : column + 14] = (214, 32, 38)
        x[0, 0] = 255
        found = measure(Image.fromarray(x))
        assert found.place == place and found.object_colors[0] == "red"
        assert found.background_colors[0] == "blue" and found.parts == 1
        assert found.light == "bright" and found.clarity == "sharp"
    dim = measure(Image.fromarray((x * 0.6).astype(np.uint8)))
    assert dim.light == "dim" and dim.object_colors[0] == "red"
    hazy = measure(Image.fromarray((x * 0.6 + 80).astype(np.uint8)))
    assert hazy.clarity == "hazy"


def test_rules_see_what_they_can_in_the_builtin_scenes() -> None:
    """A floor below the benchmark's 89 %, for few scenes; chance is 1/8, 1/3, 1/3 and 1/5."""
    rng = np.random.default_rng(11)
    light = {"day": "bright", "dusk": "warm", "dim": "dim"}
    hits = []
    for _ in range(60):
        scene = sample_scene(rng)
        found = measure(Image.fromarray(np.asarray(draw(scene))))
        hits.append(
            (
                found.object_colors[0] == scene.color,
                found.light == light[scene.light],
                found.clarity == scene.clarity,
                found.place == scene.place,
            )
        )
    color, lit, clear, place = np.mean(hits, axis=0)
    assert color > 0.8 and lit > 0.8 and clear > 0.88 and place > 0.78


def test_rules_captions_are_in_order_and_the_same_every_time(study: Study) -> None:
    study.image_path("img-2").write_bytes(b"x")
    path = write_captions(study, "rules")
    table = study.captions(path.stem)
    assert len(table) == 70 and [f["image_id"] for f in failed_captions(study, "rules")] == [
        "img-2"
    ]
    assert all(text_problem(t) is None for t in table["text"])
    own = table[table["image_id"] == "img-1"].set_index("kind")["text"]
    assert own["ObjectSnap"] == "a face" and "black" in own["ColorTone"]
    rng = np.random.default_rng(2)
    for _ in range(10):
        captions = describe(
            measure(Image.fromarray(rng.integers(0, 256, (40, 50, 3), "uint8"))), None
        )
        assert list(captions) == list(KINDS) and "object" in captions["ObjectSnap"]
        assert not mood_words(captions["ColorTone"] + captions["ClarityCue"])
    first = path.read_bytes()
    write_captions(study, "rules")
    assert path.read_bytes() == first
    for size in ((1, 1), (3, 200), (200, 3)):
        describe(measure(Image.new("RGB", size)), "x")
    with pytest.raises(InputError, match="takes no argument"):
        write_captions(study, "rules:x")


# -- reviews ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, I can't help with that.", True),
        ("I cannot identify the person in this image", True),
        ("As an AI language model, I see nothing", True),
        ("No image was provided", True),
        ("a sorry state of an old barn", False),
        ("the dog cannot reach the ball", False),
        ("someone helps an unable old man", False),
    ],
)
def test_refusals(text: str, expected: bool) -> None:
    assert is_refusal(text) is expected


def test_single_texts() -> None:
    assert wrong_language(["ein Hund auf dem Tisch mit der Katze"]) == "looks like 'de'"
    assert wrong_language(["ein Hund auf dem Tisch mit der Katze"], "de") is None
    assert wrong_language(["红色的苹果"]) == "not in Latin script"
    assert wrong_language(["red apple", "calm", "crème brûlée on a table"]) is None
    assert mood_words("a Gloomy sky, warm light") == ["gloomy"]
    assert is_list("cup, chair, and clock") and not is_list("a cup on a chair")
    assert text_problem("a cat (red), 3.5 m away") is None
    assert text_problem("…") == "is empty" and text_problem("a\x00b") is not None
    assert text_problem("see ![x](http://a.b)") == "holds markup"


def test_a_review_finds_what_is_amiss(study: Study) -> None:
    ids = list(study.images["image_id"])
    words = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"]
    rows = [
        {"image_id": i, "kind": k, "text": f"{w} {k.lower()}"}
        for i, w in zip(ids, words)
        for k in KINDS
    ]
    study.write_captions("good", pd.DataFrame(rows))
    clean = review_captions(study, "good")
    assert clean.problems == [] and clean.remarks == []
    assert clean.kinds["MoodFeel"]["distinct"] == 8 and clean.kinds["MoodFeel"]["repeated"] == 0
    assert len(clean.nearest) == 10 and all(p["one"] != p["other"] for p in clean.nearest)
    table = pd.DataFrame(rows)

    def put(image: int, kind: str, text: str) -> None:
        table.loc[(table["image_id"] == ids[image]) & (table["kind"] == kind), "text"] = text

    put(0, "ColorTone", "gloomy blue")
    put(1, "ThemeTag", "cup, chair, clock")
    put(2, "StoryHint", "I'm sorry, I can't assist with that")
    for kind in KINDS:
        put(3, kind, f"{kind} mit dem Hund auf der Wiese")
    put(4, "AngleView", "heath angleviews")
    study.write_captions("bad", table)
    found = review_captions(study, "bad")
    problems, remarks = " | ".join(found.problems), " | ".join(found.remarks)
    assert "1 captions are refusals (first: StoryHint of 'img-2'" in problems
    assert "1 images are not in 'en' (first: 'img-3'" in problems
    assert "hold words of mood (first: ColorTone" in remarks and "mere lists" in remarks
    pair = next(p for p in found.nearest if p["kind"] == "AngleView")
    assert {pair["one"], pair["other"]} == {"heath angleview", "heath angleviews"}
    assert not any("not in" in p for p in review_captions(study, "bad", language=None).problems)


def test_a_review_finds_boilerplate_and_copies_over_many_images() -> None:
    ids = [f"i{n}" for n in range(24)]
    rows = [{"image_id": i, "kind": "ThemeTag", "text": f"theme {n}"} for n, i in enumerate(ids)]
    rows += [
        {"image_id": i, "kind": "StoryHint", "text": f"the picture shows a {w} cat"}
        for i, w in zip(ids, "abcdefghijklmnopqrstuvwx")
    ]
    assert review_table(pd.DataFrame(rows[:24]), ids).remarks == [
        f"the set has no captions of the kinds {', '.join(k for k in KINDS if k != 'ThemeTag')}"
    ]
    for row in rows[:13]:
        row["text"] = "hope"
    found = review_table(pd.DataFrame(rows), ids, count_tokens=len, max_tokens=26)
    assert "13 of 24 captions ThemeTag say 'hope'" in found.remarks
    assert "24 of 24 captions StoryHint begin with 'the picture shows a'" in found.remarks
    assert found.problems == []
    found = review_table(pd.DataFrame(rows), ids, count_tokens=len, max_tokens=20)
    assert "24 captions have more than 20 tokens" in found.problems[0]


def test_the_page_of_examples_runs_nothing(study: Study) -> None:
    table = pd.DataFrame(
        [{"image_id": "img-0", "kind": "ThemeTag", "text": "<script>alert('x')</script>"}]
    )
    review = review_table(table, ["img-0"])
    assert "hold markup" in review.problems[0]
    page = example_page(study, table, "<b>", review=review)
    assert "<script" not in page and "&lt;script&gt;alert(&#x27;x&#x27;)" in page
    assert "Captions &#x27;&lt;b&gt;&#x27;" in page and "data:image/jpeg" in page


# -- files -----------------------------------------------------------------------------------------
def test_coco_files_and_folders_of_texts(study: Study, tmp_path: Path) -> None:
    ids = list(study.images["image_id"])
    coco = {
        "images": [{"id": n, "file_name": f"{i}.png"} for n, i in enumerate(ids)],
        "annotations": [
            {"id": 10 * n + v, "image_id": n, "caption": f"thing {v} of {i}"}
            for n, i in enumerate(ids)
            for v in (0, 1)
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    table = study.captions(write_captions(study, f"file:{tmp_path / 'coco.json'}", "coco").stem)
    assert len(table) == 16 and set(table["kind"]) == {"ObjectSnap"}
    assert table["text"].tolist()[:2] == ["thing 0 of img-0", "thing 1 of img-0"]
    folder = tmp_path / "texts"
    (folder / "MoodFeel").mkdir(parents=True)
    for i in ids:
        (folder / f"{i}.txt").write_text(f"thing of {i}\n\nanother\n")
        (folder / "MoodFeel" / f"{i}.txt").write_text(f"mood of {i}")
    captioner = FileCaptioner(folder, kind="ThemeTag")
    assert captioner.kinds == ("MoodFeel", "ThemeTag")
    table = study.captions(write_captions(study, captioner, "texts").stem)
    assert len(table) == 24
    assert table["text"].tolist()[:3] == ["mood of img-0", "thing of img-0", "another"]
    before = captioner.prompt_version
    (folder / "img-0.txt").write_text("changed")
    assert FileCaptioner(folder, kind="ThemeTag").prompt_version != before
    (folder / "img-0.txt").write_text(" ")
    with pytest.raises(CaptionError, match=r"img-0\.txt is empty"):
        FileCaptioner(folder)
    with pytest.raises(UnknownNameError, match="did you mean 'ThemeTag'"):
        FileCaptioner(folder, kind="ThemeTags")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "no COCO file"),
        ('{"images": [], "annotations": []}', "holds no captions"),
        ('{"images": [1], "annotations": []}', "no COCO file"),
        ('{"images": [], "annotations": [{"image_id": 1, "caption": "x"}]}', "has no file_name"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1}]}', "empty"),
    ],
)
def test_bad_coco_files_are_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(CaptionError, match=said):
        FileCaptioner(tmp_path / "c.json")
