"""Rows with one field more than the header are refused by every table that is read."""

from __future__ import annotations

import pytest

from eegprompt.captions.file import _table_records
from eegprompt.core.errors import CaptionError, RecordingError
from eegprompt.readers._csv_recording import _read_csv_table
from eegprompt.readers._event_names import read_text_table

ROWS = "1,{a},{b}\n2,{a},{b}\n3,{a},{b}\n"


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_table_of_events_with_row_names(tmp_path, suffix):
    path = tmp_path / f"events.{suffix}"
    text = "onset,category\n" + ROWS.format(a="0.5", b="face")
    path.write_text(text.replace(",", "\t") if suffix == "tsv" else text)
    with pytest.raises(RecordingError) as caught:
        read_text_table(path, "table of events")
    assert str(path) in str(caught.value)
    path.write_text("onset\tcategory\n1\tface\n" if suffix == "tsv" else "onset,category\n1,face\n")
    assert read_text_table(path, "table of events")["category"].tolist() == ["face"]


def test_captions_with_row_names_or_commas(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("image_id,ObjectSnap\n" + ROWS.format(a="img", b="a face"))
    with pytest.raises(CaptionError):
        _table_records(path)
    path.write_text("image_id,ObjectSnap\nimg,a face\n")
    assert _table_records(path)[0][1] == {"image_id": "img", "ObjectSnap": "a face"}


def test_a_recording_with_row_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Fz,Cz\n" + ROWS.format(a="0.1", b="0.2"))
    with pytest.raises(RecordingError):
        _read_csv_table(path, None)
    path.write_text("Fz,Cz\n0.1,0.2,\n0.3,0.4,\n")  # an empty last field is none
    assert _read_csv_table(path, None)["Cz"].tolist() == [0.2, 0.4]
