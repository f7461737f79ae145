"""Which corrections are applied, as a value: the plain-Python twin of the flatfield settings."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Steps:
    """Which corrections are applied; the fields of the settings section of the same names.

    Attributes:
        missing_flat: what to do with counts without a flat: "error", "estimate" it from the edges of the scan, or
            "none": divide
            by nothing, the recorded values being taken for transmissions.
        missing_dark: "error", or "zero": the detector is taken to have subtracted it.
        flats: "mean", "interpolate" between the times they were taken, or "dynamic": a mean and
            components whose weights are found for each view.
        open_beam: "auto" normalises to the air at the edges where there is some, "none" does not.
        photons_per_count: detector gain, photons per grey level; None estimates it from repeated flats.
        minimum_transmission: floor of the transmission where the gain is not known.
        outlier_sigmas: threshold; None leaves outliers.
        dead_pixel_tolerance: relative difference of a flat from its surroundings; None leaves dead pixels.
        phase: "none" or "paganin", an object of one material.
        delta_over_beta: refraction over absorption of that material.
        phase_distance_mm: from object to detector; None takes the cone's geometry.
        phase_energy_kev: photon energy; None takes the recorded one.
        rings: "none", "offset", "sorting" or "wavelet_fourier".
        ring_size_px: width of the sorting method's median, columns.
        ring_levels, ring_width: of the wavelet-Fourier method.
    """

    missing_flat: Literal["error", "estimate", "none"] = "error"
    missing_dark: Literal["error", "zero"] = "zero"
    flats: Literal["mean", "interpolate", "dynamic"] = "mean"
    open_beam: Literal["auto", "none"] = "auto"
    photons_per_count: float | None = None
    minimum_transmission: float = 1e-4
    outlier_sigmas: float | None = 8.0
    dead_pixel_tolerance: float | None = 0.5
    phase: Literal["none", "paganin"] = "none"
    delta_over_beta: float | None = None
    phase_distance_mm: float | None = None
    phase_energy_kev: float | None = None
    rings: Literal["none", "offset", "sorting", "wavelet_fourier"] = "offset"
    ring_size_px: int = 11
    ring_levels: int = 4
    ring_width: float = 1.0
