"""A segmented volume, and what to measure in it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from xrmflow.metrics.labels import OUTSIDE
from xrmflow.morphometry.grey import Levels, smooth
from xrmflow.morphometry.scale import Scale


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        thickness, lacunae: whether to.
        least_slices: fewer are no volume: what needs three dimensions is skipped.
        correct_blur: whether to move curved surfaces back by what the measured blur displaced them.
        trabecula_um, trabecula_voxels: bone thinner than this on the marrow's side is trabecular, the rest cortical;
            the second counts for data without a voxel size; None: they are not told apart.
        core_erosion_voxels: bone this close to a surface does not count towards its mean attenuation.
    """

    thickness: bool = True
    lacunae: bool = True
    least_slices: int = 8
    correct_blur: bool = True
    core_erosion_voxels: int = 2
    trabecula_um: float | None = None
    trabecula_voxels: float | None = None


@dataclass(frozen=True)
class Segmented:
    """A volume with its labels, as the segmentation left them.

    Attributes:
        volume: (z, y, x) float32, attenuation per mm (per voxel when not calibrated), not smoothed.
        labels, context: (z, y, x) uint8, with and without the cut to the volume of interest.
        scale: voxel size.
        record: the segmentation's record.
    """

    volume: np.ndarray
    labels: np.ndarray
    context: np.ndarray
    scale: Scale
    record: dict[str, Any]

    def grey(self, name: str) -> float:
        """A recorded grey in the volume's units: "threshold", "bone", "soft_tissue"."""
        return float(self.record[f"{name}_{'per_mm' if self.scale.calibrated else 'per_voxel'}"])

    @cached_property
    def smoothed(self) -> np.ndarray:
        """The volume with the Gaussian it was segmented with."""
        return smooth(self.volume, self.record["sigma_voxels"])

    @property
    def levels(self) -> Levels:
        """Greys of bone and soft tissue."""
        return Levels(self.grey("bone"), self.grey("soft_tissue"))

    @property
    def compartment(self) -> str:
        """Name of the volume of interest."""
        whole = np.array_equal(self.labels > OUTSIDE, self.context > OUTSIDE)
        return str(self.record["voi"]) if whole else f"{self.record['voi']}, cut"
