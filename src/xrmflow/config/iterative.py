"""Settings of iterative: reconstruction by iteration, beside fdk."""

from typing import Literal

from pydantic import Field

from xrmflow.config.section import Section


class IterativeSection(Section):
    """Method and end of the iterative reconstruction; it runs where `measure` names iterative, on the grid of fdk."""

    method: Literal["tv", "os-sart", "sirt", "cgls"] = Field(
        default="tv",
        description="Total variation, for few or noisy views of bone (tv), or least squares ended early: os-sart "
        "(quickest), sirt (smoothest), cgls (fewest iterations, but attenuation below 0 is not excluded).",
    )
    iterations: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Iterations at most; null takes 120 for tv, 30 for os-sart, 200 for sirt, 30 for cgls.",
    )
    tv_strength: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="Strength of total variation; 1 is what holds against the noise found in the projections, larger "
        "is flatter and loses small detail. Ignored by the other methods.",
    )
    subsets: int | None = Field(
        default=None,
        ge=1,
        description="Subsets of views of os-sart; null takes the root of the number of views.",
    )
    stop_at_noise: bool = Field(
        default=True,
        description="End os-sart, sirt and cgls as soon as the residual is no larger than the noise found in the "
        "projections: from there on they would draw noise. Without effect on tv, whose strength follows the noise.",
    )
    relative_change: float = Field(
        default=1e-4,
        ge=0,
        lt=1,
        description="End when the residual (tv: the objective) changes by less than this fraction, three times in a "
        "row.",
    )
    nonnegative: bool = Field(
        default=True, description="Exclude attenuation below 0, which nothing has; cgls cannot do that."
    )
    photon_weights: bool = Field(
        default=True,
        description="Let each line integral count in proportion to the photons that made it, exp(-p), so that rays "
        "through much bone, which are noisy, count less.",
    )
    left_out_columns: int = Field(
        default=0, ge=0, description="Detector columns at both ends of the rows that are left out, pixels."
    )
    truncation_padding: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="How far beyond the field of view voxels are reconstructed, as a fraction of its radius, to take "
        "up what lies there of an object wider than it; needs memory. Above and below it is always done.",
    )
    memory_gb: float = Field(
        default=8.0,
        gt=0,
        le=10_000,
        description="Memory the stage may use, 1e9 bytes. All projections and several copies of the volume are held "
        "at once; a scan that does not fit is refused before it starts, with the figure.",
    )
