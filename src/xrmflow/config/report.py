"""Settings of the report."""

from pydantic import Field, model_validator

from xrmflow.config.section import Section


class ReportSection(Section):
    """How the report looks, and what it must say that no file knows."""

    title: str = Field(default="", description="Heading above the scan's id; empty: only the id.")
    sample_description: str = Field(
        default="",
        description="What was scanned, for the methods paragraph (species, age, bone, preparation); empty: not stated.",
    )
    medium: str = Field(
        default="", description="What surrounded the sample during the scan (air, PBS, ethanol …); empty: not stated."
    )
    tube_filter: str = Field(
        default="", description="X-ray filter with its thickness, when the raw file does not say it; empty: not stated."
    )
    voi_description: str = Field(
        default="",
        description="Where the volume of interest lies in the bone (landmark, offset, length); empty: not stated.",
    )
    delineation: str = Field(
        default="",
        description="How trabecular and cortical bone were told apart; empty: not stated.",
    )
    anatomical_axes: str = Field(
        default="",
        description="How the axes lie in the animal, e.g. '+z proximal, +x medial'; empty: scanner axes only.",
    )
    slices_shown: int = Field(default=16, ge=1, le=64, description="Slices in the slider of each volume (count).")
    picture_px: int = Field(
        default=560,
        ge=64,
        le=2048,
        description="Longest edge of a stored picture, pixels; larger ones are averaged down.",
    )
    zoom_px: int = Field(
        default=96, ge=16, le=512, description="Edge of the magnified region, voxels of the reconstruction."
    )
    jpeg_quality: int = Field(
        default=82, ge=30, le=95, description="JPEG quality of pictures larger than they are sharp (1)."
    )
    window_low_percentile: float = Field(
        default=0.5, ge=0, le=100, description="Grey value shown black, percentile of the volume."
    )
    window_high_percentile: float = Field(
        default=99.8, ge=0, le=100, description="Grey value shown white, percentile of the volume."
    )
    page_megabytes: float = Field(
        default=5.0,
        ge=1,
        le=100,
        description="Size of the page, 1e6 bytes: pictures are made smaller until it fits, as far as possible.",
    )
    bias_percent: float = Field(
        default=5.0,
        gt=0,
        description="A metric that a network moves by more than this is flagged, percent of the plain value.",
    )

    @model_validator(mode="after")
    def _window_is_ordered(self) -> "ReportSection":
        if self.window_low_percentile >= self.window_high_percentile:
            raise ValueError(
                f"window_low_percentile: expected less than window_high_percentile ({self.window_high_percentile}), "
                f"got {self.window_low_percentile}"
            )
        return self
