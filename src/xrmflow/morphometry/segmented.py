"""A segmented volume, and what to measure in it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from xrmflow.metrics.labels import LABELS, OUTSIDE
from xrmflow.morphometry.components import label_counts, looked_up
from xrmflow.morphometry.grey import Levels, smooth
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.slabs import WHOLE, Workspace


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
        work: how much of it is looked at at a time.
    """

    volume: np.ndarray
    labels: np.ndarray
    context: np.ndarray
    scale: Scale
    record: dict[str, Any]
    work: Workspace = WHOLE

    def grey(self, name: str) -> float:
        """A recorded grey in the volume's units: "threshold", "bone", "soft_tissue"."""
        return float(self.record[f"{name}_{'per_mm' if self.scale.calibrated else 'per_voxel'}"])

    @cached_property
    def smoothed(self) -> np.ndarray:
        """The volume with the Gaussian it was segmented with."""
        return smooth(self.volume, self.record["sigma_voxels"], work=self.work)

    @property
    def levels(self) -> Levels:
        """Greys of bone and soft tissue."""
        return Levels(self.grey("bone"), self.grey("soft_tissue"))

    @cached_property
    def counts(self) -> np.ndarray:
        """How many voxels of each slice have each label: (z, label) int64."""
        return np.stack(
            [
                label_counts(one, len(LABELS))
                for slab in self.work.slabs(self.labels.shape)
                for one in self.labels[slab.core]
            ]
        )

    def count(self, *labels: int) -> int:
        """How many voxels of the volume of interest have one of some labels."""
        return int(self.counts[:, labels].sum())

    @property
    def total(self) -> int:
        """Voxels of the volume of interest."""
        return int(self.counts[:, OUTSIDE + 1 :].sum())

    def inside(self, z: slice) -> np.ndarray:
        """Some slices of the volume of interest: (z, y, x) bool."""
        return self.labels[z] > OUTSIDE

    def phase(self, labels: tuple[int, ...], z: slice) -> np.ndarray:
        """Where some slices have one of some labels, with all the context there is."""
        return _has(self.context[z], labels)

    def within(self, labels: tuple[int, ...], z: slice) -> np.ndarray:
        """The same within the volume of interest."""
        return _has(self.labels[z], labels)

    @property
    def compartment(self) -> str:
        """Name of the volume of interest."""
        whole = all(
            np.array_equal(self.inside(slab.core), self.context[slab.core] > OUTSIDE)
            for slab in self.work.slabs(self.labels.shape)
        )
        return str(self.record["voi"]) if whole else f"{self.record['voi']}, cut"


def _has(values: np.ndarray, labels: tuple[int, ...]) -> np.ndarray:
    table = np.zeros(len(LABELS), np.bool_)
    table[list(labels)] = True
    return looked_up(table, values)
