"""Electrode positions by name, from the templates that MNE carries.

Positions are in meters in MNE's head coordinates (x to the right ear, y to the nasion, z up), so
that caps with different channels can be told apart by where their electrodes lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from eegprompt.core.errors import UnknownNameError

if TYPE_CHECKING:
    from mne.channels import DigMontage

__all__ = ["EEGCVPR_CHANNELS", "STANDARD_MONTAGE", "montage_names", "positions_of", "template"]

STANDARD_MONTAGE = "standard_1005"

# The 128 actiCAP channels in the order of the EEGCVPR recordings, as its maintainers posted it.
_EEGCVPR = """
    Fp1 Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 TP9 CP5 CP1 CP2 CP6 TP10 P7 P3 Pz P4 P8
    PO9 O1 Oz O2 PO10 AF7 AF3 AF4 AF8 F5 F1 F2 F6 FT9 FT7 FC3 FC4 FT8 FT10 C5 C1 C2 C6 TP7 CP3 CPz
    CP4 TP8 P5 P1 P2 P6 PO7 PO3 POz PO4 PO8 Fpz F9 AFF5h AFF1h AFF2h AFF6h F10 FTT9h FTT7h FCC5h
    FCC3h FCC1h FCC2h FCC4h FCC6h FTT8h FTT10h TPP9h TPP7h CPP5h CPP3h CPP1h CPP2h CPP4h CPP6h
    TPP8h TPP10h POO9h POO1 POO2 POO10h Iz AFp1 AFp2 FFT9h FFT7h FFC5h FFC3h FFC1h FFC2h FFC4h
    FFC6h FFT8h FFT10h TTP7h CCP5h CCP3h CCP1h CCP2h CCP4h CCP6h TTP8h P9 PPO9h PPO5h PPO1h PPO2h
    PPO6h PPO10h P10 I1 OI1h OI2h I2
"""
EEGCVPR_CHANNELS: tuple[str, ...] = tuple(_EEGCVPR.split())


@lru_cache
def montage_names() -> tuple[str, ...]:
    """Names of the templates that MNE lists; it knows some by other names besides."""
    from mne.channels import get_builtin_montages

    return (STANDARD_MONTAGE, *get_builtin_montages())


# MNE 1.13 gave the oldest templates the name of the head they were made on.
_RENAMED = {"standard_1005": "colin27_1005", "standard_1020": "colin27_1020"}


def template(montage: str = STANDARD_MONTAGE) -> DigMontage:
    """MNE's montage object of a template, whatever this version of MNE calls it.

    Parameters
    ----------
    montage : str, default "standard_1005"
        Name of a template.

    Raises
    ------
    UnknownNameError
        If there is no template of that name.
    """
    from mne.channels import get_builtin_montages, make_standard_montage

    name = _RENAMED.get(montage, montage)
    try:
        return make_standard_montage(name if name in get_builtin_montages() else montage)
    except ValueError:
        raise UnknownNameError("montage", montage, montage_names()) from None


@lru_cache(maxsize=8)
def _template_positions(montage: str) -> dict[str, tuple[float, float, float]]:
    from mne.channels.montage import transform_to_head

    positions = transform_to_head(template(montage)).get_positions()["ch_pos"]
    return {name: (float(p[0]), float(p[1]), float(p[2])) for name, p in positions.items()}


def positions_of(
    ch_names: Sequence[str] | Iterable[str], montage: str = STANDARD_MONTAGE
) -> dict[str, list[float] | None]:
    """Where electrodes lie, by their exact names.

    Parameters
    ----------
    ch_names : sequence of str
        Channel names, spelled as in the template; nothing is guessed.
    montage : str, default "standard_1005"
        One of MNE's templates (:func:`montage_names`).

    Returns
    -------
    dict of str to list of float or None
        ``[x, y, z]`` in meters, head coordinates; ``None`` for a name the template lacks.

    Raises
    ------
    UnknownNameError
        If there is no template of that name.

    Examples
    --------
    >>> positions = positions_of(["Oz", "EXG1"])
    >>> positions["EXG1"] is None and positions["Oz"][1] < -0.05  # Oz is at the back
    True
    """
    known = _template_positions(montage)
    return {str(name): list(known[name]) if name in known else None for name in ch_names}
