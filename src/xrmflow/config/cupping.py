"""Settings of cupping: the beam-hardening correction, fitted from the scan itself."""

from typing import Literal

from pydantic import Field, model_validator

from xrmflow.config.section import Section


class CuppingSection(Section):
    """Polynomial linearisation of line integrals, p' = p + c2 p^2 + ..."""

    method: Literal["homogeneity", "curve", "none"] = Field(
        default="homogeneity",
        description="Fit the correction to the scan so that bone is as bright inside as outside (homogeneity), take it "
        "from a step wedge measured on the same scanner (curve), or leave the data (none).",
    )
    curve: str | None = Field(
        default=None,
        min_length=1,
        description="With method curve: CSV file with the columns thickness_mm and transmission (0 to 1) or "
        "line_integral, a row a step, at least 4; 8 and more from 0.5 mm on are better. Of aluminium or a calcium "
        "phosphate, reaching the largest line integrals of the scans, which are left alone where it does not. Scaled "
        "to what the thinnest step attenuates. A scan that is given one gets no correction shared by its protocol.",
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

    @model_validator(mode="after")
    def _has_its_file(self) -> "CuppingSection":
        if (self.method == "curve") != (self.curve is not None):
            raise ValueError(f"curve: expected a file with method curve and only then, got {self.curve!r}")
        return self
