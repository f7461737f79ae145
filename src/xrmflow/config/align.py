"""Settings of align: the geometry fitted from the scan itself."""

from typing import Literal

from pydantic import Field, field_validator

from xrmflow.config.section import Section


class AlignSection(Section):
    """Centre of rotation; pose, drift and jitter of the detector; motion of the object."""

    method: Literal["sweep", "sharpness", "joint", "none"] = Field(
        default="sweep",
        description="Find the centre and roll in the sharpest of trial slices (sweep). Then turn centre and roll to "
        "where the volume is sharpest while each view moves to where the volume shows it (sharpness), or fit them "
        "together with slant, skew, drift and jitter of the detector until the volume explains the images (joint): two "
        "independent ways, of which joint is more accurate and slower. Or keep the nominal geometry (none).",
    )
    centre_px: float | None = Field(
        default=None,
        description="Column of the rotation axis in detector pixels, 0-based, if it is known; null takes the nominal "
        "one. The search starts here.",
    )
    search_px: float | None = Field(
        default=None,
        gt=0,
        description="How far from the start to search, detector pixels; null means an eighth of the detector's width.",
    )
    slices: int = Field(
        default=7, ge=1, le=64, description="Slices, spread over the height, in which sharpness is judged."
    )
    roll: bool = Field(
        default=True, description="Also fit the rotation of the detector in its plane, where the slices resolve it."
    )
    check_angles: bool = Field(
        default=True,
        description="In a parallel half turn, correct an angular step that counts the end of the arc in (or out) by "
        "mistake, when slices are clearly sharper so; this is noted in the report.",
    )
    motion: bool = Field(
        default=False,
        description="The object itself moves slowly during the scan (a living animal, a sample that settles or dries): "
        "fit its shift along and its turn about three axes as smooth functions of time, after the centre and before a "
        "joint fit, and reconstruct as if it had stood still. Leave it off for objects that cannot move: a fit has an "
        "error of its own. A motion that cannot be trusted, or is too small to be told, is not used.",
    )
    motion_knots: int = Field(
        default=12,
        ge=4,
        le=64,
        description="With motion: coefficients of each of the six cubic splines over time; more for faster motions, at "
        "the price of time and certainty.",
    )
    drift_knots: int = Field(
        default=7,
        ge=0,
        le=64,
        description="With method joint: coefficients of the cubic splines over time that describe slow drifts of the "
        "detector along columns and rows, at least 4; 0 for no drift.",
    )
    distances: bool = Field(
        default=True,
        description="With method joint: also fit the row of the midplane and the distance of source and detector, at "
        "the recorded magnification, so that voxels keep their size. Cones hold the row, only wide ones the distance; "
        "what is not held stays as recorded.",
    )
    jitter: bool = Field(
        default=True, description="With methods joint and sharpness: let each view be shifted by itself as well."
    )

    @field_validator("drift_knots")
    @classmethod
    def _is_a_cubic_spline(cls, value: int) -> int:
        if 0 < value < 4:
            raise ValueError(f"expected 0, or at least 4 for a cubic spline, got {value}")
        return value
