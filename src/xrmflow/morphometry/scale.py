"""Units of a volume: millimetres where the voxel size is known, voxels where it is not."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """How voxels translate into lengths.

    Attributes:
        voxel_mm: edge of a voxel, mm; without meaning when not `calibrated`.
        calibrated: whether the voxel size is known.
    """

    voxel_mm: float
    calibrated: bool

    def __post_init__(self) -> None:
        if not np.isfinite(self.voxel_mm) or self.voxel_mm <= 0:
            raise ValueError(f"voxel_mm: expected a positive length in mm, got {self.voxel_mm}")

    @property
    def edge(self) -> float:
        """Edge of a voxel in the unit of length: mm, or 1 voxel."""
        return self.voxel_mm if self.calibrated else 1.0

    def unit(self, power: int) -> str:
        """Name of the unit of length to a power: "mm2" or "1/mm3", "voxel2" or "1/voxel3"."""
        name = "mm" if self.calibrated else "voxel"
        exponent = "" if abs(power) == 1 else str(abs(power))
        return f"{name}{exponent}" if power > 0 else f"1/{name}{exponent}"

    @property
    def um(self) -> float:
        """Edge of a voxel in micrometres, or 1 voxel: the unit of what is as small as a cell."""
        return self.voxel_mm * 1e3 if self.calibrated else 1.0

    def um_unit(self, power: int) -> str:
        """Name of the unit of `um` to a positive power."""
        return self.unit(power).replace("mm", "um")

    def voxels(self, um: float, uncalibrated: float, power: int = 1) -> float:
        """A setting in voxels (to a power), from its micrometres or from its value for uncalibrated data."""
        return um / self.um**power if self.calibrated else uncalibrated
