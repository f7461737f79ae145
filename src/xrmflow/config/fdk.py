"""Settings of fdk: line integrals to attenuation."""

from typing import Annotated, Literal

from pydantic import Field

from xrmflow.config.section import Section

Voxels = Annotated[int, Field(ge=1, le=100_000)]
Micrometres = Annotated[float, Field(ge=-1e6, le=1e6)]


class FdkSection(Section):
    """Grid, filter and memory of the Feldkamp reconstruction."""

    voxel_size_um: float | None = Field(
        default=None,
        gt=0,
        description="Edge of a voxel, micrometres; null takes the size of a detector pixel seen at the rotation axis. "
        "Scans without a pixel size are reconstructed in units of that pixel and take null only.",
    )
    shape: tuple[Voxels, Voxels, Voxels] | None = Field(
        default=None,
        description="Voxels of the volume along z, y, x, for a region of interest; null covers the field of view.",
    )
    centre_um: tuple[Micrometres, Micrometres, Micrometres] | None = Field(
        default=None,
        description="Centre of the volume (x, y, z), micrometres (voxels where there is no pixel size), from the point "
        "where the central ray meets the rotation axis; null is the axis at the height of the detector's middle row.",
    )
    window: Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann"] = Field(
        default="ram-lak",
        description="Window of the ramp filter, from sharpest and noisiest (ram-lak) to smoothest (hann).",
    )
    truncation_padding: float = Field(
        default=0.1,
        ge=0,
        le=2,
        description="How far rows are continued on each side before filtering, as a fraction of the detector's width, "
        "so that an object wider than the field of view gets no bright rim. Without effect where rows end in air.",
    )
    memory_gb: float = Field(
        default=4.0,
        gt=0,
        le=10_000,
        description="Memory the stage may use, 1e9 bytes; larger reconstructions are cut into slabs.",
    )
