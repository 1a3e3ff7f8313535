"""Audits of a study on disk, and whether they still hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import StudyError
from eegprompt.core.files import content_key, read_json
from eegprompt.core.schemas import check_content
from eegprompt.study import Study
from eegprompt.study.split import Split

if TYPE_CHECKING:
    pass

__all__ = ["NO_SPLIT", "audit_key", "audits_of", "read_audit"]

NO_SPLIT = "(none)"


FORMAT = 2  # 1 knew no nuisance but slow activity and the mean


def audit_key(study: Study, split: Split | None) -> str:
    """Content key of what an audit looked at: the study and the split's folds."""
    folds = [] if split is None else [(f.train, f.val, f.test) for f in split.folds]
    return content_key(study.key, *[side for fold in folds for side in fold])


def audits_of(study: Study) -> dict[str, dict[str, Any]]:
    """All audits of a study, by split, each with ``stale``: whether the study or split changed since.

    Parameters
    ----------
    study : Study

    Returns
    -------
    dict of str to dict
        Empty where the study was never audited.
    """
    found = stored_audits(study)
    for name, one in found.items():
        if name == NO_SPLIT:
            key = audit_key(study, None)
        else:
            key = audit_key(study, study.split(name)) if name in study.split_names() else ""
        one["stale"] = one.get("key") != key
    return found


def read_audit(study: Study, split: str) -> dict[str, Any] | None:
    """The audit of one split of a study, with ``stale``; None where none was made."""
    return audits_of(study).get(split)


def stored_audits(study: Study) -> dict[str, dict[str, Any]]:
    """A study's audits as they are on disk, by split."""
    path = Path(study.path) / "audit.json"
    if not path.exists():
        return {}
    content = read_json(path, error=StudyError, schema="audit of any format")
    if content["format"] != FORMAT:
        return {}
    check_content(content, "audit", path, StudyError)
    return dict(content.get("splits") or {})
