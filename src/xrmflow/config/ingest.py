"""Settings of the ingest stage: what the file does not say, and what cannot be known from it.

Signs and orders have a stated default. Whatever is assumed or overridden is noted in the store and shown in the report.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from xrmflow.config.section import Section

Positive = Annotated[float, Field(gt=0)]
Angle = Annotated[float, Field(ge=-1e5, le=1e5)]
FileName = Annotated[str, Field(min_length=1)]


class IngestSection(Section):
    """How the raw scan is read."""

    row_order: Literal["format", "bottom_up", "top_down"] = Field(
        default="format",
        description="Whether row 0 of a stored frame is the lowest (bottom_up) or the highest (top_down) row of the "
        "image. 'format': bottom_up for txrm, top_down for the others. A wrong choice mirrors the volume.",
    )
    column_order: Literal["format", "left_to_right", "right_to_left"] = Field(
        default="format",
        description="How the columns of a stored frame run when one looks from the source to the detector. 'format': "
        "right_to_left for Nikon, left_to_right for the others. A wrong choice mirrors the volume.",
    )
    angle_sign: Literal[-1, 1] = Field(
        default=1,
        description="1 when the recorded angles grow while the sample stage turns clockwise seen from above, -1 when "
        "they grow while it turns counter-clockwise. A wrong choice mirrors the volume (and blurs it in a wide cone).",
    )
    shift_sign_x: Literal[-1, 0, 1] = Field(
        default=1, description="Sign of the recorded horizontal per-view shifts; 0 ignores them."
    )
    shift_sign_y: Literal[-1, 0, 1] = Field(
        default=1, description="Sign of the recorded vertical per-view shifts; 0 ignores them."
    )
    beam: Literal["file", "cone", "parallel"] = Field(
        default="file",
        description="Beam geometry. 'file': as recorded; where nothing is, cone if distances are known, else parallel.",
    )
    source_to_axis_mm: Positive | None = Field(
        default=None, description="Distance from source to rotation axis, mm, in place of the recorded one."
    )
    source_to_detector_mm: Positive | None = Field(
        default=None, description="Distance from source to detector, mm, in place of the recorded one."
    )
    pixel_size_um: Positive | None = Field(
        default=None, description="Pixel pitch in the detector plane, micrometres, in place of the recorded one."
    )
    voxel_size_um: Positive | None = Field(
        default=None, description="Pixel size at the rotation axis, micrometres; an alternative to pixel_size_um."
    )
    angles_first_deg: Angle | None = Field(
        default=None, description="Angle of the first view, degrees; with angles_last_deg the views are evenly spaced."
    )
    angles_last_deg: Angle | None = Field(default=None, description="Angle of the last view (included), degrees.")
    angles_file: FileName | None = Field(
        default=None, description="Text file with one angle a view, degrees; relative to the scan's folder."
    )
    energy_kev: Positive | None = Field(
        default=None, description="Photon energy of a monochromatic beam, keV, for the record."
    )
    exposure_s: Positive | None = Field(
        default=None, description="Exposure of a projection, seconds, in place of the recorded one."
    )
    flat_exposure_s: Positive | None = Field(
        default=None, description="Exposure of a flat, seconds, in place of the recorded one."
    )
    already: Literal["file", "counts", "transmission", "line_integral"] = Field(
        default="file",
        description="What the frames hold: raw counts, frames the instrument has divided by the reference "
        "(transmission), or minus their logarithm (line_integral). 'file': as recorded, counts where nothing is.",
    )
    transmission_scale: Positive | None = Field(
        default=None,
        description="Value of an unattenuated pixel in frames that hold transmission; they are divided by it. null: as "
        "recorded (Nikon's white level, SkyScan's reference intensity), 1 where nothing is.",
    )
    reference_file: FileName | None = Field(
        default=None, description="Separate reference (.xrm) whose image is the flat; relative to the scan's folder."
    )
    detector: FileName | None = Field(
        default=None, description="Name of the detector group to read from a NeXus file that has several."
    )
    projection_files: FileName | None = Field(
        default=None,
        description="Pattern of the projections in a folder of TIFF files, e.g. 'proj_*.tif'; default all left.",
    )
    flat_files: FileName | None = Field(
        default=None, description="Pattern of the flats (open beam) in a folder of TIFF files, e.g. 'flat_*.tif'."
    )
    dark_files: FileName | None = Field(
        default=None, description="Pattern of the darks (beam off) in a folder of TIFF files, e.g. 'dark_*.tif'."
    )

    @field_validator("angle_sign", "shift_sign_x", "shift_sign_y", mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        """Python takes true for 1; a user who writes it means something else."""
        if isinstance(value, bool):
            raise ValueError(f"expected -1 or 1, got {str(value).lower()}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "IngestSection":
        near, far = self.source_to_axis_mm, self.source_to_detector_mm
        if near is not None and far is not None and far <= near:
            raise ValueError(f"source_to_detector_mm: expected more than source_to_axis_mm ({near:g}), got {far:g}")
        if self.pixel_size_um is not None and self.voxel_size_um is not None:
            raise ValueError("pixel_size_um, voxel_size_um: expected one of them, got both")
        if (self.angles_first_deg is None) != (self.angles_last_deg is None):
            raise ValueError("angles_first_deg, angles_last_deg: expected both or neither")
        if self.angles_file is not None and self.angles_first_deg is not None:
            raise ValueError("angles_file, angles_first_deg: expected one of them, got both")
        return self
