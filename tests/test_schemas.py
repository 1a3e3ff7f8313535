"""What is read back is checked: a wrong file is one error that names file and field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from eegprompt.captions.store import CaptionStore, Origin
from eegprompt.core.errors import CaptionError, InputError, RunError, SplitError, StudyError
from eegprompt.core.files import read_arrays, read_json, read_table, write_json
from eegprompt.core.schemas import FILES, check_content
from eegprompt.run import Run
from eegprompt.study import Study


@pytest.mark.parametrize("schema", FILES)
@pytest.mark.parametrize("content", [None, 3, "text", [3], [[]], {"": {"": 1e400}}])
def test_what_is_no_such_file_at_all_is_refused_or_means_nothing(schema, content, tmp_path):
    lenient = {"mapping", "measured", "provenance", "caption set", "training inputs"}
    if isinstance(content, dict) and schema in lenient:
        check_content(content, schema, tmp_path, RunError)
        return
    with pytest.raises(RunError) as caught:
        check_content(content, schema, tmp_path / "x.json", RunError)
    assert "x.json" in str(caught.value)


STUDY_FIELDS = {
    "name": 3,
    "ch_names": ["Fz", "Cz", "Pz", 4],
    "sfreq": 0,
    "tmin": "soon",
    "unit": None,
    "design": ["block"],
    "format_version": 2,
    "ch_pos": {"Fz": [1, 2]},
    "steps": "none",
    "notes": [{"a": 1}],
    "source": 5,
}


@pytest.mark.parametrize("field", STUDY_FIELDS)
def test_each_field_of_a_study(field, small_study):
    path = small_study / "study.json"
    info = json.loads(path.read_text("utf-8"))
    write_json(path, {**info, field: STUDY_FIELDS[field]})
    with pytest.raises(StudyError) as caught:
        Study(small_study)
    assert field == "format_version" or f"'{field}" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a": ' * 50_000,
        '{"format_version": ' + "9" * 5000 + "}",
        '{"name": "\\ud800"}',
        '{"format_version": NaN}',
        "\x00",
        "[]",
    ],
)
def test_json_that_breaks_readers(text, small_study):
    (small_study / "study.json").write_text(text, "utf-8")
    with pytest.raises(StudyError):
        Study(small_study)
    (small_study / "splits" / "official.json").write_text(text, "utf-8")
    with pytest.raises(SplitError):
        read_json(small_study / "splits" / "official.json", error=SplitError, schema="split")


@pytest.mark.parametrize("ids", [[-1], [1.5], ["1"], [True], [10**30], None, {"0": 1}, [[1]]])
def test_ids_of_a_split(ids, small_study):
    path = small_study / "splits" / "official.json"
    stored = json.loads(path.read_text("utf-8"))
    stored["folds"][0]["test"] = ids
    write_json(path, stored)
    with pytest.raises(SplitError):
        Study(small_study).split("official")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("subject", [1.5] * 32),
        ("image_id", [b"img"] * 32),
        ("trial_id", [float(i) for i in range(32)]),
        ("onset", ["soon"] * 32),
        ("onset", [np.inf] * 32),
        ("n_averaged", [None] * 31 + ["x"]),
        ("category", [None] * 32),
    ],
)
def test_columns_of_trials(column, values, small_study):
    path = small_study / "trials.parquet"
    table = pd.read_parquet(path)
    table.assign(**{column: values}).to_parquet(path)
    with pytest.raises(StudyError) as caught:
        Study(small_study)
    assert f"'{column}'" in str(caught.value)
    table.drop(columns=column).to_parquet(path)
    with pytest.raises(StudyError) as caught:
        Study(small_study)
    assert column in str(caught.value)


def test_an_index_stored_with_a_table_counts_for_nothing(small_study):
    path = small_study / "trials.parquet"
    table = pd.read_parquet(path)
    table.set_index(np.arange(len(table)) * 7 + 3).to_parquet(path)
    assert Study(small_study).trials.index.tolist() == list(range(32))


@pytest.mark.parametrize("path", ["../outside.png", "images/../../outside.png", "a\0b.png"])
def test_images_lie_below_the_study(path, small_study):
    table = pd.read_parquet(small_study / "images.parquet")
    table.loc[0, "path"] = path
    table.to_parquet(small_study / "images.parquet")
    with pytest.raises(StudyError):
        Study(small_study).image_path("img-0")


@pytest.mark.parametrize("figure", ["../secret.svg", "/etc/secret.svg", "a/../../b.svg", "a\\b"])
def test_figures_of_a_finding_lie_below_the_run(figure, tmp_path):
    finding = {
        "name": "winners", "title": "", "seen": "", "not_concluded": "", "verdict": None,
        "good": None, "notes": [], "table": [], "figures": [{"path": figure, "caption": ""}],
    }  # fmt: skip
    write_json(tmp_path / "winners.json", finding)
    with pytest.raises(RunError) as caught:
        read_json(tmp_path / "winners.json", error=RunError, schema="finding")
    assert "figures.0.path" in str(caught.value)


@pytest.mark.parametrize("name", ["..", "a/b", "../../x", ""])
def test_names_that_become_folders_stay_below_the_run(name, tmp_path):
    for content in (
        {"generators": {name: {}}},
        {"generators": {"builtin": {"sources": {name: True}}}},
    ):
        write_json(tmp_path / "generation.json", content)
        with pytest.raises(RunError):
            read_json(tmp_path / "generation.json", error=RunError, schema="generation")


@pytest.mark.parametrize(
    ("field", "value"),
    [("study", 3), ("split", None), ("fold", "one"), ("fold", -1), ("kinds", "a"), ("seed", 1.5)],
)
def test_settings_of_a_run(field, value, tmp_path):
    config = {"study": "study", "split": "official", "fold": 0, field: value}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with pytest.raises(RunError) as caught:
        Run(tmp_path)
    assert f"'{field}" in str(caught.value)


@pytest.mark.parametrize("line", ["[3]", '{"key": 1}', '[{"image_id": "a"}]', "[" * 10_000, "NaN"])
def test_lines_of_a_caption_journal(line, small_study):
    (small_study / "captions" / "new.jsonl").write_text(line + "\n", "utf-8")
    store = CaptionStore(Study(small_study), "new", Origin(captioner="rules"))
    with pytest.raises(CaptionError) as caught:
        store.rows()
    assert "line 1" in str(caught.value)


def test_arrays_that_are_none(tmp_path):
    path: Path = tmp_path / "a.safetensors"
    with pytest.raises(RunError):
        read_arrays(path, error=RunError)
    head = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    for data in (b"", b"\xff" * 8, len(head).to_bytes(8, "little") + head + b"\0\0"):
        path.write_bytes(data)
        with pytest.raises(RunError) as caught:
            read_arrays(path, error=RunError)
        assert str(path) in str(caught.value)


def test_an_array_whose_header_is_no_python(small_study):
    path = small_study / "eeg.npy"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"{", b"((", 1))
    with pytest.raises(StudyError):
        Study(small_study)


@pytest.mark.parametrize("field", ["fold", "captions"])
def test_a_trained_run_whose_settings_lost_a_line(field, small_study, tmp_path):
    config = {"study": str(small_study), "split": "official", "fold": 0, "captions": "builtin"}
    config.pop(field)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    write_json(tmp_path / "provenance.json", {"train": {"keys": {"study": "a"}}})
    with pytest.raises(RunError) as caught:
        _ = Run(tmp_path).study
    assert f"'{field}'" in str(caught.value)


def test_text_that_is_no_utf_8(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = pa.array([b"a\xff\xfe", b"b"])
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image_id": text, "kind": text, "text": text}), path)
    with pytest.raises(CaptionError):
        read_table(path, error=CaptionError, columns="captions")


def test_a_table_with_a_column_twice(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["epoch", "epoch"]), path)
    with pytest.raises(InputError):
        read_table(path, columns="training")


def test_text_that_is_not_utf8_is_refused_in_any_table(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "theirs.parquet"
    pq.write_table(pa.table({"name": pa.array([b"a", b"\xae"]).view(pa.string())}), path)
    with pytest.raises(CaptionError) as caught:
        read_table(path, error=CaptionError)
    assert "theirs.parquet" in str(caught.value) and "'name'" in str(caught.value)
