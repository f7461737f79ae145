"""What the kernels need to know of a scan and a grid, as plain numbers per view."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors.matrices import has_steep_rays, is_upright, pixel_rays, source_distances, voxel_to_pixel


@dataclass(frozen=True)
class Setup:
    """A scan and a grid, and what follows from them; each array is computed when it is first asked for.

    Attributes:
        geometry: the scan; gradients do not flow through a Setup.
        grid: the volume's grid.
    """

    geometry: ScanGeometry
    grid: VolumeGrid

    @cached_property
    def matrices(self) -> np.ndarray:
        """(view, 3, 4) float64, from `voxel_to_pixel`."""
        return _array(voxel_to_pixel(self.geometry, self.grid))

    @cached_property
    def distances(self) -> np.ndarray:
        """(view, 3) float64, from `source_distances`."""
        return _array(source_distances(self.geometry, self.grid))

    @cached_property
    def rays(self) -> np.ndarray:
        """(view, 6, 3) float64, from `pixel_rays`."""
        return _array(pixel_rays(self.geometry, self.grid))

    @cached_property
    def upright(self) -> bool:
        """Whether detector columns are parallel to the axis: a voxel's column is the same for all z."""
        return is_upright(torch.from_numpy(self.matrices), self.grid)

    @cached_property
    def level(self) -> bool:
        """Whether rays can be followed column by column: upright, and no ray closer to z than to x and y."""
        return self.upright and not has_steep_rays(self.rays, rows=self.geometry.rows, cols=self.geometry.cols)

    @cached_property
    def meets(self) -> np.ndarray:
        """(view,) bool: whether pixels may see voxels; False is certain."""
        corners = np.array(list(product(*((-1.0, float(size)) for size in self.grid.shape[::-1]), (1.0,))))
        column, row, depth = (self.matrices @ corners.T).transpose(1, 0, 2)
        # Each is linear in the voxel, so what holds at all corners holds in between.
        beyond = (-depth, -column - depth, column - self.geometry.cols * depth, -row - depth)
        beyond += (row - self.geometry.rows * depth,)
        return ~np.any([(signed >= 0).all(axis=1) for signed in beyond], axis=0)

    @property
    def cone(self) -> bool:
        """Whether rays start at a source."""
        return self.geometry.beam == "cone"


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float64)
