"""Settings of cupping: the beam-hardening correction, fitted from the scan itself."""

from typing import Literal

from pydantic import Field

from xrmflow.config.section import Section


class CuppingSection(Section):
    """Polynomial linearisation of line integrals, p' = p + c2 p^2 + ..."""

    method: Literal["homogeneity", "none"] = Field(
        default="homogeneity",
        description="Fit the correction so that bone is as bright inside as outside (homogeneity), or leave the data "
        "(none).",
    )
    degree: int = Field(default=2, ge=2, le=4, description="Degree of the polynomial.")
    slices: int = Field(
        default=48, ge=1, le=1024, description="Slices around the middle of the scan that the correction is fitted on."
    )
    smoothing_px: float | None = Field(
        default=None,
        ge=0,
        le=20,
        description="Gaussian smoothing (sigma, voxels) before bone is segmented for the fit; null chooses it from the "
        "noise.",
    )
