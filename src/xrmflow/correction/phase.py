"""Single-distance phase retrieval for an object of one material (Paganin).

Behind an object the wave's phase turns into intensity on its way to the detector: edges are drawn with a bright and a
dark line. Where refraction delta and absorption beta are in one proportion, both come from one projected thickness,
and a low-pass filter of the transmission undoes the lines::

    t_retrieved = F^-1 { F{t} / (1 + s |f|^2) },    s = pi lambda z (delta / beta) / pixel^2

with f in cycles a pixel, lambda the wavelength, z the distance the wave travels (for a cone, reduced by the
magnification) and pixel the size at the object. Minus its logarithm is the line integral of the attenuation.

Source:
    Paganin, Mayo, Gureyev, Miller, Wilkins, J. Microscopy 206, 33 (2002), eq. 10; cone: Fresnel's scaling theorem.
    With one energy: a polychromatic beam needs an effective one, and what comes out is then a filter by trial.
"""

import math

import torch
from torch import Tensor

from xrmflow.correction.steps import Steps
from xrmflow.errors import SettingsError
from xrmflow.geometry.acquisition import Acquisition

KEV_MM = 1.23984198e-6
# The filter's response falls as exp(-r / l): what is farther than this many l away adds nothing (3e-4).
REACH = 8.0
# A filter this wide is a mistake in the settings: it would blur everything.
WIDEST_PX = 256


def filter_strength(acquisition: Acquisition, steps: Steps, *, energy_kev: float | None = None) -> float:
    """The number s of the filter (dimensionless), 0 where no phase is to be retrieved.

    Args:
        acquisition: how the scan was taken.
        steps: with delta_over_beta, and distance and energy where the scan does not tell.
        energy_kev: photon energy as recorded.

    Raises:
        SettingsError: something the filter needs is neither in the settings nor in the scan.
    """
    if steps.phase == "none":
        return 0.0
    energy = steps.phase_energy_kev or energy_kev
    if steps.delta_over_beta is None:
        raise SettingsError("flatfield.delta_over_beta: expected a number for flatfield.phase: paganin, got null")
    if energy is None:
        raise SettingsError("flatfield.phase_energy_kev: expected a photon energy, the scan records none, got null")
    if not acquisition.calibrated:
        raise SettingsError(
            "flatfield.phase: paganin needs the pixel size, which is not known; set ingest.pixel_size_um"
        )
    distance = _distance_mm(acquisition, steps)
    strength = math.pi * KEV_MM / energy * distance * steps.delta_over_beta / acquisition.voxel_mm**2
    if reach_px(strength) > WIDEST_PX:
        raise SettingsError(
            f"flatfield.delta_over_beta: expected a filter of at most {WIDEST_PX} pixels, got {reach_px(strength)} "
            f"(distance {distance:.4g} mm, energy {energy:g} keV, pixel {acquisition.voxel_mm * 1000:.4g} um)"
        )
    return strength


def _distance_mm(acquisition: Acquisition, steps: Steps) -> float:
    """From object to detector, for a cone divided by the magnification."""
    near, far = acquisition.source_to_axis_mm, acquisition.source_to_detector_mm
    behind = steps.phase_distance_mm
    if behind is None and acquisition.beam == "cone" and near and far:
        behind = far - near
    if behind is None:
        raise SettingsError("flatfield.phase_distance_mm: expected the distance from object to detector, got null")
    return behind / acquisition.magnification


def reach_px(strength: float) -> int:
    """How far the filter looks, pixels."""
    return math.ceil(REACH * math.sqrt(strength) / (2 * math.pi))


def retrieve_phase(transmitted: Tensor, *, strength: float) -> Tensor:
    """Filter the transmission so that minus its logarithm is the attenuation's line integral.

    The edges are continued by their own values as far as the filter looks, so that nothing wraps around.

    Args:
        transmitted: (..., row, col) transmitted fraction.
        strength: s from `filter_strength`, dimensionless.

    Returns:
        The same shape; linear in the input.

    Raises:
        ValueError: a strength that is not a finite number of at least zero.
    """
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength: expected a finite number of at least 0, got {strength}")
    if strength == 0:
        return transmitted
    rows, cols = transmitted.shape[-2:]
    reach = reach_px(strength)
    high, wide = _even(rows + 2 * reach), _even(cols + 2 * reach)
    images = transmitted.reshape(-1, 1, rows, cols)
    margins = (reach, wide - cols - reach, reach, high - rows - reach)
    padded = torch.nn.functional.pad(images, margins, mode="replicate")
    response = transfer(high, wide, strength=strength).to(padded)
    filtered = torch.fft.irfft2(torch.fft.rfft2(padded) * response, s=(high, wide))
    return filtered[..., reach : reach + rows, reach : reach + cols].reshape(transmitted.shape)


def transfer(rows: int, cols: int, *, strength: float) -> Tensor:
    """1 / (1 + s |f|^2) at the frequencies of a real Fourier transform: (row, col / 2 + 1), float64."""
    along, across = torch.fft.fftfreq(rows, dtype=torch.float64), torch.fft.rfftfreq(cols, dtype=torch.float64)
    return 1 / (1 + strength * (along[:, None].square() + across.square()))


def _even(size: int) -> int:
    """The next size that Fourier transforms are quick at: factors of two, three and five."""
    size += size % 2
    while _largest_factor(size) > 5:
        size += 2
    return size


def _largest_factor(size: int) -> int:
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    return size
