"""Caption sets on disk: a journal while they are written, a Parquet file when they are whole.

``captions/NAME.jsonl`` receives each image's captions as soon as they exist, so that a crash loses
at most what was under way; ``captions/NAME.parquet`` takes its place, atomically, in the end; and
``captions/NAME.json`` says who wrote the set. Each image's captions carry a key of everything that
decides them (captioner, model, instruction, image), so nothing is asked for twice. Images that
failed are kept in the journal and then beside the set, with the reason.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import CaptionError
from eegprompt.core.files import (
    _disk_errors,
    content_key,
    parse_json,
    provenance,
    read_json,
    write_json,
    write_table,
)
from eegprompt.core.kinds import KINDS
from eegprompt.core.schemas import check_content
from eegprompt.study import Study
from eegprompt.study.study import _checked_name

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.captions.base import Captioner

__all__ = ["COLUMNS", "CaptionStore", "Origin", "facts_of", "unfinished_sets"]

COLUMNS = (
    "image_id",
    "kind",
    "text",
    "meaning",
    "captioner",
    "model",
    "prompt_version",
    "image_sha256",
    "created",
    "key",
)

_BLOCK = 1 << 20  # bytes
_SYNC_EVERY = 0.25  # seconds; forcing each of 70 answers a second to a busy disk would hold them up


class Origin(dict[str, str]):
    """Who writes a set: `captioner`, `model` and `prompt_version`, as text."""

    @classmethod
    def of(cls, captioner: Captioner) -> Origin:
        """Read it from a captioner."""
        return cls(
            captioner=captioner.name,
            model=captioner.model,
            prompt_version=captioner.prompt_version,
        )

    def __str__(self) -> str:
        parts = [self.get(name, "") for name in ("captioner", "model", "prompt_version")]
        return " ".join(p for p in parts if p)


class CaptionStore:
    """One caption set of a study, being written.

    Parameters
    ----------
    study : Study
        The study; its folder receives the set.
    name : str
        Name of the set; several sets stand side by side.
    origin : Origin
        Who writes it.
    overwrite : bool
        Drop what another origin wrote under this name; else that is an error.
    dry : bool
        Only look: another origin's set is looked at as if it were not there.

    Raises
    ------
    CaptionError
        If the set was written by another captioner, model or instruction.
    """

    def __init__(
        self,
        study: Study,
        name: str,
        origin: Origin,
        *,
        overwrite: bool = False,
        dry: bool = False,
    ):
        _checked_name("caption set", name)
        self.study, self.name, self.origin = study, name, origin
        folder = study.path / "captions"
        self.table_path = folder / f"{name}.parquet"
        self.journal_path = folder / f"{name}.jsonl"
        self.facts_path = folder / f"{name}.json"
        images = study.images
        self._digests = {str(i): str(d) for i, d in zip(images["image_id"], images["sha256"])}
        self._categories = {str(i): str(c) for i, c in zip(images["image_id"], images["category"])}
        self._keys: dict[str, str] = {}
        self._journal_is_whole = False
        self._synced = -_SYNC_EVERY
        earlier = self._earlier_origin()
        if earlier is not None and earlier != origin:
            if dry:
                self.table_path = self.journal_path = self.facts_path = folder / ".absent"
                return
            if not overwrite:
                raise CaptionError(
                    f"the caption set '{name}' was written by {earlier}, not by {origin}; choose "
                    "another name for the new one, or pass --overwrite to replace it"
                )
            for path in (self.table_path, self.journal_path, self.facts_path):
                path.unlink(missing_ok=True)

    def _earlier_origin(self) -> Origin | None:
        if self.facts_path.exists():
            stored = self._facts().get("origin", {})
            return Origin({k: str(v) for k, v in stored.items()})
        if self.table_path.exists():  # a set that came with the study
            table = self.study.captions(self.name)
            found = {
                field: str(table[field].iloc[0] or "") if field in table and len(table) else ""
                for field in ("captioner", "model", "prompt_version")
            }
            return Origin(found if found["captioner"] else {**found, "captioner": "the study"})
        return None

    def keys(self, image_ids: Sequence[str]) -> dict[str, str]:
        """Content key of each image's captions: equal keys, equal question."""
        for i in image_ids:
            if i not in self._keys:
                self._keys[i] = content_key(
                    dict(self.origin), i, self._digests.get(i, ""), self._categories.get(i, "")
                )
        return {i: self._keys[i] for i in image_ids}

    def rows(self) -> list[dict[str, Any]]:
        """Every caption written so far, from the table and the journal.

        A last line of the journal that was cut off by a crash is passed over.
        """
        return list(self._iterate())

    def _iterate(self) -> Iterator[dict[str, Any]]:
        """Every caption written so far, one at a time: a journal may be larger than memory."""
        if self.table_path.exists():
            table = self.study.captions(self.name)
            columns = [str(c) for c in table.columns]
            for values in table.itertuples(index=False, name=None):
                yield dict(zip(columns, values))
        for record in self._journal():
            if isinstance(record, list):
                yield from record

    def _journal(self) -> Iterator[Any]:
        """Records of the journal: a list of captions, or an object that tells of a failure."""
        if not self.journal_path.exists():
            return
        with open(self.journal_path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    return  # whole lines end in a newline; this one was cut off
                try:
                    record = parse_json(line)
                    check_content(record, "caption journal", self.journal_path, CaptionError)
                except (ValueError, RecursionError):
                    raise CaptionError(
                        f"{self.journal_path}, line {number} is no caption record; delete that line "
                        "and run the command again: only its image is captioned anew"
                    ) from None
                yield record

    def done(self) -> set[str]:
        """Keys of the images whose captions are written."""
        return {str(row["key"]) for row in self._iterate() if row.get("key")}

    def failed(self) -> dict[str, dict[str, str]]:
        """Failures by the key of the image: `image_id`, `key`, `error`, `created`.

        Images that were captioned since are not among them.
        """
        stored = self._facts().get("failed", [])
        found = {str(f["key"]): dict(f) for f in stored if "key" in f}
        for record in self._journal():
            if isinstance(record, dict):
                found[str(record["key"])] = record
        done = self.done() if found else set()
        return {key: failure for key, failure in found.items() if key not in done}

    def _facts(self) -> dict[str, Any]:
        if not self.facts_path.exists():
            return {}
        return dict(read_json(self.facts_path, error=CaptionError, schema="caption set"))

    def fail(self, image_id: str, error: str) -> None:
        """Write into the journal that an image could not be captioned, and why."""
        self._write_line(
            {
                "image_id": image_id,
                "error": " ".join(str(error).split())[:500],
                "key": self.keys([image_id])[image_id],
                "created": _now(),
            }
        )

    def append(self, image_id: str, captions: Sequence[Mapping[str, Any]]) -> None:
        """Write one image's captions into the journal, all or none.

        They survive the end of this process at once, and that of the machine within 0.25 s.

        Parameters
        ----------
        image_id : str
        captions : sequence of mapping
            Each with `kind` and `text`, and `meaning` where it is known.

        Raises
        ------
        CaptionError
            If a caption has no text.
        """
        key = self.keys([image_id])[image_id]
        now = _now()
        rows = []
        for caption in captions:
            text = " ".join(str(caption["text"]).split())
            if not text:
                raise CaptionError(
                    f"the caption {caption['kind']} of image '{image_id}' is empty; give it a text"
                )
            rows.append(
                {
                    "image_id": image_id,
                    "kind": str(caption["kind"]),
                    "text": text,
                    "meaning": caption.get("meaning"),
                    **self.origin,
                    "image_sha256": self._digests.get(image_id, ""),
                    "created": now,
                    "key": key,
                }
            )
        self._write_line(rows)

    def _write_line(self, record: Any) -> None:
        if not self._journal_is_whole:
            self._open_journal()
        with _disk_errors(self.journal_path), open(self.journal_path, "ab") as stream:
            try:
                stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
                stream.flush()  # from here on it survives the end of this process
                if time.monotonic() - self._synced >= _SYNC_EVERY:
                    os.fsync(stream.fileno())  # and from here on that of the machine
                    self._synced = time.monotonic()
            except BaseException:
                self._journal_is_whole = False  # the line may be half there
                raise

    def _open_journal(self) -> None:
        """Make sure that the journal ends in a whole line: one that a crash cut off is removed."""
        if not self.facts_path.exists():
            write_json(self.facts_path, {"origin": dict(self.origin)})
        with _disk_errors(self.journal_path), open(self.journal_path, "ab+") as stream:
            end = stream.seek(0, os.SEEK_END)
            while end:  # from the end, block by block: a journal may be larger than memory
                start = max(0, end - _BLOCK)
                stream.seek(start)
                newline = stream.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
            stream.truncate(end)
        self._journal_is_whole = True

    def compact(
        self,
        image_ids: Sequence[str],
        notes: Sequence[str] | Callable[[pd.DataFrame], Sequence[str]] = (),
    ) -> pd.DataFrame:
        """Make the table of what was written, replacing table and journal.

        Parameters
        ----------
        image_ids : sequence of str
            The images, in the order of the table; captions under other keys (of an image that has
            changed since) are dropped.
        notes : sequence of str or callable
            Kept beside the set; a callable makes them from the table.

        Returns
        -------
        pandas.DataFrame
        """
        import pandas as pd

        wanted = self.keys(image_ids)
        place = {image_id: i for i, image_id in enumerate(image_ids)}
        kinds = {kind: i for i, kind in enumerate(KINDS)}
        # Tuples of shared strings: of 200,000 captions only the texts are held each for itself.
        shared: dict[Any, Any] = {}
        unique: dict[tuple[str, str, str], tuple[Any, ...]] = {}
        for row in self._iterate():
            if wanted.get(row["image_id"]) == row.get("key"):
                values = tuple(
                    value if column == "text" else shared.setdefault(value, value)
                    for column, value in ((c, row.get(c)) for c in COLUMNS)
                )
                unique.setdefault((str(values[0]), str(values[1]), str(values[2])), values)
        failed = [
            f for key, f in self.failed().items() if wanted.get(str(f.get("image_id"))) == key
        ]
        rows = sorted(unique.values(), key=lambda r: (place[r[0]], kinds.get(r[1], len(kinds))))
        del unique
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        del rows
        # A column of nothing but None has no type in Parquet that reads back as text.
        for column in COLUMNS:
            table[column] = table[column].astype(object).where(table[column].notna(), None)
        if table["meaning"].isna().all():
            table = table.drop(columns="meaning")
        write_table(self.table_path, table)
        write_json(
            self.facts_path,
            {
                "origin": dict(self.origin),
                "n_images": int(table["image_id"].nunique()),
                "n_captions": len(table),
                "notes": list(notes(table) if callable(notes) else notes),
                "failed": failed,
                "provenance": provenance(study=self.study.name),
            },
        )
        self.journal_path.unlink(missing_ok=True)
        return table


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def unfinished_sets(study: Study) -> dict[str, tuple[int, list[dict[str, str]]]]:
    """Caption sets of which something stands in a journal only: no table shows it.

    They were broken off, or all that was asked for failed.

    Returns
    -------
    dict of str to (int, list of dict)
        Name -> number of images that are captioned, and the failures (see
        :meth:`CaptionStore.failed`).
    """
    found = {}
    for journal in sorted((study.path / "captions").glob("*.jsonl")):
        origin = Origin(facts_of(study.path, journal.stem).get("origin", {}))
        store = CaptionStore(study, journal.stem, origin)
        found[journal.stem] = (len(store.done()), list(store.failed().values()))
    return found


def facts_of(folder: Path, name: str) -> dict[str, Any]:
    """What stands beside a caption set: its origin, counts and notes; empty if nothing does."""
    path = folder / "captions" / f"{name}.json"
    return dict(read_json(path, error=CaptionError, schema="caption set")) if path.exists() else {}
