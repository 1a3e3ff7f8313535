"""Which channels of a file are read, by what names, and where they lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from eegprompt.core.errors import RecordingError, UnknownNameError
from eegprompt.signal.channel_names import names_no_eeg, standard_names
from eegprompt.signal.montage import montage_names, positions_of, template

__all__ = [
    "default_channels",
    "note_left_out",
    "pick_channels",
    "place_channels",
    "renamed_channels",
    "standard_channels",
]

_BIOSEMI = re.compile(r"[A-H]\d{1,2}")


def _is_template(montage: str | None) -> bool:
    return montage is not None and montage != "file"


def standard_channels(
    names: Sequence[str], montage: str | None, notes: list[str]
) -> dict[str, str]:
    """A template's spelling of the channels that a file spells in another way.

    Parameters
    ----------
    names : sequence of str
        Channels of the file.
    montage : str or None
        The template; with none, or 'file', names stay as they are.
    notes : list of str
        Receives a sentence on what was taken for what.
    """
    if montage is None or not _is_template(montage):
        return {}
    found = standard_names(names, template(montage).ch_names)
    if found:
        some = ", ".join(f"{old} = {new}" for old, new in list(found.items())[:8])
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        notes.append(f"channels were named as {montage} does: {some}{more}")
    return found


def renamed_channels(
    path: Path, names: Sequence[str], rename: Mapping[str, str], notes: list[str]
) -> dict[str, str]:
    """Names in a file -> names to use, of the channels that it has.

    A channel that the file does not have, though it has the new name, is noted: another file of the
    import may have the old one.

    Raises
    ------
    UnknownNameError
        If the file has neither.
    RecordingError
        If two channels would have one name.
    """
    for old, new in rename.items():
        if old not in names and new not in names:
            raise UnknownNameError(f"channel to rename in {path.name}", old, names)
        if old not in names:
            notes.append(f"{path.name} has no channel '{old}' to rename; it has '{new}' already")
    found = {old: new for old, new in rename.items() if old in names}
    if len({found.get(name, name) for name in names}) < len(set(names)):
        raise RecordingError(f"{path}: renaming gives two channels one name; choose other names")
    return found


def default_channels(names: Sequence[str], montage: str | None) -> list[str]:
    """Channels that are EEG, as far as their names say: a template's, and none called EOG and the like.

    Parameters
    ----------
    names : sequence of str
        Channels that may be EEG by their type and unit.
    montage : str or None
        The template.
    """
    known: set[str] = set()
    if montage is not None and _is_template(montage):
        known = set(template(montage).ch_names)
    return [name for name in names if name in known or not names_no_eeg(name)]


def note_left_out(names: Sequence[str], notes: list[str]) -> None:
    """Say which channels of a file are not read because they are no EEG."""
    if names:
        more = f" and {len(names) - 12} more" if len(names) > 12 else ""
        notes.append(f"channels that are not EEG were left out: {', '.join(names[:12])}{more}")


def pick_channels(
    path: Path,
    available: Sequence[str],
    default: Sequence[str],
    channels: Sequence[str] | None,
    exclude: Sequence[str],
    spelled: Mapping[str, str] | None = None,
) -> list[str]:
    """Names of the channels to read, after renaming.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    available : sequence of str
        All channels that can be named.
    default : sequence of str
        Those to read when none are named.
    channels : sequence of str, optional
        Those named.
    exclude : sequence of str
        Those to leave out.
    spelled : mapping of str to str, optional
        Another spelling -> the name, by which channels may be named too.

    Raises
    ------
    UnknownNameError
        If a channel that was named is not in the file.
    RecordingError
        If none is left, or one would be read twice.
    """
    names = spelled or {}

    def found(name: str) -> str:
        return names.get(name, name) if name not in available else name

    asked = None if channels is None else [found(name) for name in channels]
    left = [found(name) for name in exclude]
    for what, wanted in (("channel", asked or ()), ("channel to exclude", left)):
        for name in wanted:
            if name not in available:
                raise UnknownNameError(f"{what} in {path.name}", name, available)
    chosen = list(default) if asked is None else asked
    chosen = [name for name in chosen if name not in set(left)]
    if len(set(chosen)) != len(chosen):
        twice = [name for name, count in Counter(chosen).items() if count > 1]
        raise RecordingError(f"{path} has or is asked for channel '{twice[0]}' twice; rename one")
    if not chosen:
        raise RecordingError(
            f"{path} has no channel left to read; it holds {', '.join(available) or 'none'}: name "
            "some with 'channels'"
        )
    return chosen


def place_channels(
    names: Sequence[str],
    measured: Mapping[str, Sequence[float]],
    montage: str,
    *,
    asked: bool,
    typed: bool,
    path: Path,
    notes: list[str],
) -> dict[str, list[float]]:
    """Where the channels lie; one of which nothing says it has no entry, and a note names it.

    Parameters
    ----------
    names : sequence of str
        Channels of the study.
    measured : mapping of str to sequence of float
        Positions that the file holds.
    montage : str
        The template, or 'file'.
    asked : bool
        The template was asked for, so that it goes before the file's positions.
    typed : bool
        Something says of each channel that it is EEG, so that one without a position is kept.
    path : pathlib.Path
        The file, for messages.
    notes : list of str
        Receives what a person should know.

    Raises
    ------
    RecordingError
        If no position was found in the file that should hold them, or a channel without one may be
        no EEG.
    """
    own = {c: list(measured[c]) for c in names if c in measured}
    if montage == "file":
        if not own:
            raise RecordingError(
                f"{path} gives no positions for {', '.join(names[:8])}; name a template "
                "with 'montage' (e.g. standard_1005), or 'none'"
            )
        found = own
    elif not asked and len(own) == len(names):
        notes.append(
            "the electrode positions are those of the file; pass 'montage' for a template's"
        )
        return own
    else:
        found = {c: list(w) for c, w in positions_of(names, montage).items() if w is not None}
        others = [c for c in names if c not in found]
        if any(_BIOSEMI.fullmatch(c) for c in others):
            # In that scheme A1 and A2 are places on the scalp, not the ears.
            found = {c: where for c, where in found.items() if not _BIOSEMI.fullmatch(c)}
        if own and not asked:
            notes.append(
                f"{path.name} holds the positions of {len(own)} of {len(names)} channels; the others' "
                f"are those of {montage}"
            )
            found |= own
    unplaced = [c for c in names if c not in found]
    if unplaced:
        listed = ", ".join(unplaced[:8]) + (" …" if len(unplaced) > 8 else "")
        better = _better_template(unplaced, montage)
        if not typed:
            raise RecordingError(
                f"{path}: the montage {montage} has no channel {listed}; correct the names with "
                f"'rename', leave such channels out with 'exclude', keep them with 'channels', or "
                f"pass 'montage={better or 'none'}'"
            )
        notes.append(
            f"{len(unplaced)} of {len(names)} channels have no position and were kept without one: "
            f"{listed}" + (f"; the montage {better} has them" if better else "")
        )
    return {c: found[c] for c in names if c in found}


def _better_template(unplaced: Sequence[str], montage: str) -> str | None:
    """A template that knows all of some channels, where several are unknown."""
    if len(unplaced) < 4:
        return None
    for name in montage_names():
        if name != montage and set(unplaced) <= set(template(name).ch_names):
            return name
    return None
