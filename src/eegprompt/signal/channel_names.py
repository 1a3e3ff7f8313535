"""What channel names say: the electrode of a template, or that a channel is no EEG."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

__all__ = ["names_no_eeg", "standard_names"]

# Before T7, T8, P7 and P8 became the names of these places.
_OLD = {"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8"}
_OLD |= {new: old for old, new in _OLD.items()}
_PREFIX = re.compile(r"^(EEG|POL)[ _:-]+", re.IGNORECASE)
_REFERENCE = re.compile(
    r"[ _-]+(REF|LE|AR|AV|AVG|AVE|AVERAGE|CAR|RE|[AM]1|[AM]2|[AM]1[+/-]?[AM]2)$", re.IGNORECASE
)
_NO_EEG = re.compile(
    r"[HVLRB]{0,2}EOG[A-Z]*|E[CK]G[A-Z]*|EMG[A-Z]*|GSR|EDA|SCR|SCL|RESP[A-Z]*|AIRFLOW|FLOW|THORAX"
    r"|ABDOMEN|NASAL|SNORE|PLETH|PPG|PULSE|SPO|SAO|TEMP|TEMPERATURE|STATUS|TRIG[A-Z]*|MARK[A-Z]*"
    r"|STI|STIM[A-Z]*|EVENTS?|PHOTO[A-Z]*|DIODE|AUX[A-Z]*|EXG|DC|BIP|ACC[A-Z]*|GYRO[A-Z]*|MISC"
    r"|REF|REFERENCE|GND|GROUND|ANNOTATIONS?|COUNTER|BATTERY|PACKET|TIME[A-Z]*|INDEX|SAMPLES?"
    r"|AUDIO|MIC|BUTTON|GAZE[A-Z]*|PUPIL[A-Z]*|EYE[A-Z]*",
    re.IGNORECASE,
)


def standard_names(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """A template's spelling of channel names that it has in another.

    Case, trailing dots, the prefix EEG, a common reference (``Fp1-REF``, ``Fp1-LE``) and old names
    (T3, T4, T5, T6) make no difference. A name that the template has is never changed, and two names
    that would become one are left as they are.

    Parameters
    ----------
    names : iterable of str
        Channel names as a file spells them.
    known : collection of str
        The template's names.

    Returns
    -------
    dict of str to str
        Only the names that change.

    Examples
    --------
    >>> standard_names(
    ...     ["Fz", "FP1", "Oz..", "EEG C3-REF", "T3", "Fp1-F3"], ["Fz", "Fp1", "Oz", "C3", "T7"]
    ... )
    {'FP1': 'Fp1', 'Oz..': 'Oz', 'EEG C3-REF': 'C3', 'T3': 'T7'}
    """
    names = list(names)
    folded = {name.casefold(): name for name in known}
    found: dict[str, str] = {}
    for name in names:
        if name in known:
            continue
        bare = _bare(name)
        for text in (name.strip(), bare):
            key = text.casefold()
            match = folded.get(key) or folded.get(_OLD.get(key, ""))
            if match is not None:
                found[name] = match
                break
    counts = Counter(found.get(name, name) for name in names)
    return {name: new for name, new in found.items() if counts[new] == 1}


def names_no_eeg(name: str) -> bool:
    """Whether a name says that its channel is no EEG: EOG, ECG, EMG, a trigger, and so on.

    Examples
    --------
    >>> [names_no_eeg(n) for n in ("HEOG", "EMG-chin", "Status", "Right AUX", "Fz", "EEG X1-REF")]
    [True, True, True, True, False, False]
    """
    return any(_NO_EEG.fullmatch(word) for word in re.findall(r"[A-Za-z]+", _bare(name)))


def _bare(name: str) -> str:
    """A name without trailing dots, prefix and common reference."""
    text = _PREFIX.sub("", name.strip().rstrip("."))
    return _REFERENCE.sub("", text).strip().rstrip(".") or text
