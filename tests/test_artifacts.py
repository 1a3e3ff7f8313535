"""Files are whole or not there."""

import errno
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eegprompt.core import files as artifacts
from eegprompt.core.errors import InputError, RunError, StorageError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    artifacts.write_json(target, {"old": 1})
    with pytest.raises(RuntimeError), artifacts.atomic_path(target) as partial:
        partial.write_text("half")
        raise RuntimeError("interrupted")
    assert json.loads(target.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_directory_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), artifacts.atomic_directory(tmp_path / "out") as folder:
        (folder / "x").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_with_a_remedy(tmp_path):
    with pytest.raises(StorageError, match=r"no space left .* run the same command again"):
        with artifacts.atomic_path(tmp_path / "a.bin"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),
        RuntimeError(
            "[enforce fail at inline_container.cc:672] . unexpected pos 1967744 vs 1967632"
        ),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["pyarrow", "torch", "safetensors"],
)
def test_a_full_disk_is_known_whichever_library_finds_out(tmp_path, error):
    with pytest.raises(StorageError, match="no space left"), artifacts.atomic_path(tmp_path / "a"):
        raise error
    with pytest.raises(RuntimeError, match="something else"), artifacts.atomic_path(tmp_path / "a"):
        raise RuntimeError("something else")


def test_an_existing_folder_is_refused_unless_overwritten(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "keep").write_text("mine")
    with pytest.raises(InputError, match="--overwrite"), artifacts.atomic_directory(out):
        pass
    assert (out / "keep").exists()
    with pytest.raises(InputError), artifacts.atomic_directory(out, overwrite=True):
        pass
    ours = artifacts.Ours("a thing", ("keep",), ("keep",))
    with artifacts.atomic_directory(out, overwrite=True, ours=ours) as folder:
        (folder / "new").write_text("1")
    assert sorted(p.name for p in out.iterdir()) == ["new"]


def test_results_are_as_readable_as_other_files(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    written = artifacts.write_text(tmp_path / "written", "x")
    assert written.stat().st_mode == plain.stat().st_mode


def test_nan_becomes_null_and_numpy_becomes_plain(tmp_path):
    path = artifacts.write_json(
        tmp_path / "a.json", {"a": np.float32("nan"), "b": np.arange(2), "c": Path("x")}
    )
    assert json.loads(path.read_text()) == {"a": None, "b": [0, 1], "c": "x"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_broken_json_names_the_file_and_the_remedy(tmp_path, content):
    path = tmp_path / "scores.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"scores\.json .* run the step"):
        artifacts.read_json(path, error=RunError)


def test_a_half_written_table_names_the_file(tmp_path):
    path = tmp_path / "t.parquet"
    artifacts.write_table(path, pd.DataFrame({"a": range(100)}))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"t\.parquet cannot be read as Parquet"):
        artifacts.read_table(path)


def test_content_keys_see_content_dtype_and_shape():
    key = artifacts.content_key
    a = np.arange(6, dtype=np.float32)
    assert key(a) == key(a.copy())
    assert len({key(a), key(a.reshape(2, 3)), key(a.astype(np.float64)), key(a + 1)}) == 4
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    assert key("ab", "c") != key("a", "bc")
