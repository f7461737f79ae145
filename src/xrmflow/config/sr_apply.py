"""Settings of sr_apply: refining a volume with a trained network."""

from typing import Literal

from pydantic import Field

from xrmflow.config.section import Section


class SrApplySection(Section):
    """How the trained network is run over a volume."""

    tile_px: int = Field(
        default=512,
        ge=64,
        le=16_384,
        description="Edge of the tiles in which slices are processed, fine pixels (a multiple of 64); decides memory "
        "only.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Number format of multiplications: auto takes bfloat16 where the processor has it.",
    )
