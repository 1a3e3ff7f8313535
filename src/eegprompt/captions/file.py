"""Captions brought by the user: CSV, JSONL, Parquet, COCO-style JSON, or one text file an image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eegprompt.captions.base import Answered, Captioner
from eegprompt.captions.validity import MAX_WORDS
from eegprompt.core.errors import CaptionError, UnknownNameError
from eegprompt.core.files import content_key, sha256_file
from eegprompt.core.kinds import KINDS, parse_kinds
from eegprompt.core.long_rows import long_rows_refused
from eegprompt.study import Study

__all__ = ["FileCaptioner"]

_FILE_KEYS = ("image", "file", "file_name", "filename", "path")
_KEYS = ("image_id", *_FILE_KEYS, "category")
_TEXT = ("text", "caption")
# Columns that say something about a caption, not another caption; an exported set has them.
_BESIDE = frozenset(
    ("meaning", "level", "captioner", "model", "prompt_version", "image_sha256", "created", "key")
)


@dataclass(frozen=True)
class _Row:
    """One caption of the file, with the line it stands on."""

    line: int
    target: str
    kind: str
    text: str
    meaning: str | None


class FileCaptioner(Captioner):
    """Takes captions from a file.

    The file has one row a caption (columns `kind` and `text`), or one row an image with a column a
    kind; several rows, or in JSONL lists, give several phrasings. Rows name what they describe by
    `image_id`, by file name (`image`, `file`, `file_name`) or by `category`. Any subset of the
    kinds will do, as long as every image has it.

    Captions given for a category hold for each of its images, and their `meaning` is the category
    (unless the file has a column `meaning`): all phrasings of one kind for one category are the
    same answer in retrieval.

    Parameters
    ----------
    path : path-like
        The file: .csv, .tsv, .jsonl, .parquet, or .json as COCO has it (``images`` with `id` and
        `file_name`, ``annotations`` with `image_id` and `caption`). Or a folder of text files, one
        an image and named like it (``img-1.txt``), each line a phrasing; folders named for kinds
        in it hold captions of those kinds.
    allow_missing : bool
        Go on if some images have no captions.
    kind : str, default "ObjectSnap"
        Kind of captions in files that do not say it: COCO without `kind`, and text files that lie
        in no kind's folder.
    kinds : str or iterable of str, optional
        Kinds that are taken, as :func:`eegprompt.core.kinds.parse_kinds` reads them; a file of
        one's own kinds may be among them. Default all.

    Raises
    ------
    CaptionError
        If the file cannot be read, a caption is empty, or columns are missing.
    UnknownNameError
        If there is no such kind.

    Examples
    --------
    The smallest file::

        category,kind,text
        face,ObjectSnap,a face
        house,ObjectSnap,a house
    """

    name = "file"

    def __init__(
        self,
        path: str | Path | None,
        *,
        allow_missing: bool = False,
        kind: str = "ObjectSnap",
        kinds: str | Sequence[str] | None = None,
    ):
        if not path:
            raise CaptionError(
                "the captioner 'file' needs the file: file:PATH, e.g. file:captions.csv"
            )
        self.path = Path(path)
        self.allow_missing = allow_missing
        taken = parse_kinds(kinds)
        if kind not in KINDS:
            raise UnknownNameError("caption kind", kind, KINDS)
        if self.path.is_dir():
            records, digest = _folder_records(self.path, kind)
        else:
            suffix = self.path.suffix.lower()
            if suffix != ".json" and suffix not in _PARSERS:
                raise CaptionError(
                    f"{self.path} has an unknown format '{self.path.suffix}'; captions come as "
                    f"{', '.join(_PARSERS)}, .json (COCO) or a folder of text files"
                )
            if not self.path.is_file():
                raise CaptionError(f"the caption file {self.path} does not exist")
            records = (
                _coco_records(self.path, kind) if suffix == ".json" else _PARSERS[suffix](self.path)
            )
            digest = sha256_file(self.path)[:12]
        self.target_column, rows = _rows_of(self.path, records)
        self._rows = [row for row in rows if row.kind in taken]
        self.model, self.prompt_version = self.path.name, digest
        present = {row.kind for row in self._rows}
        self.kinds = tuple(kind for kind in KINDS if kind in present)

    def check(self, study: Study, image_ids: Sequence[str] | None = None) -> list[str]:
        """Compare the file with a study.

        Parameters
        ----------
        study : Study
        image_ids : sequence of str, optional
            Default all images of the study.

        Returns
        -------
        list of str
            What a person should know, a sentence each.

        Raises
        ------
        CaptionError
            If no row fits the study, or an image lacks captions or a kind that others have.
        """
        ids = list(study.images["image_id"] if image_ids is None else image_ids)
        by_image, unknown = self._match(study, ids)
        notes = []
        if not any(by_image.values()):
            wanted = "categories" if self.target_column == "category" else "images"
            known = study.categories if self.target_column == "category" else ids
            raise CaptionError(
                f"{self.path} describes none of the study's {wanted} ({', '.join(known[:5])}"
                f"{' …' if len(known) > 5 else ''}); its column '{self.target_column}' holds "
                f"{', '.join(unknown[:5])}"
            )
        if unknown:
            notes.append(
                f"{len(unknown)} entries of {self.path.name} are not in the study and were passed "
                f"over (first: {', '.join(unknown[:5])})"
            )
        missing = [i for i in ids if not by_image[i]]
        if missing:
            sentence = (
                f"{len(missing)} of {len(ids)} images have no captions in {self.path.name} (first: "
                f"{', '.join(missing[:5])})"
            )
            if not self.allow_missing:
                raise CaptionError(f"{sentence}; add them, or pass -o allow_missing=true")
            notes.append(sentence)
        for image_id in ids:
            lacking = set(self.kinds) - {row.kind for row in by_image[image_id]}
            if by_image[image_id] and lacking:
                names = ", ".join(k for k in KINDS if k in lacking)
                raise CaptionError(
                    f"image '{image_id}' has no caption of the kinds {names}, which others have in "
                    f"{self.path.name}; a kind must be there for every image or for none"
                )
        absent = [kind for kind in KINDS if kind not in self.kinds]
        if absent:
            notes.append(f"{self.path.name} has no captions of the kinds {', '.join(absent)}")
        long = [row for row in self._rows if len(row.text.split()) > MAX_WORDS]
        if long:
            notes.append(
                f"{len(long)} captions are longer than {MAX_WORDS} words (first: line "
                f"{long[0].line}, {len(long[0].text.split())} words); prompts have room for few such"
            )
        meanings: dict[tuple[str, str], set[str]] = {}
        for row in self._rows:
            if row.meaning is not None:
                meanings.setdefault((row.kind, row.text.lower()), set()).add(row.meaning)
        double = sorted(key for key, values in meanings.items() if len(values) > 1)
        if double:
            kind, text = double[0]
            notes.append(
                f"{len(double)} texts stand for more than one meaning (first: {kind} '{text}'), so "
                "they cannot tell those apart"
            )
        return notes

    def answers(self, study: Study, image_ids: Sequence[str]) -> Iterator[Answered]:
        """Yield each image's id and its rows with `kind`, `text` and `meaning`."""
        by_image, _ = self._match(study, image_ids)
        order = {kind: i for i, kind in enumerate(KINDS)}
        for image_id in image_ids:
            rows = sorted(by_image[image_id], key=lambda r: order[r.kind])
            if rows:
                yield image_id, [asdict(row) for row in rows], None

    def _match(
        self, study: Study, image_ids: Sequence[str]
    ) -> tuple[dict[str, list[_Row]], list[str]]:
        """Rows of each image, and targets of the file that the study does not have."""
        images = study.images.set_index("image_id")
        of_target: dict[str, list[_Row]] = {}
        for row in self._rows:
            of_target.setdefault(row.target, []).append(row)
        names: dict[str, set[str]] = {}
        for image_id in images.index:
            if self.target_column == "image_id":
                called = {str(image_id)}
            elif self.target_column == "category":
                called = {str(images.loc[image_id, "category"])}
            else:
                called = _file_names(images.loc[image_id].to_dict(), str(image_id))
            names[str(image_id)] = called
        known = set().union(*names.values()) if names else set()
        by_image = {
            i: [row for name in sorted(names.get(i, ())) for row in of_target.get(name, [])]
            for i in image_ids
        }
        return by_image, [target for target in of_target if target not in known]


def _file_names(image: Mapping[str, Any], image_id: str) -> set[str]:
    """Everything a file may call an image: its path or name, with suffix and without."""
    called = {image_id}
    for field in ("path", "name"):
        text = image.get(field)
        if isinstance(text, str) and text:
            path = Path(text.replace("\\", "/"))
            called |= {text, path.name, path.stem}
    return called


# -- parsing -------------------------------------------------------------------------------------
def _table_records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
            first_line = 1
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            header = pd.read_csv(
                path, sep=separator, nrows=1, header=None, dtype=str, encoding="utf-8-sig"
            )
            names = [str(n).strip() for n in header.iloc[0]]
            if len(set(names)) != len(names):
                raise CaptionError(f"{path} has two columns of one name; rename one of them")
            with long_rows_refused():
                table = pd.read_csv(
                    path,
                    sep=separator,
                    header=0,
                    names=names,
                    dtype=str,
                    keep_default_na=False,
                    encoding="utf-8-sig",
                    index_col=False,
                    skip_blank_lines=False,
                )
            first_line = 2
    except CaptionError:
        raise
    except Exception as problem:  # pandas raises many kinds; each means the file is no table
        reason = " ".join(str(problem).split())[:150] or type(problem).__name__
        remedy = (
            "get or write it again"
            if path.suffix.lower() == ".parquet"
            else "write it as UTF-8 with a header line, and put texts that hold commas in double quotes"
        )
        raise CaptionError(
            f"{path} cannot be read as {path.suffix[1:].upper()} ({reason}); {remedy}"
        ) from None
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    return [
        (i, {str(k): v for k, v in record.items()}) for i, record in enumerate(records, first_line)
    ]


def _json_records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    records = []
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise CaptionError(f"{path} is not UTF-8 text; write it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise CaptionError(f"{path}, line {number} is not valid JSON ({problem})") from None
        if not isinstance(record, dict):
            raise CaptionError(f"{path}, line {number} must be an object, {{...}}")
        inner = record.pop("captions", None)  # {"image_id": ..., "captions": {kind: text}}
        if isinstance(inner, dict):
            record |= inner
        elif inner is not None:
            raise CaptionError(
                f"{path}, line {number}: 'captions' must be an object of kinds and texts"
            )
        records.append((number, record))
    return records


def _coco_records(path: Path, kind: str) -> list[tuple[int, dict[str, Any]]]:
    """Annotations of a COCO-style file; the "line" is the annotation's number."""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as problem:
        reason = " ".join(str(problem).split())[:100]
        raise CaptionError(f"{path} is not valid JSON ({reason})") from None
    lists = [content.get(part) if isinstance(content, dict) else None
             for part in ("images", "annotations")]  # fmt: skip
    if not all(isinstance(part, list) and all(isinstance(x, dict) for x in part) for part in lists):
        raise CaptionError(
            f"{path} is no COCO file: it must be an object with the lists 'images' (id, file_name) "
            "and 'annotations' (image_id, caption)"
        )
    images, annotations = (part or [] for part in lists)
    names = {str(image.get("id")): image.get("file_name") for image in images}
    records = []
    for number, annotation in enumerate(annotations, 1):
        file_name = names.get(str(annotation.get("image_id")))
        if not isinstance(file_name, str) or not file_name:
            raise CaptionError(
                f"{path}, annotation {number}: image_id {annotation.get('image_id')!r} has no "
                "file_name among 'images'"
            )
        records.append(
            (
                number,
                {
                    "file_name": file_name,
                    "kind": annotation.get("kind") or kind,
                    "text": annotation.get("caption"),
                },
            )
        )
    return records


def _folder_records(folder: Path, kind: str) -> tuple[list[tuple[int, dict[str, Any]]], str]:
    """Lines of the text files in a folder, and a key of their content."""
    records: list[tuple[int, dict[str, Any]]] = []
    contents: list[Any] = []
    for path in sorted(folder.rglob("*.txt")):
        inside = path.relative_to(folder)
        own_kind = next((part for part in inside.parts[:-1] if part in KINDS), kind)
        try:
            text = path.read_text("utf-8-sig")
        except UnicodeDecodeError:
            raise CaptionError(f"{path} is not UTF-8 text; write it as UTF-8") from None
        contents.append([inside.as_posix(), text])
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not lines:
            raise CaptionError(f"{path} is empty; write the caption into it, or delete it")
        records += [(n, {"file": path.stem, "kind": own_kind, "text": line}) for n, line in lines]
    return records, content_key(contents, length=12)


# Suffix -> what reads it into (line, fields) pairs.
_PARSERS: dict[str, Callable[[Path], list[tuple[int, dict[str, Any]]]]] = {
    ".csv": _table_records,
    ".tsv": _table_records,
    ".parquet": _table_records,
    ".jsonl": _json_records,
}


def _rows_of(path: Path, records: list[tuple[int, dict[str, Any]]]) -> tuple[str, list[_Row]]:
    """The captions of a file, long or wide, and the column that says what they describe."""
    if not records:
        raise CaptionError(f"{path} holds no captions")
    fields = list(dict.fromkeys(field for _, record in records for field in record))
    target = next((key for key in _KEYS if key in fields), None)
    if target is None:
        raise CaptionError(
            f"{path} needs a column that says what a caption describes: image_id, image or category; "
            f"it has {', '.join(fields)}"
        )
    text_field = next((name for name in _TEXT if name in fields), None)
    long = "kind" in fields
    if long and text_field is None:
        raise CaptionError(f"{path} has a column 'kind' but none called 'text'; it has {fields}")
    beside = _BESIDE | set(_KEYS)
    kinds = [f for f in fields if f not in beside and f not in ("kind", *_TEXT)]
    if not long:
        for field in kinds:
            if field not in KINDS:
                raise UnknownNameError(f"caption kind (column of {path.name})", field, KINDS)
        if not kinds:
            raise CaptionError(
                f"{path} has neither the columns 'kind' and 'text' nor a column a kind; the kinds are "
                f"{', '.join(KINDS)}"
            )
    rows: dict[tuple[str, str, str], _Row] = {}
    for line, record in records:
        name = str(record.get(target) or "").strip()
        if not name:
            if not any(str(v or "").strip() for v in record.values()):
                continue  # an empty line
            raise CaptionError(f"{path}, line {line}: column '{target}' is empty")
        pairs = (
            [(record.get("kind"), record.get(text_field or ""))]
            if long
            else [(kind, record.get(kind)) for kind in kinds if kind in record]
        )
        for kind, value in pairs:
            kind = str(kind or "").strip()
            if kind not in KINDS:
                raise UnknownNameError(f"caption kind ({path.name}, line {line})", kind, KINDS)
            for text in value if isinstance(value, (list, tuple)) else [value]:
                if not isinstance(text, (str, type(None))):
                    raise CaptionError(
                        f"{path}, line {line}: a caption is text, got {text!r} for {kind}"
                    )
                clean = " ".join((text or "").split())
                if not clean:
                    raise CaptionError(
                        f"{path}, line {line}: the caption {kind} of '{name}' is empty; give it a "
                        "text, or leave the kind out for every image"
                    )
                meaning = record.get("meaning")
                if meaning is None or not str(meaning).strip():
                    meaning = name if target == "category" else None
                row = _Row(line, name, kind, clean, None if meaning is None else str(meaning))
                rows.setdefault((name, kind, clean), row)
    return target, list(rows.values())
