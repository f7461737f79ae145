"""Why a geometry wants a smooth volume: the slope of a loss over a shift of the detector, by degree of the B-spline.

    python docs/examples/gradient_roughness.py

draws docs/images/gradient_roughness.png and prints two tables: roughness, and what each degree costs and how exact it
is on a smooth object whose line integrals are known. Takes about a minute.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.geometry.trajectories import circular_cone, parallel
from xrmflow.projectors import splines, transform
from xrmflow.projectors.matrices import pixel_rays

PICTURE = Path(__file__).parents[1] / "images" / "gradient_roughness.png"
TRUE_SHIFT, STEP = 0.37, 0.02
SHIFTS = np.arange(-150, 151) * STEP
# (x, y, height) of Gaussian blobs, and their standard deviation, all in voxels.
BLOBS, WIDTH = ((3.3, 1.2, 1.0), (-4.1, 2.6, 0.7), (0.4, -5.2, 1.3)), 1.5


def slopes(degree: int, shifts: np.ndarray = SHIFTS) -> np.ndarray:
    """Slope of half the squared misfit between two detector shifts (pixels), for all neighbours in `shifts`.

    Three blobs in one slice, 16 parallel views over half a turn, two of them along the voxel axes, pixels as large as
    voxels; the data are this model's own at a shift of 0.37 pixels, so the loss is zero there at every degree.
    """
    grid = VolumeGrid((1, 24, 24), 1.0)
    y, x = torch.meshgrid(*[torch.arange(24, dtype=torch.float64) - 11.5] * 2, indexing="ij")
    volume = sum(h * torch.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * WIDTH**2)) for a, b, h in BLOBS)
    coefficients = splines.coefficients_of(torch.as_tensor(volume)[None], degree=degree)
    angles = torch.arange(16) * (180.0 / 16)
    # Every shift is a scan of its own; together they are one scan of many views.
    all_shifts = torch.from_numpy(np.append(shifts, TRUE_SHIFT))
    ideal = parallel(angles.repeat(len(all_shifts)), rows=1, cols=32, pixel_mm=1.0)
    shifted = perturbed(ideal, centre_px=all_shifts.repeat_interleave(len(angles)))
    projections = splines.project(coefficients, shifted, grid, degree=degree).reshape(len(all_shifts), -1)
    losses = ((projections[:-1] - projections[-1]) ** 2).sum(dim=1).numpy() / 2
    return np.diff(losses) / np.diff(shifts)


def roughness(slope: np.ndarray) -> float:
    """Largest change of the slope from one step to the next, over the largest slope."""
    return float(np.abs(np.diff(slope)).max() / np.abs(slope).max())


def blob_scan(size: int) -> tuple[ScanGeometry, VolumeGrid]:
    """A cone-beam scan with as many views, rows and columns as voxels to a side."""
    geometry = circular_cone(
        torch.arange(size) * (360.0 / size) + 1.3,
        rows=size,
        cols=size,
        pixel_mm=1.6 * 64 / size,
        source_to_axis_mm=250.0,
        source_to_detector_mm=375.0,
    )
    return geometry, VolumeGrid((size, size, size), 64 / size)


def blob_volume(grid: VolumeGrid, *, centre_mm: tuple[float, float, float], width_mm: float) -> Tensor:
    """A Gaussian of height 1 per mm at the voxel centres."""
    z, y, x = (
        first + grid.voxel_mm * torch.arange(n, dtype=torch.float64) - c
        for first, n, c in zip(grid.first_voxel_mm[::-1], grid.shape, centre_mm[::-1], strict=True)
    )
    return torch.exp(-(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2) / (2 * width_mm**2))


def blob_integrals(geometry: ScanGeometry, *, centre_mm: tuple[float, float, float], width_mm: float) -> Tensor:
    """Its line integrals: sqrt(2 pi) width exp(-distance^2 / (2 width^2))."""
    rays = pixel_rays(geometry, VolumeGrid((1, 1, 1), 1.0))[:, :, None, None, :]  # voxel indices are mm here
    row, column = torch.arange(geometry.rows)[:, None, None], torch.arange(geometry.cols)[:, None]
    origin, direction = (rays[:, n] + column * rays[:, n + 1] + row * rays[:, n + 2] for n in (0, 3))
    offset = origin - torch.tensor(centre_mm, dtype=origin.dtype)
    along = (offset * direction).sum(-1, keepdim=True) / (direction**2).sum(-1, keepdim=True)
    distance = (offset - along * direction).norm(dim=-1)
    return math.sqrt(2 * math.pi) * width_mm * torch.exp(-(distance**2) / (2 * width_mm**2))


def error(degree: int | None, size: int, width_mm: float) -> float:
    """Relative RMS error of the blob's projections from its values at the voxel centres; None for Joseph's method."""
    geometry, grid = blob_scan(size)
    blob = {"centre_mm": (3.1, -2.3, 1.7), "width_mm": width_mm}
    volume, truth = blob_volume(grid, **blob), blob_integrals(geometry, **blob)
    if degree is None:
        got = transform.project(volume, geometry, grid)
    else:
        got = splines.project(splines.coefficients_of(volume, degree=degree), geometry, grid, degree=degree)
    return float((got - truth).norm() / truth.norm())


def cpu_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median CPU time over all threads, after one run to compile."""
    work()
    spent = []
    for _ in range(repeats):
        before = time.process_time()
        work()
        spent.append(time.process_time() - before)
    return median(spent)


def costs(degree: int | None, size: int = 64) -> tuple[float, float, float]:
    """CPU-seconds of forward, adjoint and, beyond the forward, the gradient to the geometry; float32."""
    geometry, grid = blob_scan(size)
    volume = torch.rand(grid.shape, generator=torch.Generator().manual_seed(0))
    values = torch.rand((geometry.views, geometry.rows, geometry.cols), generator=torch.Generator().manual_seed(1))
    if degree is None:
        forward = cpu_seconds(lambda: transform.project(volume, geometry, grid))
        return forward, cpu_seconds(lambda: transform.project_adjoint(values, geometry, grid)), math.nan
    forward = cpu_seconds(lambda: splines.project(volume, geometry, grid, degree=degree))
    adjoint = cpu_seconds(lambda: splines.project_adjoint(values, geometry, grid, degree=degree))
    shift = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    projected = splines.project(volume, perturbed(geometry, shifts_px=shift), grid, degree=degree)
    gradient = cpu_seconds(lambda: torch.autograd.grad(projected, shift, values, retain_graph=True))
    return forward, adjoint, gradient


def draw(curves: dict[int, np.ndarray]) -> None:
    """One panel a degree: the slope, and what changes from step to step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, len(curves), figsize=(10, 4.6), sharex=True, sharey="row", layout="constrained")
    middles = (SHIFTS[1:] + SHIFTS[:-1]) / 2
    for (degree, slope), (above, below) in zip(curves.items(), panels.T, strict=True):
        largest = np.abs(slope).max()
        above.plot(middles, slope / largest, linewidth=0.9)
        above.axvline(TRUE_SHIFT, color="0.7", linewidth=0.8, zorder=0)
        above.set_title(f"degree {degree}")
        below.semilogy(SHIFTS[1:-1], np.abs(np.diff(slope)) / largest + 1e-6, linewidth=0.9)
        below.axhline(roughness(slope), color="0.7", linewidth=0.8, zorder=0)
        below.annotate(f"{roughness(slope):.3f}", (SHIFTS[0], roughness(slope)), va="bottom", fontsize=9)
        below.set_xlabel("detector shift (pixels)")
        below.set_ylim(1e-5, 3)
    panels[0, 0].set_ylabel("slope of the loss\n(largest = 1)")
    panels[1, 0].set_ylabel(f"its change in {STEP:g} pixels")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    """Draw and print."""
    curves = {degree: slopes(degree) for degree in range(4)}
    draw(curves)
    print("| degree | roughness |\n|---|---|")
    for degree, slope in curves.items():
        print(f"| {degree} | {roughness(slope):.3f} |")
    print("\n| | forward, CPU-s | / degree 0 | / Joseph | adjoint / forward | geometry gradient / forward ", end="")
    print("| error, 2 voxels | 4 voxels |\n|---|---|---|---|---|---|---|---|")
    spent = {degree: costs(degree) for degree in (None, 0, 1, 2, 3)}
    for degree, (forward, adjoint, gradient) in spent.items():
        name = "Joseph" if degree is None else f"degree {degree}"
        ratios = f"{forward / spent[0][0]:.2f} | {forward / spent[None][0]:.1f} | {adjoint / forward:.1f}"
        errors = " | ".join(f"{error(degree, 64, width):.1e}" for width in (2.0, 4.0))
        print(f"| {name} | {forward:.3f} | {ratios} | {gradient / forward:.2f} | {errors} |")


if __name__ == "__main__":
    main()
