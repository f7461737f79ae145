"""Settings of segment: any volume to bone, marrow, lacunae, canals."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from xrmflow.config.section import Section

UNCALIBRATED = "used for scans without a voxel size only"


class SegmentSection(Section):
    """Filter, threshold, volume of interest and the gates of lacunae."""

    threshold_method: Literal[
        "midpoint", "otsu", "attenuation_per_cm", "attenuation_per_mm", "density_mgha_per_cm3", "grey"
    ] = Field(
        default="midpoint",
        description="Unit of the threshold (1/cm, 1/mm, mgHA/cm3, or grey: the volume's own values, 1/mm or 1/voxel), "
        "or a threshold found in each volume: halfway between the greys of bone and soft tissue (midpoint), or "
        "Otsu's, which moves with the amount of bone. To compare samples give one fixed threshold for all.",
    )
    threshold: float | None = Field(
        default=None,
        gt=0,
        description="Bone is at or above this, in the unit of threshold_method; null for midpoint and otsu.",
    )
    density_slope_mgha_per_cm2: float | None = Field(
        default=None,
        gt=0,
        description="Slope of the density calibration line, mgHA/cm3 per 1/cm: density = slope * attenuation + "
        "intercept; null: no density calibration.",
    )
    density_intercept_mgha_per_cm3: float | None = Field(
        default=None, description="Intercept of the density calibration line, mgHA/cm3; null: no density calibration."
    )
    sigma_um: float | None = Field(
        default=None,
        ge=0,
        description="Standard deviation of the Gaussian before the threshold, micrometres; null: sigma_voxels is used.",
    )
    sigma_voxels: float = Field(
        default=0.8,
        ge=0,
        le=10,
        description="The same in voxels, for scans without a voxel size and where sigma_um is null.",
    )
    least_bone_um3: float = Field(
        default=500.0, ge=0, description="Pieces of bone with less volume are noise, micrometres cubed."
    )
    least_bone_voxels: float = Field(default=100.0, ge=0, description=f"The same in voxels; {UNCALIBRATED}.")
    voi: Literal["periosteal", "whole"] = Field(
        default="periosteal",
        description="Volume of interest: what lies inside the outer surface of the bone, found slice by slice, cortex, "
        "trabeculae, marrow and pores (periosteal), or every voxel (whole). BV/TV is over this volume.",
    )
    voi_start_slice: int | None = Field(
        default=None,
        ge=0,
        description="First slice of the volume of interest (index from 0 in the FDK volume; finer volumes are cut at "
        "the same height); null: the first.",
    )
    voi_stop_slice: int | None = Field(
        default=None,
        ge=1,
        description="Slice after the last of the volume of interest (index in the FDK volume, as voi_start_slice); "
        "null: the last counts.",
    )
    voi_start_mm: float | None = Field(
        default=None, ge=0, description="Start of the volume of interest, mm above the lowest slice; null: at it."
    )
    voi_stop_mm: float | None = Field(
        default=None,
        gt=0,
        description="End of the volume of interest, mm above the lowest slice; null: the highest slice.",
    )
    voi_mask: str | None = Field(
        default=None,
        description="File with a mask of the volume's shape (zarr label store, TIFF stack, or .npy), above 0 inside; "
        "the volume of interest is cut to it. {scan} stands for the scan's id. null: none.",
    )
    least_part: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Parts of the bone with less than this fraction of the largest part's volume are other objects and "
        "lie outside the periosteal volume of interest (1).",
    )
    closing_um: float = Field(
        default=30.0,
        ge=0,
        description="Radius of the disc that closes gaps of the cortex for the periosteal surface, micrometres.",
    )
    closing_voxels: float = Field(default=10.0, ge=0, description=f"The same in voxels; {UNCALIBRATED}.")
    lacunae: bool = Field(default=True, description="Whether to look for lacunae and canals (true or false).")
    lacuna_level: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Grey at which a pore ends, as a fraction from soft tissue (0) to bone (1), both measured in "
        "the volume.",
    )
    lacuna_seed_level: float = Field(
        default=0.35,
        gt=0,
        lt=1,
        description="A pore must somewhere be darker than this fraction; noise is not. At most lacuna_level.",
    )
    lacuna_least_um3: float = Field(
        default=50.0, ge=0, description="Smaller pores are noise and count as bone, micrometres cubed."
    )
    lacuna_most_um3: float = Field(
        default=2000.0, gt=0, description="Larger pores are canals or marrow, micrometres cubed."
    )
    lacuna_least_voxels: float = Field(default=20.0, ge=0, description=f"Smallest pore in voxels; {UNCALIBRATED}.")
    lacuna_most_voxels: float = Field(default=3000.0, gt=0, description=f"Largest lacuna in voxels; {UNCALIBRATED}.")
    lacuna_elongation: float = Field(
        default=4.0,
        ge=1,
        description="Pores whose longest axis is more than this times their middle axis are canals (1).",
    )
    canal_width_um: float = Field(
        default=100.0,
        gt=0,
        description="Large pores into which a ball of more than this diameter fits are marrow, micrometres.",
    )
    canal_width_voxels: float = Field(default=50.0, gt=0, description=f"The same in voxels; {UNCALIBRATED}.")
    marrow_fraction: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Pores with more than this fraction of the volume of interest are marrow (1).",
    )

    memory_gb: float = Field(
        default=4.0,
        gt=0,
        le=10_000,
        description="Memory for arrays, 1e9 bytes, beside the program's own; of volumes that need more (15 bytes a "
        "voxel) some slices at a time are held, and the rest lies on the disk of the results meanwhile.",
    )

    @model_validator(mode="after")
    def _threshold_fits_its_method(self) -> "SegmentSection":
        found = self.threshold_method in ("midpoint", "otsu")
        if found and self.threshold is not None:
            raise ValueError(
                f"threshold: expected null with threshold_method {self.threshold_method}, which finds it, got "
                f"{self.threshold}; set threshold_method to the threshold's unit"
            )
        if not found and self.threshold is None:
            raise ValueError(f"threshold: expected a number with threshold_method {self.threshold_method}, got null")
        return self

    @model_validator(mode="after")
    def _calibration_is_whole(self) -> "SegmentSection":
        line = (self.density_slope_mgha_per_cm2, self.density_intercept_mgha_per_cm3)
        wanted = self.threshold_method == "density_mgha_per_cm3"
        if None in line and (wanted or line != (None, None)):
            raise ValueError(
                "density_slope_mgha_per_cm2, density_intercept_mgha_per_cm3: expected both numbers of the calibration "
                f"line, got {line[0]} and {line[1]}"
            )
        return self

    @model_validator(mode="after")
    def _slices_are_given_once_and_ordered(self) -> "SegmentSection":
        for end in ("start", "stop"):
            both = getattr(self, f"voi_{end}_slice"), getattr(self, f"voi_{end}_mm")
            if None not in both:
                raise ValueError(f"voi_{end}_slice, voi_{end}_mm: expected one of the two, got {both[0]} and {both[1]}")
        for unit in ("slice", "mm"):
            start, stop = getattr(self, f"voi_start_{unit}"), getattr(self, f"voi_stop_{unit}")
            if start is not None and stop is not None and start >= stop:
                raise ValueError(f"voi_stop_{unit}: expected more than voi_start_{unit} ({start}), got {stop}")
        return self

    @model_validator(mode="after")
    def _gates_are_ordered(self) -> "SegmentSection":
        for low, high in (
            ("lacuna_seed_level", "lacuna_level"),
            ("lacuna_least_um3", "lacuna_most_um3"),
            ("lacuna_least_voxels", "lacuna_most_voxels"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low}: expected at most {high} ({getattr(self, high)}), got {getattr(self, low)}")
        return self

    def mask_of(self, scan: str) -> Path | None:
        """The file or store with the volume of interest of a scan, where one is named."""
        return None if self.voi_mask is None else Path(self.voi_mask.replace("{scan}", scan))
