"""Settings of align: the geometry fitted from the scan itself."""

from typing import Literal

from pydantic import Field

from xrmflow.config.section import Section


class AlignSection(Section):
    """Centre of rotation and detector roll."""

    method: Literal["sharpness", "none"] = Field(
        default="sharpness",
        description="Find the centre by the sharpness of trial reconstructions (sharpness), or keep the nominal "
        "geometry (none).",
    )
    centre_px: float | None = Field(
        default=None,
        description="Column of the rotation axis in detector pixels, 0-based, if it is known; null takes the nominal "
        "one. With method sharpness the search starts here.",
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
