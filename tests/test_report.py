"""The report: complete, self-contained, honest about what is missing, safe against its content."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, PngImagePlugin

from eegprompt import reports as report
from eegprompt.confounds.record import FORMAT, audit_key
from eegprompt.core.errors import RunError
from eegprompt.core.files import content_key, write_json
from eegprompt.core.kinds import KINDS
from eegprompt.metrics.base import METRICS, metric_of
from eegprompt.reports import summary_table, summary_text, write_report
from eegprompt.reports.charts import Line, Scale, forest, line_chart
from eegprompt.reports.contents import Material
from eegprompt.reports.data_uris import data_uri
from eegprompt.reports.score_rows import Score, mean_over_folds
from eegprompt.reports.sections import SECTIONS
from eegprompt.reports.sections.scores import blocks
from eegprompt.reports.trial_choice import sample_trials, view_trial
from eegprompt.reports.wording import interval, number, p_value
from eegprompt.run import Run
from eegprompt.settings import ExperimentConfig
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Fold, Split

BESIDE = ("chance", "floor", "ceiling", "n", "p", "Holm p")
COLORS = ("red", "green", "blue", "orange", "purple", "white")
SHAPES = ("apple", "house", "car", "face")


# -- a small study and run, every file of them -------------------------------------------------
def draw(path: Path, shape: int, color: str, shift: int = 0) -> None:
    image = Image.new("RGB", (64, 64), (196, 214, 226))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 42, 64, 64), fill=(150, 178, 120))
    box = (16 + shift, 16, 48 + shift, 48)
    if shape == 0:
        pen.ellipse(box, fill=color)
    elif shape == 1:
        pen.rectangle(box, fill=color)
        pen.polygon([(12 + shift, 18), (32 + shift, 4), (52 + shift, 18)], fill="brown")
    elif shape == 2:
        pen.rounded_rectangle((8 + shift, 28, 56 + shift, 46), 6, fill=color)
    else:
        pen.ellipse(box, fill="bisque", outline=color, width=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def build_study(
    path: Path, *, identity: str = "known", per_class: int = 8, n_chans: int = 16, evil: str = ""
) -> Study:
    rng = np.random.default_rng(3)
    shapes = SHAPES if identity == "known" else SHAPES[1::2]
    images, captions = [], []
    with StudyWriter.open(path) as writer:
        for s, shape in enumerate(shapes):
            for i in range(per_class):
                image_id, color = f"{shape}-{i}", COLORS[i % len(COLORS)]
                draw(
                    writer.folder / "images" / f"{image_id}.png", SHAPES.index(shape), color, i - 4
                )
                images.append(
                    {"image_id": image_id, "path": f"images/{image_id}.png", "category": shape,
                     "width": 64, "height": 64}
                )  # fmt: skip
                for kind in KINDS:
                    meaning = {"ObjectSnap": shape, "ColorTone": color}.get(kind, f"{kind}{i % 3}")
                    text = f"{('a', 'one')[i % 2]} {meaning} caption of {s}{evil}"
                    captions.append(
                        {"image_id": image_id, "kind": kind, "text": text, "meaning": meaning}
                    )
        n = 2 * len(images)
        times = np.arange(60) / 100 - 0.1
        wave = 4e-6 * np.exp(-(((times - 0.17) / 0.03) ** 2))
        eeg = rng.normal(0, 3e-6, (n, n_chans, 60)) + wave * rng.normal(1, 0.4, (n, n_chans, 1))
        writer.append(eeg.astype(np.float32))
        table = pd.DataFrame(images)
        trials = pd.DataFrame(
            {"subject": np.where(np.arange(n) < n // 2, "s1", "s2"),
             "image_id": list(table["image_id"]) * 2, "category": list(table["category"]) * 2}
        )  # fmt: skip
        info = {
            "name": f"Shapes of four kinds{evil}", "source": "drawn for a test", "unit": "V",
            "license": "CC0", "citation": f"A. Author, Shapes{evil}.", "design": "randomised",
            "image_identity": identity, "ch_names": [f"E{k}" for k in range(n_chans)],
            "sfreq": 100.0, "tmin": -0.1, "steps": [{"name": "band-pass", "low": 1, "high": 30}],
        }  # fmt: skip
        writer.finish(info=info, trials=trials, images=table)
    study = Study(path)
    study.write_captions("builtin", pd.DataFrame(captions))
    ids = np.arange(study.n_trials)
    fold = np.asarray([int(i.split("-")[1]) for i in study.trials["image_id"]])
    folds = tuple(
        Fold(ids[(fold % 4 != k) & (fold % 4 != (k + 1) % 4)], ids[fold % 4 == (k + 1) % 4],
             ids[fold % 4 == k]) for k in range(2)
    )  # fmt: skip
    study.write_split(Split("official", folds, {"kind": "by-image", "seed": 0}))
    return study


def score(metric: str, value: float, **more: Any) -> dict[str, Any]:
    keys = "prompt source head pool scope unit n n_trials value lo hi chance p p_holm floor ceiling"
    keys += " generator features higher_is_better protocol note"
    row: dict[str, Any] = {"metric": metric, **dict.fromkeys(keys.split()), "value": value}
    row.update({"lo": value - 0.03, "hi": value + 0.035, "n": 48, "n_trials": 96,
                "unit": "proportion", "scope": "all", "higher_is_better": True})  # fmt: skip
    return row | more


def build_scores(identity: str) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    rows = []

    def heads(metric: str, chance: float, gain: float, **more: Any) -> None:
        for head in KINDS:
            if more.get("scope") == "within-class" and head == "ObjectSnap":
                continue
            v = float(np.clip(chance + gain * rng.uniform(-0.1, 1), 0, 1))
            p_holm = 0.009 if v > chance + 0.04 else 0.3
            around = {"chance": chance, "floor": chance - 0.01, "ceiling": 0.96, "p": 0.001}
            rows.append(score(metric, v, head=head, p_holm=p_holm, **around, **more))

    alone = {"head": "ensemble", "p": 0.000999, "p_holm": 0.002}
    if identity == "category":
        auc = {"unit": "AUC", "n": 224, "n_trials": 224, "chance": 0.501}
        rows.append(score("class_auc", 0.695, **alone, **auc))
        rows.append(score("class_auc_lda", 0.684, p=0.001, **auc))
        heads("caption_retrieval_class_top1", 0.5, 0.15, pool="test", n=224, n_trials=224)
        return {"rows": rows, "notes": ["permutation within run"], "missing": []}
    for k, chance, gain in ((1, 0.0625, 0.11), (5, 0.26, 0.3)):
        for scope in ("within-class", "all"):
            more = {"chance_within_class": chance + 0.02, "p_within_class": 0.04}
            heads(f"caption_retrieval_top{k}", chance, gain, pool="test", scope=scope,
                  **(more if scope == "all" else {}))  # fmt: skip
    heads("caption_retrieval_class_top1", 0.25, 0.3, pool="test")
    rows.append(score("class_accuracy", 0.61, chance=0.252, floor=0.25, ceiling=1.0, **alone))
    rows.append(score("class_accuracy_macro", 0.60, chance=0.252, **alone))
    rows.append(score("class_accuracy_lda", 0.58, chance=0.251, p=0.001))
    rows += [
        score("class_accuracy", 0.6, chance=0.252, p=0.004, head="ensemble", subject=subject)
        for subject in ("s1", "s2")
    ]
    images = {"generator": "builtin", "source": "eeg", "p": 0.001, "p_holm": 0.004}
    for metric, plus in (("two_way_early", -0.04), ("two_way_late", 0)):
        for scope, (a, b, c) in {
            "all": (0.71, 0.502, 0.93),
            "within-class": (0.57, 0.5, 0.84),
        }.items():
            rows.append(score(metric, a + plus, scope=scope, chance=0.5, floor=b, ceiling=c,
                              floor_lo=b - 0.02, floor_hi=b + 0.02, ceiling_lo=c - 0.02,
                              ceiling_hi=c + 0.02, features="builtin",
                              protocol="squashed to 64x64", **images))  # fmt: skip
    for metric, unit, (a, b, c) in (
        ("pixcorr", "r", (0.31, 0.22, 0.48)),
        ("ssim", "SSIM", (0.42, 0.38, 0.52)),
    ):
        more = {"unit": unit, "protocol": "mindeye", **images}
        rows.append(score(metric, a, chance=b - 0.01, floor=b, ceiling=c, **more))
        rows.append(score(metric, 0.11, **(more | {"source": "gray", "p": None, "p_holm": None})))
    return {
        "rows": rows,
        "notes": ["Built-in features: not comparable with published numbers."],
        "missing": [{"metric": "clip_two_way", "why": "its weights are not on this machine"}],
    }


def build_run(
    path: Path, study: Study, *, fold: int = 0, identity: str = "known", evil: str = "",
    images: bool = True,
) -> Run:  # fmt: skip
    ExperimentConfig(study=str(study.path), fold=fold).save(path / "config.yaml")
    run = Run(path)
    rng = np.random.default_rng(7 + fold)
    test = run.fold.test
    captions = study.captions("builtin")
    decodings, prompts = [], []
    for trial in test:
        image = str(study.trials["image_id"].iloc[trial])
        kept: dict[str, list[dict[str, Any]]] = {"eeg": [], "floor": [], "ceiling": []}
        for head in KINDS:
            mine = captions[captions["kind"] == head]
            own = mine[mine["image_id"] == image].iloc[0]
            drawn = mine.sample(3, random_state=int(rng.integers(1 << 30)))
            best = mine[mine["meaning"] == own["meaning"]].iloc[0]
            rows = [best if rng.random() < 0.5 else drawn.iloc[0], drawn.iloc[1], drawn.iloc[2]]
            confidence = float(rng.uniform(0.1, 0.95))
            for rank, row in enumerate(rows, 1):
                decodings.append(
                    {"trial_id": trial, "head": head, "rank": rank, "text": row["text"],
                     "caption_id": content_key(head, row["text"])[:12], "pool": "train",
                     "similarity": 0.7 - 0.1 * rank, "confidence": confidence / rank,
                     "meaning": row["meaning"]}
                )  # fmt: skip
            for source, row in (("eeg", rows[0]), ("floor", drawn.iloc[2]), ("ceiling", own)):
                kept[source].append({"head": head, "text": row["text"], "confidence": confidence})
        for source, parts in kept.items():
            prompts.append(
                {"trial_id": trial, "source": source, "text": ", ".join(k["text"] for k in parts[:8]),
                 "n_tokens": 61, "heads": json.dumps(list(KINDS)), "kept": json.dumps(parts[:8]),
                 "dropped": json.dumps(parts[8:]), "reason": "2 captions over the budget of 64"}
            )  # fmt: skip
    run.write_table(run.decodings_path, pd.DataFrame(decodings))
    run.write_table(run.prompts_path, pd.DataFrame(prompts))
    epochs = np.arange(12)
    log = {"epoch": epochs, "train_loss": 4.2 * np.exp(-epochs / 6) + 0.6}
    log["val_loss"] = 3.2 * np.exp(-epochs / 4) + 1.4 + 0.004 * epochs**2
    for k, head in enumerate(KINDS):
        log[f"val_top1_{head}"] = (0.04 + 0.03 * k) * (1 - np.exp(-epochs / 4)) + 0.03
    run.write_table(run.training_log_path, pd.DataFrame(log))
    write_json(run.scores_path, build_scores(identity))
    run.record("train", seed=0, text_encoder={"name": "builtin", "revision": "a1b2c3"})
    run.record("generate", generator_revision="d4e5f6", evil=evil)
    for trial in test if images else []:
        for source in ("eeg", "floor", "ceiling"):
            shape, color = rng.integers(4), COLORS[rng.integers(6)]
            draw(run.image_path("builtin", source, int(trial)), int(shape), color)
    return run


# -- fixtures and readers ----------------------------------------------------------------------
@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return build_study(tmp_path_factory.mktemp("report") / "study")


@pytest.fixture(scope="module")
def run(study: Study) -> Run:
    return build_run(study.path.parent / "run", study)


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return write_report(run).read_text("utf-8")


VOID = {"meta", "img", "br", "col", "hr", "input", "link"}


class Reader(HTMLParser):
    """Reads a page strictly: tags must nest; keeps text, attributes and anchors."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not (self.open and self.open[-1] == "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n\t]+", " ", " ".join(self.words))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def cut(run: Run, out: Path, *names: str, settings: dict[str, Any] | None = None) -> Run:
    """A copy of a run without some of its files, or with other settings."""
    ignore = shutil.ignore_patterns(*names, "report.html") if names else None
    shutil.copytree(run.path, out, ignore=ignore)
    if settings:
        ExperimentConfig(**{**run.config, **settings}).save(out / "config.yaml")
    return Run(out)


# -- the page as a whole -----------------------------------------------------------------------
def test_page_is_well_formed_and_asks_nothing_of_the_network(page: str) -> None:
    read = Reader(page)
    assert read.open == []
    assert not read.of("script") and not read.of("link") and not read.of("iframe")
    assert all(str(img["src"]).startswith("data:image/") for img in read.of("img"))
    assert all(str(a["href"]).startswith("#") for a in read.of("a"))
    assert "url(" not in page and "@import" not in page
    policies = [m["content"] for m in read.of("meta") if m.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not [k for _, attrs in read.tags for k in attrs if k.startswith("on")]


def test_anchors_lead_somewhere_and_ids_are_unique(page: str) -> None:
    read = Reader(page)
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for a in read.of("a")} <= set(ids)


def test_every_image_and_chart_has_words(page: str) -> None:
    read = Reader(page)
    assert all(img.get("alt") for img in read.of("img"))
    charts = [svg for svg in read.of("svg") if svg.get("role") == "img"]
    assert len(charts) == len(re.findall(r'role="img"[^>]*><title>[^<]', page)) > 50


def test_page_is_light_even_with_large_images(tmp_path: Path, study: Study, run: Run) -> None:
    big = cut(run, tmp_path / "big")
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    smooth = Image.fromarray(noise).resize((16, 16)).resize((512, 512), Image.Resampling.BICUBIC)
    for path in (big.path / "images").rglob("*.png"):
        smooth.save(path)
    assert write_report(big).stat().st_size < 1.5e6


def test_same_run_gives_the_same_page(run: Run, page: str, tmp_path: Path) -> None:
    again = write_report(run, tmp_path / "again.html").read_text("utf-8")
    assert again.split("<footer>")[0] == page.split("<footer>")[0]


def test_what_was_run_on_what_is_said(page: str) -> None:
    text = Reader(page).text
    for fact in (
        "Two people looked at 32 images of 4 categories",
        "none of which it had met in training",
        "Design: not audited",
        "builtin, revision a1b2c3",
        "builtin, revision d4e5f6",
        "no images shared",
        "band-pass (low 1, high 30)",
        "License: CC0",
        "A. Author, Shapes.",
        "not with published numbers",
        "numpy",
        "eegprompt run settings.yaml",
        "learning_rate: 0.002",
    ):
        assert fact in text, fact


# -- content that is not to be trusted ---------------------------------------------------------
def test_text_of_captions_models_and_studies_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    study = build_study(tmp_path / "study", evil=evil, per_class=4)
    run = build_run(tmp_path / "run", study, evil=evil)
    stored = json.loads(run.scores_path.read_text("utf-8"))
    for row in stored["rows"]:
        row["features"], row["note"], row["generator"] = evil, evil, evil
    stored["rows"].append(score(f"new{evil}", 0.3, source="eeg", head=evil))
    stored["notes"], stored["missing"] = [evil], [evil]
    write_json(run.scores_path, stored)
    page = write_report(run).read_text("utf-8")
    read = Reader(page)
    assert read.open == [] and not read.of("script")
    assert not [img for img in read.of("img") if img.get("src") == "x"]
    assert not [k for _, attrs in read.tags for k in attrs if k.startswith("on")]
    assert page.count("&lt;script&gt;") > 100 and evil in "".join(read.words)


# -- numbers -----------------------------------------------------------------------------------
def test_no_number_stands_alone(page: str, run: Run) -> None:
    part = page.split('id="scores"')[1].split("</section>")[0]
    rows = []
    for row in re.findall(r"<tr[^>]*>\s*<th scope=\"row\">.*?</tr>", part, re.DOTALL):
        bare = re.sub(r"<title>.*?</title>", "", row)
        value = re.search(r'<td class="val"><b>(.*?)</b> <span>(.*?)</span>', bare)
        cells = dict(re.findall(r'<td class="num[^>]*data-label="([^"]+)">([^<]*)', bare))
        assert value
        rows.append((*value.groups(), *(cells.get(k, "–").strip() for k in BESIDE)))
    expected = []
    for s in run.score_rows:
        around = [number(s[k], s["unit"]) for k in ("chance", "floor", "ceiling")]
        around += [f"{s['n']:,}", p_value(s["p"]), p_value(s["p_holm"])]
        shown = number(s["value"], s["unit"]), interval(s["lo"], s["hi"], s["unit"])
        expected.append((*shown, *(html.escape(a) for a in around)))
    assert sorted(rows) == sorted(expected)
    text = Reader(part).text
    assert "weights are not on this machine" in text
    assert "not comparable with published numbers" in text


def test_within_class_comes_first_and_floor_and_ceiling_are_taken_from_their_rows() -> None:
    rows = [Score.from_row(r) for r in build_scores("known")["rows"]]
    (late,) = [s for s in rows if s.metric == "two_way_late" and not s.within_class]
    sources = [replace(late, source=r, value=v, floor=None, ceiling=None)
              for r, v in (("floor", 0.4), ("eeg", 0.7), ("ceiling", 0.9), ("noise", 0.5))]  # fmt: skip
    (block,) = blocks(sources)
    assert block.rows[0].score.value == 0.7
    assert (block.rows[0].floor, block.rows[0].ceiling) == (0.4, 0.9)
    assert [s.source for s in block.rows[0].further] == ["noise"]
    found = blocks(rows)
    shown = [s for b in found for r in b.rows for s in (r.score, *r.sources)]
    assert len(shown) == len(rows) and set(shown) == set(rows)  # none is lost, none shown twice
    assert len([b for b in found if b.many == "subject"]) == 1
    assert {b.group for b in found if b.rows[0].score.within_class} == {"within"}


def test_fid_and_kid_have_an_axis_each() -> None:
    (late,) = [s for s in map(Score.from_row, build_scores("known")["rows"])
               if s.metric == "two_way_late" and not s.within_class]  # fmt: skip
    sets = [replace(late, metric=m, scope="set", unit="distance", value=v)
            for m, v in (("fid", 15.7), ("kid", 0.3))]  # fmt: skip
    assert len(blocks(sets)) == 2


def test_headline_counts_are_those_of_the_scores(page: str, run: Run) -> None:
    within = [r for r in run.score_rows if r["scope"] == "within-class" and r["head"]
              and r["metric"].endswith("top1")]  # fmt: skip
    hits = sum(r["p_holm"] < 0.01 for r in within)
    assert 0 < hits < len(within)
    text = Reader(page.split('id="summary"')[1].split("</section>")[0]).text
    assert f"{hits} of {len(within)} heads above chance (Holm-corrected p < 0.01)" in text
    assert "57.0\u00a0% [54.0, 60.5]" in text and "floor 50.0\u00a0%" in text
    assert "linear baseline 58.0\u00a0%" in text


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("caption_retrieval_top1", "retrieval_top1"),
        ("caption_retrieval_top5", "retrieval_top5"),
        ("class_accuracy", "class_accuracy"),
        ("class_accuracy_majority", "class_vote"),
        ("class_auc", "auc"),
        ("class_auc_lda", "lda"),
        ("class_accuracy_lda", "lda"),
        ("class_accuracy_macro", "class_macro"),
        ("class_accuracy_weighted", "class_weighted"),
        ("caption_retrieval_class_top1", "retrieval_class"),
        ("two_way_early", "two_way"),
        ("two_way_late", "two_way"),
        ("two_way_identification", "two_way"),
        ("pixcorr", "pixcorr"),
        ("ssim", "ssim"),
        ("ssim_legacy", "ssim_legacy"),
        ("1000_way_accuracy", "generation_accuracy"),
        ("clip_score", "clip_score"),
        ("clip_image_cosine", "image_cosine"),
        ("swav_distance", "image_distance"),
        ("fid", "distribution"),
        ("50_way_accuracy", "generation_accuracy"),
        ("dataset_way_accuracy", "generation_class"),
    ],
)
def test_scores_are_known_by_name(name: str, key: str) -> None:
    assert metric_of(name).key == key


def test_mean_over_folds_by_hand() -> None:
    base = Score.from_row(score("class_auc", 0.6, chance=0.5, p=0.01, n=10))
    (mean,) = mean_over_folds([[base], [replace(base, value=0.7, chance=0.52, n=20)]])
    assert (mean.value, mean.lo, mean.hi, mean.n) == (pytest.approx(0.65), 0.6, 0.7, 30)
    assert mean.chance == pytest.approx(0.51) and mean.p is None and mean.p_holm is None


def test_summary_table_gives_rows_of_text(run: Run, tmp_path: Path) -> None:
    rows = summary_table(run)
    assert all(set(r) == {"metric", "scope", "value", "chance", "p", "floor", "ceiling", "n"}
               and all(isinstance(v, str) for v in r.values()) for r in rows)  # fmt: skip
    scopes = [r["scope"] for r in rows]
    assert scopes == sorted(scopes, key=lambda s: s != "within-class")
    (row,) = [r for r in rows if "late" in r["metric"] and r["scope"] == "all"]
    assert row["value"] == "71.0\u00a0% [68.0, 74.5]" and row["ceiling"] == "93.0\u00a0%"
    assert len(summary_table(run, heads=False)) == len(rows) - 19
    assert summary_text(run).count("\n") == len(rows)
    assert "evaluate" in summary_text(cut(run, tmp_path / "bare", "scores.json"))


# -- images and captions ---------------------------------------------------------------------
def test_sample_is_fair(run: Run, tmp_path: Path) -> None:
    def sample(run: Run, count: int = 5) -> list[int]:
        return [trial for _, trial in sample_trials(Material.gather(run), count)[0]]

    chosen = sample(run)
    images = run.study.trials["image_id"]
    assert len({images[t] for t in chosen}) == 5 and set(chosen) <= set(run.fold.test)
    other = cut(run, tmp_path / "other", "scores.json")
    table = other.decodings
    table["confidence"] = np.linspace(1, 0, len(table))
    other.write_table(other.decodings_path, table)
    assert sample(other) == chosen  # nothing that was scored moves it
    seeds = [cut(run, tmp_path / str(s), settings={"seed": s}) for s in range(1, 5)]
    sets = {frozenset(images[t] for t in sample(r)) for r in seeds}
    assert len(sets) > 1  # which images are shown is drawn, not only which of their trials
    assert len(sample(run, 99)) == 8  # one trial for each of the test images


def test_marks_of_same_meaning_are_right(run: Run, study: Study) -> None:
    captions = study.captions("builtin").set_index(["image_id", "kind"])
    meaning = {
        (k, t): m for k, t, m in study.captions("builtin")[["kind", "text", "meaning"]].values
    }
    table = run.decodings
    material = Material.gather(run).first
    for trial in run.fold.test[:4]:
        view = view_trial(material, int(trial), others=2)
        image = study.trials["image_id"][trial]
        best = table[(table["trial_id"] == trial) & (table["rank"] == 1)].set_index("head")
        right = 0
        for h in view.heads:
            assert h.text == best.loc[h.head, "text"] and len(h.others) == 2
            expected = meaning[h.head, h.text] == captions.loc[(image, h.head), "meaning"]
            assert h.same == expected
            assert h.in_prompt == (list(KINDS).index(h.head) < 8)
            right += expected
        assert view.right == (right, 10)
        train = captions.reset_index()
        train = train[train["image_id"].isin(study.trials["image_id"][run.fold.train])]
        by_chance = 0.0
        for kind, mine in train.drop_duplicates(["kind", "text"]).groupby("kind"):
            by_chance += (mine["meaning"] == captions.loc[(image, kind), "meaning"]).mean()
        assert view.by_chance == pytest.approx(by_chance)
        assert [h.head for h in view.heads] == list(KINDS)


def test_right_captions_are_marked_in_the_prompt(run: Run, study: Study) -> None:
    material = Material.gather(run).first
    prompts = run.prompts.set_index(["trial_id", "source"])
    for trial in run.fold.test[:4]:
        view = view_trial(material, int(trial))
        for source, pieces in view.prompts.items():
            row = prompts.loc[(trial, source)]
            assert "".join(text for text, _ in pieces) == row["text"]
            right = [k["text"] for k in json.loads(row["kept"]) if material.same_meaning(
                study.trials["image_id"][trial], k["head"], k["text"])]  # fmt: skip
            assert [text for text, same in pieces if same] == right
        assert len([text for text, same in view.prompts["ceiling"] if same]) == 8


def test_unfinished_drawing_is_named(run: Run, tmp_path: Path) -> None:
    part = cut(run, tmp_path / "part")
    trials = [int(t) for t in part.fold.test]
    sources = {"eeg": True, "floor": False}
    noted = {"name": "builtin", "revision": "r", "trial_ids": trials, "sources": sources}
    write_json(part.path / "generation.json", {"generators": {"builtin": noted}})
    part.image_path("builtin", "floor", trials[0]).unlink()
    text = Reader(write_report(part).read_text("utf-8")).text
    assert f"Images of prompt source floor: {len(trials) - 1} of {len(trials)} drawn so far" in text
    assert "Images of prompt source eeg" not in text


@pytest.mark.parametrize(("count", "warned"), [(999, True), (1000, False)])
def test_too_few_permutations_are_named(run: Run, tmp_path: Path, count: int, warned: bool) -> None:
    few = cut(run, tmp_path / "few", settings={"evaluation": {"permutations": count}})
    text = Reader(write_report(few).read_text("utf-8")).text
    # ten heads at the least p of 1 / (count + 1): 0.01 is not below 0.01, 10 / 1001 is
    assert ("score with at least 1,000 permutations" in text) == warned


def test_without_meanings_only_the_same_words_count(tmp_path: Path) -> None:
    study = build_study(tmp_path / "study", per_class=4)
    run = build_run(tmp_path / "run", study)
    study.write_captions(
        "builtin", study.captions("builtin").drop(columns="meaning"), overwrite=True
    )
    material = Material.gather(run).first
    assert not material.has_meanings
    text = material.true_captions("apple-0", "ColorTone")[0]
    assert material.same_meaning("apple-0", "ColorTone", text) is True
    assert material.same_meaning("apple-0", "ColorTone", text.replace("a ", "one ")) is False
    assert material.same_meaning("nothing", "ColorTone", text) is None


def test_data_uri_is_small_and_keeps_no_text(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a secret prompt")
    Image.new("RGB", (64, 48), "red").save(tmp_path / "small.png", pnginfo=info)
    Image.new("RGB", (700, 512), "blue").save(tmp_path / "large.png")
    (tmp_path / "broken.png").write_bytes(b"no image")

    def opened(name: str) -> Image.Image:
        head, _, data = str(data_uri(tmp_path / name)).partition(",")
        assert re.fullmatch(r"data:image/(png|webp|jpeg);base64", head)
        return Image.open(io.BytesIO(base64.b64decode(data)))

    small = opened("small.png")
    assert small.size == (64, 48) and "prompt" not in small.info
    assert small.getpixel((3, 3)) == (255, 0, 0)
    assert max(opened("large.png").size) == 256
    assert data_uri(tmp_path / "broken.png") is None and data_uri(tmp_path / "none.png") is None


# -- what is missing is named ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("images",), ["Images: none drawn yet", "eegprompt generate"]),
        (("scores.json",), ["Scores: not computed yet", "No scores have been computed yet"]),
        (("training.parquet",), ["The training curve: not there yet"]),
        (("decodings.parquet",), ["Retrieved captions: not there yet", "eegprompt decode"]),
        (("prompts.parquet", "provenance.json"), ["Prompts: not there yet"]),
        (("floor",), ["Not drawn yet: floor"]),
        (("images", "*.parquet", "*.json"), ["eegprompt decode", "eegprompt evaluate"]),
    ],
)
def test_partial_runs(run: Run, tmp_path: Path, names: tuple[str, ...], words: list[str]) -> None:
    read = Reader(write_report(cut(run, tmp_path / "part", *names)).read_text("utf-8"))
    assert read.open == []
    for word in words:
        assert word in read.text


def test_images_of_other_settings_are_not_shown_beside_the_others(
    run: Run, page: str, tmp_path: Path
) -> None:
    mixed = cut(run, tmp_path / "mixed")
    for path in (mixed.path / "images").rglob("*.png"):
        facts = PngImagePlugin.PngInfo()
        facts.add_text("look", "older" if path.parent.name == "floor" else "present")
        with Image.open(path) as image:
            image.save(path, pnginfo=facts)
    shown = Reader(write_report(mixed).read_text("utf-8"))
    before = Reader(page)

    def n_of(reader: Reader, words: str) -> int:
        return sum(words in str(img.get("alt")) for img in reader.of("img"))

    assert "images of floor that were drawn with other settings" in shown.text
    assert "other settings" not in before.text and "Not drawn yet" not in shown.text
    assert n_of(before, "random captions") and not n_of(shown, "random captions")
    assert n_of(shown, "true captions") == n_of(before, "true captions") > 0


def test_run_whose_study_has_gone(run: Run, tmp_path: Path) -> None:
    lost = cut(run, tmp_path / "lost", settings={"study": str(tmp_path / "nowhere")})
    read = Reader(write_report(lost).read_text("utf-8"))
    assert "The study:" in read.text and "nowhere" in read.text and "Two-way" in read.text
    assert "Design: not known" in read.text and "Design: not audited" not in read.text
    path = lost.path / "scores.json"
    stamp = {
        "verdict": "confounded",
        "summary": "Design confounded: as stamped.",
        "allowed_leakage": [],
    }
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "audit": stamp}), "utf-8")
    read = Reader(write_report(lost).read_text("utf-8"))
    assert "Design: confounded" in read.text and "as stamped" in read.text


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        write_report(tmp_path / "none")


def test_reference_that_is_gone_leaves_a_gap(tmp_path: Path) -> None:
    study = build_study(tmp_path / "study", per_class=4)
    run = build_run(tmp_path / "run", study)
    shutil.rmtree(study.path / "images")
    assert "Shown, the reference: not there" in write_report(run).read_text("utf-8")


# -- other kinds of study and run --------------------------------------------------------------
def test_category_only_study(tmp_path: Path) -> None:
    study = build_study(tmp_path / "study", identity="category", n_chans=4)
    run = build_run(tmp_path / "run", study, identity="category")
    text = Reader(write_report(run).read_text("utf-8")).text
    for words in ("Categories only", "Categories stand in for images", "Its category",
                  "Telling the categories apart (AUC)", "0.695 [0.665, 0.730]", "chance 0.501",
                  "Face or house", "permutation within run"):  # fmt: skip
        assert words in text, words
    assert "none of which it had met" not in text
    # ten heads that say the same are one finding, and are no headline
    assert text.count("the heads are one finding, not one each") >= 2
    assert "heads above chance" not in text


def test_few_images_and_what_needs_no_eeg_are_said_beside_the_scores(tmp_path: Path) -> None:
    study = build_study(tmp_path / "study", per_class=4)
    run = build_run(tmp_path / "run", study)

    def said(**change: Any) -> str:
        stored = build_scores("known")
        for row in stored["rows"]:
            if row["source"] == "eeg":
                row |= change
        write_json(run.scores_path, stored)
        return Reader(write_report(run).read_text("utf-8")).text

    calm = said(n=50, n_trials=50)
    assert "Few:" not in calm and "nothing of the EEG" not in calm and "hardly" not in calm
    few = said(n=49, n_trials=49)
    assert "Image scores. Few: 49 images. Only a large difference could show." in few
    assert few.count("Few: 49 images") > 5  # in the tile, and at each row
    assert "Few: 60 images and 2 references" in said(n=60, note="only 2 references")
    plain = said(n=60, value=0.1)
    assert "score as high or higher on: Pixel correlation 0.100 (a plain gray image 0.110)" in plain
    assert "this generator cannot draw such images" in said(n=60, ceiling=0.5)


def test_every_score_says_its_direction_range_and_chance() -> None:
    metric_of("pixcorr")  # which imports all
    assert len(METRICS) > 20
    for name, entry in METRICS.items():
        assert entry.scale.startswith(("Higher is better; ", "Lower is better; ")), name
        assert "chance" in entry.scale and entry.says and entry.label, name
        assert entry.group in ("category", "caption", "image"), name


def test_run_over_folds(study: Study, tmp_path: Path) -> None:
    for k in range(2):
        fold_run = build_run(tmp_path / "runs" / f"fold-{k}", study, fold=k)
        if k:
            stored = json.loads(fold_run.scores_path.read_text("utf-8"))
            for row in stored["rows"]:
                row["value"] += 0.02
            write_json(fold_run.scores_path, stored)
    path = write_report(tmp_path / "runs")
    assert path == tmp_path / "runs" / "report.html"
    read = Reader(path.read_text("utf-8"))
    assert read.open == []
    for words in ("trained two times", "Fold by fold", "fold 0", "fold 1", "72.0\u00a0% [71.0, 73.0]",
                  "range over folds", "73.0\u00a0%"):  # fmt: skip
        assert words in read.text, words
    assert summary_table(tmp_path / "runs")


def test_scores_of_a_parent_folder_are_taken_as_they_are(study: Study, tmp_path: Path) -> None:
    for k in range(2):
        build_run(tmp_path / "runs" / f"fold-{k}", study, fold=k, images=False)
    rows = [score("class_auc", 0.777, chance=0.5, p=0.01, unit="AUC")]
    write_json(tmp_path / "runs" / "scores.json", {"rows": rows, "notes": ["pooled"]})
    text = Reader(write_report(tmp_path / "runs").read_text("utf-8")).text
    assert "0.777 [0.747, 0.812]" in text and "pooled" in text
    assert "not a confidence interval" not in text


def test_no_two_scores_of_features_are_called_alike(tmp_path: Path, study: Study) -> None:
    from eegprompt.features.pretrained import PretrainedFeatures

    named = [use.format(features=layer, ways=50) for layer, use in PretrainedFeatures.uses]
    named += ["two_way_early", "two_way_late", "two_way_mine", "mine_distance", "kid"]
    labels = [metric_of(name).label for name in named]
    assert len(set(labels)) == len(labels) == len(named), labels
    for part in ("AlexNet layer 2", "AlexNet layer 5", "Inception", "CLIP"):
        assert f"Two-way identification, {part}" in labels
    for part in ("EfficientNet", "SwAV", "LPIPS"):
        assert f"Feature distance, {part}" in labels
    assert all("{" not in metric_of(name).says for name in named)
    run = build_run(tmp_path / "run", study, images=False)
    rows = [score(name, 0.6, chance=0.5, p=0.01, features="pretrained") for name in named]
    write_json(run.scores_path, {"rows": rows, "notes": []})
    shown = [row["metric"] for row in summary_table(run)]
    assert len(set(shown)) == len(named)
    text = Reader(write_report(run).read_text("utf-8")).text
    assert all(label in text for label in labels)


def test_an_audit_made_later_stands_on_the_scores_made_before(tmp_path: Path) -> None:
    study = build_study(tmp_path / "study", per_class=4)
    runs = [
        build_run(tmp_path / "runs" / f"fold-{k}", study, fold=k, images=False) for k in range(2)
    ]
    files = [run.scores_path for run in runs] + [tmp_path / "runs" / "scores.json"]
    old = {"verdict": "not audited", "summary": "Design not audited.", "allowed_leakage": []}
    for path in files:
        rows = [
            {**score("class_auc", 0.7, chance=0.5), "audit": "not audited", "allowed_leakage": None}
        ]
        write_json(path, {"audit": old, "rows": rows, "notes": []})
    name = runs[0].config["split"]
    found = {
        "verdict": "suspect", "summary": "in short", "evidence": [], "limits": [],
        "key": audit_key(study, study.split(name)),
    }  # fmt: skip
    write_json(study.path / "audit.json", {"format": FORMAT, "splits": {name: found}})
    text = Reader(write_report(tmp_path / "runs").read_text("utf-8")).text
    assert "Design: suspect" in text and "not audited" not in text
    for path in files:
        stored = json.loads(path.read_text("utf-8"))
        assert stored["audit"]["verdict"] == stored["rows"][0]["audit"] == "suspect"
        assert stored["rows"][0]["value"] == 0.7
    before = [path.read_bytes() for path in files]
    write_report(tmp_path / "runs")
    assert [path.read_bytes() for path in files] == before
    # Terminal, too; and an audit that the study has outgrown.
    write_json(
        study.path / "audit.json", {"format": FORMAT, "splits": {name: {**found, "key": "old"}}}
    )
    from eegprompt.cli.score_table import print_scores

    print_scores(tmp_path / "runs")
    stored = json.loads(files[-1].read_text("utf-8"))
    assert stored["audit"]["verdict"] == stored["rows"][0]["audit"] == "outdated"
    # Where the study has gone, what was stamped stays.
    shutil.rmtree(study.path)
    write_report(tmp_path / "runs")
    assert json.loads(files[-1].read_text("utf-8")) == stored


def test_folds_say_once_what_all_of_them_say(study: Study, tmp_path: Path) -> None:
    for k in range(3):
        run = build_run(tmp_path / "runs" / f"fold-{k}", study, fold=k % 2, images=False)
        run.record("train", allowed_leakage=[f"{6 + k} images are shown on both train and val "
                                    f"(first: ['img-{k}'])"])  # fmt: skip
        stored = json.loads(run.scores_path.read_text("utf-8"))
        stored["notes"] = [f"Compared {30 + k} references.", "The same."] + ["Odd."] * (k == 1)
        stored["missing"] = [
            f"fid: {k + 2} images are too few",
            f"prompt source 'noise' is not drawn; run 'eegprompt generate {run.path} --sources noise'",
        ]
        write_json(run.scores_path, stored)
    material = Material.gather(tmp_path / "runs")
    assert material.allowed_leakage == [
        "6 to 8 images are shown on both train and val (first: ['img-0'])"
    ]
    assert material.score_notes == [
        "Compared 30 to 32 references.", "The same.", "Odd (fold 1)."
    ]  # fmt: skip
    assert material.score_missing == [
        "fid: 2 to 4 images are too few",
        f"prompt source 'noise' is not drawn; run 'eegprompt generate {tmp_path / 'runs'} --sources noise'",
    ]
    lacking = [m for m in material.missing if m.what.startswith("images")]
    assert [(m.what, m.command) for m in lacking] == [
        ("images of all folds", f"eegprompt generate {tmp_path / 'runs'}")
    ]
    text = Reader(write_report(tmp_path / "runs").read_text("utf-8")).text
    assert text.count("images are shown on both train and val") == 1
    assert text.count("Compared 30") == 1


@pytest.mark.parametrize(("count", "stacked"), [(2, False), (7, True)])
def test_tables_over_folds_are_never_wider_than_the_page(
    study: Study, tmp_path: Path, count: int, stacked: bool
) -> None:
    for k in range(count):
        build_run(tmp_path / "runs" / f"fold-{k}", study, fold=k % 2, images=False)
    page = write_report(tmp_path / "runs").read_text("utf-8")
    table = re.search(r'<table class="folds ([^"]*)">(.*?)</table>', page, re.S)
    assert table is not None and table[1].split() == ["stack"] + ["stacked"] * stacked
    # Narrow pages show each cell under its own heading, so that nothing runs out of them.
    rows = re.findall(r"<tr>(.*?)</tr>", table[2], re.S)[1:]
    assert rows
    for row in rows:
        assert re.findall(r'data-label="(fold \d)"', row) == [f"fold {k}" for k in range(count)]
    style = page.partition("<style>")[2].partition("</style>")[0]
    wide, _, narrow = style.partition("@media screen and (max-width: 760px)")
    assert "table.stacked > tbody > tr { display: grid" in wide
    assert "table.stack > tbody > tr { display: grid" in narrow
    assert "table.finding td { white-space: nowrap" not in style


def test_sentences_are_merged_by_their_numbers_alone() -> None:
    from eegprompt.core.fold_sentences import merge_sentences

    names = ["fold 0", "fold 1"]
    assert merge_sentences([["a 1,200 b 3.5"], ["a 900 b 3.5"]], names) == ["a 900 to 1,200 b 3.5"]
    assert merge_sentences([["img-1 is odd"], ["img-2 is odd"]], names) == [
        "img-1 is odd (fold 0)", "img-2 is odd (fold 1)"
    ]  # fmt: skip
    assert merge_sentences([["weights alex2 1"], ["weights alex5 1"]]) == [
        "weights alex2 1", "weights alex5 1"
    ]  # fmt: skip
    assert merge_sentences([[], []], names) == []


@pytest.mark.parametrize("verdict", ["clean", "suspect", "confounded", "unknown"])
def test_badge_of_the_audit(tmp_path: Path, verdict: str) -> None:
    study = build_study(tmp_path / "study", per_class=4)
    run = build_run(tmp_path / "run", study, images=False)
    name = run.config["split"]
    audit = {
        "verdict": verdict,
        "summary": "in short",
        "evidence": ["the block tells the class"],
        "limits": [],
        "key": audit_key(study, study.split(name)),
    }
    write_json(study.path / "audit.json", {"format": FORMAT, "splits": {name: audit}})
    run.record("train", allowed_leakage=["3 images are on both sides"])
    text = Reader(write_report(run).read_text("utf-8")).text
    assert f"Design: {verdict}" in text and "not audited" not in text
    assert (
        "the block tells the class" in text
        and "Allowed leakage: 3 images are on both sides" in text
    )
    write_json(
        study.path / "audit.json", {"format": FORMAT, "splits": {name: {**audit, "key": "old"}}}
    )
    text = Reader(write_report(run).read_text("utf-8")).text
    assert "audit outdated" in text and f"Design: {verdict}" not in text


# -- charts ------------------------------------------------------------------------------------
@given(
    values=st.lists(st.floats(-1e4, 1e4, allow_nan=False), min_size=2, max_size=8),
    unit=st.sampled_from([None, "proportion", "AUC"]),
)
def test_scale_keeps_order_and_stays_inside(values: list[float], unit: str | None) -> None:
    scale = Scale.of(values, unit)
    places = [scale.percent(v) for v in sorted(values)]
    assert places == sorted(places) and places[0] >= 0 and places[-1] <= 100
    assert all(scale.lo <= t <= scale.hi for t in scale.ticks)
    assert len({scale.tick_text(t) for t in scale.ticks}) == len(scale.ticks) <= 9


def test_forest_draws_each_thing_in_its_place() -> None:
    scale = Scale(0.0, 1.0, "proportion")
    svg = forest(scale, 0.5, 0.4, 0.6, chance=0.1, floor=0.2, ceiling=0.9, title="<b>")
    assert "<title>&lt;b&gt;</title>" in svg and "<b>" not in svg
    assert 'class="mark eeg"' in svg and f'<svg x="{scale.percent(0.5)}%"' in svg
    assert f'class="chance" x1="{scale.percent(0.1)}%"' in svg
    line = f'class="ci eeg" x1="{scale.percent(0.4)}%" x2="{scale.percent(0.6)}%"'
    assert line in svg
    for css, value in (("floor", 0.2), ("ceiling", 0.9)):
        assert re.search(rf'x="{scale.percent(value)}%"[^>]*><g class="mark {css}"', svg)
    bare = forest(scale, None)
    assert "mark" not in bare and 'class="ci' not in bare and "chance" not in bare


def test_line_chart_breaks_at_gaps_and_keeps_labels_apart() -> None:
    x = [0, 1, 2, 3]
    lines = [Line(f"line {i}", x, [1, 2, float("nan"), 3 + 1e-3 * i]) for i in range(5)]
    svg = line_chart(lines, x_label="epoch", y_label="loss", title="t", marked_x=2)
    assert svg.count("<polyline") == 5 and svg.count('<circle class="line') == 5
    ys = sorted(float(y) for y in re.findall(r'class="end[^"]*" x="[^"]*" y="([^"]*)"', svg))
    assert len(ys) == 5 and np.diff(ys).min() > 12
    assert 'class="marked"' in svg
    assert "<polyline" not in line_chart([], x_label="x", y_label="y", title="t")


def luminance(color: str) -> float:
    color = color.lstrip("#")
    color = "".join(2 * c for c in color) if len(color) == 3 else color
    rgb = np.array([int(color[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_colors_are_legible_in_light_and_dark() -> None:
    style = (Path(report.__file__).parent / "templates" / "style.css").read_text("utf-8")
    schemes = re.findall(r":root \{([^}]*--bg[^}]*)\}", style)
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        colors = dict(re.findall(r"--([\w-]+): (#[0-9a-fA-F]{3,6});", scheme))
        pairs = [("ink", "bg", 7), ("soft", "bg", 4.5), ("soft", "surface", 4.5)]
        pairs += [(n, f"{n}-bg", 4.5) for n in ("good", "warn", "bad")]
        pairs += [(n, "surface", 3) for n in ("accent", "low", "mid", "high", "sources")]
        for front, back, least in pairs:
            a, b = sorted((luminance(colors[front]), luminance(colors[back])))
            assert (b + 0.05) / (a + 0.05) >= least, (front, back, colors[front])


# -- the package -------------------------------------------------------------------------------
def test_every_section_is_listed_and_has_a_template() -> None:
    folder = Path(report.__file__).parent
    modules = {p.stem for p in (folder / "sections").glob("*.py")} - {"__init__"}
    templates = {p.name.split(".")[0] for p in (folder / "templates" / "sections").iterdir()}
    assert set(SECTIONS) == modules == templates


def test_import_is_light() -> None:
    code = (
        "import sys, eegprompt.reports; "
        "print(sorted({'torch', 'pandas', 'jinja2', 'PIL', 'mne'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
