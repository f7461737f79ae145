"""The X-ray transform of a volume of tensor-product B-splines, differentiable in the volume AND in the geometry.

    f(x) = sum_k c_k B(x - k)        p(view, row, col) = integral of f along the pixel's ray

Degree 0 is piecewise constant (Siddon's lengths), 1 trilinear, 2 and 3 are smooth: from degree 2 on the gradient to
the geometry is continuous, which calibration by descent wants. Integrals and gradients are exact; see
`xrmflow.projectors.rays`, which is the same for any rays.
"""

import math

import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors.matrices import pixel_rays
from xrmflow.projectors.rays import Bundle, line_integrals, spread

# Values of the B-spline at the integers from its centre on.
AT_KNOTS = {0: (1.0,), 1: (1.0,), 2: (6 / 8, 1 / 8), 3: (4 / 6, 1 / 6)}


def project(coefficients: Tensor, geometry: ScanGeometry, grid: VolumeGrid, *, degree: int = 2) -> Tensor:
    """Line integrals of a B-spline volume along the rays of a scan; for a cone beam from the source on.

    Gradients flow to the coefficients (and can be differentiated again) and to the vectors of the geometry, hence to
    whatever these were computed from: `xrmflow.geometry.scan.scan_geometry`, `xrmflow.geometry.perturbation`.

    Args:
        coefficients: (..., z, y, x), per mm; float32 or float64. For degree 0 and 1 these are the voxels' values; for 2
            and 3 see `coefficients_of`.
        geometry: the scan, mm.
        grid: the voxels, mm; the spline is zero farther than (degree + 1) / 2 voxels from their centres.
        degree: of the spline, 0 to 3.

    Returns:
        (..., view, row, col) without unit, of the coefficients' type.

    Raises:
        ValueError: coefficients that do not fit the grid, a degree that does not exist.
    """
    return line_integrals(coefficients, pixel_rays(geometry, grid), _bundle(geometry, grid, degree))


def project_adjoint(projections: Tensor, geometry: ScanGeometry, grid: VolumeGrid, *, degree: int = 2) -> Tensor:
    """Transpose of `project`: (..., view, row, col) -> (..., z, y, x). The same gradients and errors."""
    return spread(projections, pixel_rays(geometry, grid), _bundle(geometry, grid, degree))


def _bundle(geometry: ScanGeometry, grid: VolumeGrid, degree: int) -> Bundle:
    limits = (0.0 if geometry.beam == "cone" else -math.inf, math.inf)
    return Bundle(grid, degree, geometry.rows, geometry.cols, limits)


def values_of(coefficients: Tensor, *, degree: int = 2) -> Tensor:
    """The spline at the voxel centres: (..., z, y, x) coefficients to values. Differentiable."""
    return _along_axes(coefficients, degree, inverse=False)


def coefficients_of(volume: Tensor, *, degree: int = 2) -> Tensor:
    """Coefficients (..., z, y, x) of the spline that takes the volume's values at the voxel centres.

    Coefficients outside the grid are zero, as for `project`, so `values_of` gives the volume back exactly, to its
    edges. A volume that is not zero there makes the spline fall to zero within (degree + 1) / 2 voxels outside, and
    swing a little inside; filters that mirror the volume at its edge (scipy.ndimage.spline_filter) belong to splines
    that go on beyond it. Differentiable (Unser, Aldroubi, Eden, IEEE TSP 41, 1993, for the filter itself).

    Args:
        volume: (..., z, y, x), any unit; float32 or float64.
        degree: 0 to 3; at 0 and 1 the coefficients are the values.

    Raises:
        ValueError: a degree that does not exist.
    """
    return _along_axes(volume, degree, inverse=True)


def _along_axes(data: Tensor, degree: int, *, inverse: bool) -> Tensor:
    """Apply the matrix B(i - k), or its inverse, along the last three axes."""
    if degree not in AT_KNOTS:
        raise ValueError(f"degree: expected 0, 1, 2 or 3, got {degree}")
    if degree < 2:
        return data
    for axis in (-3, -2, -1):
        matrix = _at_centres(data.shape[axis], degree, data.device)
        matrix = torch.linalg.inv(matrix) if inverse else matrix
        data = torch.movedim(torch.movedim(data, axis, -1) @ matrix.to(data.dtype), -1, axis)
    return data


def _at_centres(size: int, degree: int, device: torch.device) -> Tensor:
    """Symmetric (size, size): the spline of each coefficient at each voxel centre along one axis."""
    centre, beside = AT_KNOTS[degree]
    one = torch.ones(size, dtype=torch.float64, device=device)
    return torch.diag(centre * one) + torch.diag(beside * one[1:], 1) + torch.diag(beside * one[1:], -1)
