"""Settings of flatfield: counts to line integrals."""

from typing import Literal

from pydantic import Field, field_validator

from xrmflow.config.section import Section


class FlatfieldSection(Section):
    """Dark and flat, open beam, outliers, dead pixels, rings, logarithm."""

    missing_flat: Literal["error", "estimate", "none"] = Field(
        default="error",
        description="What to do with counts without flat frames: stop (error), estimate the open beam from the "
        "brighter edge of each "
        "detector row (estimate), or take the recorded values for transmissions (none).",
    )
    missing_dark: Literal["error", "zero"] = Field(
        default="zero",
        description="What to do without dark frames: stop (error), or take them as subtracted by the detector "
        "(zero), as in Zeiss files.",
    )
    flats: Literal["mean", "interpolate", "dynamic"] = Field(
        default="mean",
        description="Average all flats (mean), interpolate in time between those taken before, during and after the "
        "scan (interpolate), or, where their pattern changes from frame to frame, add to the mean those of their "
        "principal components that stand out of the noise, with weights found for each view (dynamic).",
    )
    open_beam: Literal["auto", "none"] = Field(
        default="auto",
        description="Scale each view to the air at the detector's left and right edges where air is seen throughout "
        "(auto), or not (none).",
    )
    photons_per_count: float | None = Field(
        default=None,
        gt=0,
        description="Detector gain, photons per grey level, for the logarithm at low counts; null estimates it from "
        "repeated flats.",
    )
    minimum_transmission: float = Field(
        default=1e-4,
        gt=0,
        lt=0.5,
        description="Smallest transmission (fraction) before the logarithm; used where the detector gain is not known.",
    )
    outlier_sigmas: float | None = Field(
        default=8.0,
        gt=0,
        description="Threshold for outliers (zingers) in robust standard deviations; null leaves them.",
    )
    dead_pixel_tolerance: float | None = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Pixels whose flat differs from its surroundings by more than this fraction are dead; null "
        "leaves all pixels.",
    )
    phase: Literal["none", "paganin"] = Field(
        default="none",
        description="Retrieve the phase from one distance, for an object of one material (paganin): edges lose their "
        "bright lines, noise falls, and so does the resolution where delta_over_beta is too large.",
    )
    delta_over_beta: float | None = Field(
        default=None,
        gt=0,
        description="Paganin: refraction over absorption of the material (delta / beta) at the energy.",
    )
    phase_distance_mm: float | None = Field(
        default=None,
        gt=0,
        description="Paganin: distance from object to detector, mm; null takes that of a cone beam's geometry.",
    )
    phase_energy_kev: float | None = Field(
        default=None, gt=0, description="Paganin: photon energy, keV; null takes the recorded one."
    )
    rings: Literal["none", "offset", "sorting", "wavelet_fourier"] = Field(
        default="offset",
        description="Ring removal: one offset a detector pixel (offset, changes the object least), sorting (Vo 2018), "
        "wavelet_fourier (Munch 2009), or none.",
    )
    ring_size_px: int = Field(
        default=11,
        ge=3,
        le=501,
        description="Sorting: width of the median, columns (odd); over twice the widest stripe.",
    )
    ring_levels: int = Field(
        default=4,
        ge=1,
        le=10,
        description="Wavelet-Fourier: decomposition levels; stripes up to 2^levels columns are removed.",
    )
    ring_width: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="Wavelet-Fourier: width of the damping, frequency samples; larger removes more.",
    )
    memory_gb: float = Field(
        default=2.0,
        gt=0,
        le=10_000,
        description="Memory for blocks of detector rows, 1e9 bytes; the result does not depend on it.",
    )

    @field_validator("ring_size_px")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"expected an odd number of columns, got {size}")
        return size
