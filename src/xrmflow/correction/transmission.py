"""Counts to transmission to line integrals: the differentiable core of the correction.

Everything here is plain torch arithmetic with gradients to the counts, the flats and the darks. Shapes broadcast: a
reference may be (row, col), (1, row, col) or one frame a view (view, row, col).
"""

import torch
from torch import Tensor

MINIMUM_TRANSMISSION = 1e-4


def open_beam(flat: Tensor, dark: Tensor | float = 0.0, *, exposure_ratio: float = 1.0) -> Tensor:
    """Signal without an object, I0 = (flat - dark) * exposure_ratio, in grey levels.

    Args:
        flat: (..., row, col) averaged flat field, grey levels.
        dark: the same shape or a number, grey levels.
        exposure_ratio: exposure of a projection over that of a flat, dimensionless.

    Raises:
        ValueError: exposure_ratio is not a positive number.
    """
    if not exposure_ratio > 0 or exposure_ratio == float("inf"):
        raise ValueError(f"exposure_ratio: expected a positive number, got {exposure_ratio}")
    return (flat - dark) * exposure_ratio


def transmission(counts: Tensor, dark: Tensor | float, beam: Tensor) -> Tensor:
    """Transmitted fraction t = (counts - dark) / I0; zero where the detector saw no open beam.

    Args:
        counts: (view, row, col) grey levels.
        dark: (row, col) or a number, grey levels.
        beam: I0 from `open_beam`, grey levels.
    """
    lit = beam > 0
    return torch.where(lit, (counts - dark) / torch.where(lit, beam, 1.0), 0.0)


def line_integrals(
    transmitted: Tensor,
    photons: Tensor | None = None,
    *,
    minimum_transmission: float = MINIMUM_TRANSMISSION,
) -> Tensor:
    """Line integrals of the attenuation from the transmitted fraction.

    With the open-beam photons N0 known, p = -ln((max(t, 0) N0 + 1/2) / N0), whose noise is unbiased to second order in
    1/counts, where -ln(t) is off by 1/(2 counts). Without, p = -ln(max(t, minimum_transmission)).

    Args:
        transmitted: (view, row, col) transmitted fraction t, dimensionless.
        photons: open-beam photons per pixel and view N0, broadcastable; None when the detector gain is not known.
        minimum_transmission: floor of t where the gain is not known.

    Returns:
        (view, row, col) dimensionless line integrals.

    Source:
        The half-count offset is the classical continuity correction of the log of a Poisson count (Anscombe 1956).
    """
    if photons is None:
        return -torch.log(transmitted.clamp_min(minimum_transmission))
    photons = photons.clamp_min(1.0)
    return -torch.log(transmitted.clamp_min(0.0) + 0.5 / photons)
