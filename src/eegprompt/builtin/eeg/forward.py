"""The forward model: which potentials a dipole in the head makes at the electrodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from eegprompt.signal.montage import STANDARD_MONTAGE, positions_of, template

__all__ = ["Head", "head_model", "patch_topography"]


@dataclass(frozen=True)
class Head:
    """A spherical head with a cap and a shell of dipoles.

    Attributes
    ----------
    ch_names : tuple of str
        Electrodes.
    center : array (3,)
        Center of the sphere, meters, head coordinates.
    radius : float
        Radius of the scalp, meters.
    depth : float
        Radius of the dipoles' shell over that of the scalp.
    dipoles : array (n_dipoles, 3)
        Positions, meters, head coordinates.
    leadfield : array (n_chans, n_dipoles, 3)
        Volts per ampere-meter along each axis of head coordinates, average reference.
    """

    ch_names: tuple[str, ...]
    center: np.ndarray
    radius: float
    depth: float
    dipoles: np.ndarray
    leadfield: np.ndarray

    def below(self, electrode: str) -> np.ndarray:
        """Point of the dipoles' shell under an electrode, meters, head coordinates."""
        position = positions_of([electrode])[electrode]
        assert position is not None
        return self.on_shell(np.array(position) - self.center)

    def on_shell(self, direction: np.ndarray) -> np.ndarray:
        """Point of the dipoles' shell in a direction from the center."""
        unit = direction / np.linalg.norm(direction)
        return self.center + unit * self.depth * self.radius


def _even_directions(n: int) -> np.ndarray:
    """Directions spread evenly over the sphere (a Fibonacci lattice), shape (n, 3)."""
    index = np.arange(n) + 0.5
    z = 1 - 2 * index / n
    angle = np.pi * (1 + 5**0.5) * index
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)


@lru_cache(maxsize=4)
def head_model(ch_names: tuple[str, ...], n_dipoles: int, depth: float) -> Head:
    """Compute the leadfield of a four-shell sphere with MNE; kept within the process.

    Parameters
    ----------
    ch_names : tuple of str
        Electrodes of the standard 10–05 template.
    n_dipoles : int
        How many dipole positions on the shell.
    depth : float
        Radius of the shell over that of the scalp.
    """
    import mne

    with mne.utils.use_log_level("ERROR"):
        info = mne.create_info(list(ch_names), 1000.0, "eeg")
        info.set_montage(template(STANDARD_MONTAGE))
        sphere = mne.make_sphere_model("auto", "auto", info=info)
        center = np.array(sphere["r0"])
        radius = float(sphere["layers"][-1]["rad"])
        directions = _even_directions(n_dipoles)
        dipoles = center + directions * depth * radius
        sources = mne.setup_volume_source_space(
            pos={"rr": dipoles, "nn": directions}, sphere=sphere, mindist=0.0, exclude=0.0
        )
        forward = mne.make_forward_solution(
            info,
            mne.transforms.Transform("head", "mri"),
            sources,
            sphere,
            meg=False,
            eeg=True,
            mindist=0.0,
        )
    leadfield = forward["sol"]["data"].reshape(len(ch_names), n_dipoles, 3)
    leadfield = leadfield - leadfield.mean(axis=0)
    leadfield.setflags(write=False)
    return Head(ch_names, center, radius, depth, dipoles, leadfield)


def patch_topography(
    head: Head, position: np.ndarray, orientation: np.ndarray, patch: float
) -> np.ndarray:
    """Potentials of a patch of cortex of unit dipole moment.

    Parameters
    ----------
    head : Head
        The forward model.
    position : array (3,)
        Center of the patch, meters, head coordinates.
    orientation : array (3,)
        Unit vector.
    patch : float
        Standard deviation of the patch in meters; dipoles are weighted by a Gaussian of distance.

    Returns
    -------
    array (n_chans,)
        Volts per ampere-meter, average reference.
    """
    distance2 = ((head.dipoles - position) ** 2).sum(axis=1)
    weight = np.exp(-(distance2 - distance2.min()) / (2 * patch**2))
    weight /= weight.sum()
    return np.einsum("cdk,d,k->c", head.leadfield, weight, orientation)
