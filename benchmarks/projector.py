"""Speed of the X-ray transform and FDK on this machine, alone or against RTK; prints one JSON line.

python benchmarks/projector.py --size 128 --views 128
python benchmarks/projector.py --size 256 --views 256 --peer rtk --peer-python /path/to/python/with/itk-rtk

The task: cone beam, magnification 1.5, a ball off the axis, as many detector pixels and voxels a side as --size.
Rates are updates (voxels times views) per CPU-second of all threads, medians over repeats; ratios are ours over the
peer's. The matched adjoint and the forward projection count the same updates.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xrmflow.geometry.conversion import to_rtk
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.geometry.trajectories import circular_cone
from xrmflow.projectors.analytic import project_ellipsoid
from xrmflow.projectors.transform import backproject, project, project_adjoint
from xrmflow.reconstruction.fdk import fdk

JOBS = ("backproject", "fdk", "project", "adjoint", "tilted")
ATTENUATION_PER_MM = 0.02
# RTK's order of arguments of AddProjection.
RTK_ORDER = (
    "sid_mm", "sdd_mm", "gantry_angle_deg", "proj_offset_x_mm", "proj_offset_y_mm",
    "out_of_plane_angle_deg", "in_plane_angle_deg", "source_offset_x_mm", "source_offset_y_mm",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    circle, tilted, grid = _task(options.size, options.views)
    ball = {"centre_mm": (0.1 * options.size, -0.05 * options.size, 0.0), "semi_axes_mm": (0.3 * options.size,) * 3}
    projections = project_ellipsoid(circle, **ball, attenuation_per_mm=ATTENUATION_PER_MM).float()
    volume = _voxels(grid, **ball)
    jobs: dict[str, Callable[[], Tensor]] = {
        "backproject": lambda: backproject(projections, circle, grid),
        "fdk": lambda: fdk(projections, circle, grid),
        "project": lambda: project(volume, circle, grid),
        "adjoint": lambda: project_adjoint(projections, circle, grid),
        "tilted": lambda: backproject(projections, tilted, grid),
    }
    _compile(jobs, options.size)
    seconds, results = _measure(jobs, options.repeats)
    updates = options.size**3 * options.views
    line = {
        "size": options.size,
        "views": options.views,
        "threads": options.threads,
        "repeats": options.repeats,
        "giga_updates_per_cpu_second": {name: _rounded(1e-9 * updates / seconds[name]) for name in JOBS},
    }
    if options.peer:
        line |= _against_rtk(options, circle, tilted, grid, projections, volume, seconds, results)
    print(json.dumps(line))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed of the X-ray transform, one JSON line.")
    parser.add_argument("--size", type=int, default=128, help="voxels and detector pixels a side")
    parser.add_argument("--views", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peer", choices=["rtk"], help="what to compare with")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the peer installed")
    return parser.parse_args(arguments)


def _task(size: int, views: int) -> tuple[ScanGeometry, ScanGeometry, VolumeGrid]:
    """The circle, the same with 1 degree of tilt and a jitter of each view, and the grid."""
    circle = circular_cone(
        torch.arange(views, dtype=torch.float64) * 360 / views,
        rows=size,
        cols=size,
        pixel_mm=1.6,
        source_to_axis_mm=1000 * size / 256,
        source_to_detector_mm=1500 * size / 256,
    )
    jitter = torch.randn((views, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return circle, perturbed(circle, tilt_deg=1.0, shifts_px=jitter), VolumeGrid((size, size, size), 1.0)


def _voxels(
    grid: VolumeGrid, *, centre_mm: tuple[float, float, float], semi_axes_mm: tuple[float, float, float]
) -> Tensor:
    """The ball on the grid."""
    x, y, z = (
        first + grid.voxel_mm * torch.arange(n) for first, n in zip(grid.first_voxel_mm, grid.shape[::-1], strict=True)
    )
    a, b, c = centre_mm
    inside = (x - a) ** 2 + (y[:, None] - b) ** 2 + (z[:, None, None] - c) ** 2 < semi_axes_mm[0] ** 2
    return ATTENUATION_PER_MM * inside.float()


def _compile(jobs: dict[str, Callable[[], Tensor]], size: int) -> None:
    """Run everything once where that is short, so that no compilation is measured: kernels do not know the size."""
    if size <= 64:
        for job in jobs.values():
            job()
        return
    circle, tilted, grid = _task(32, 4)
    data, volume = torch.ones((4, 32, 32)), torch.ones(grid.shape)
    fdk(data, circle, grid)
    project(volume, circle, grid)
    project_adjoint(data, circle, grid)
    backproject(data, tilted, grid)


def _measure(jobs: dict[str, Callable[[], Tensor]], repeats: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Median CPU seconds and last result of each job; the jobs take turns, so that a busy moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    results = {}
    for _ in range(repeats):
        for name, job in jobs.items():
            before = _cpu_seconds()
            results[name] = job()
            seconds[name].append(_cpu_seconds() - before)
    return {name: statistics.median(values) for name, values in seconds.items()}, results


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _against_rtk(
    options: argparse.Namespace,
    circle: ScanGeometry,
    tilted: ScanGeometry,
    grid: VolumeGrid,
    projections: Tensor,
    volume: Tensor,
    seconds: dict[str, float],
    results: dict[str, Tensor],
) -> dict[str, float]:
    """Ratios of rates, and how far the results are apart."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "projections.npy", projections.numpy())
        np.save(folder / "volume.npy", volume.numpy())
        task = {
            "size": options.size,
            "threads": options.threads,
            "repeats": options.repeats,
            "voxel_mm": grid.voxel_mm,
            "pixel_mm": [1.6, 1.6],
            "circle": _rtk_views(circle),
            "tilted": _rtk_views(tilted),
        }
        (folder / "task.json").write_text(json.dumps(task))
        script = Path(__file__).with_name("rtk_peer.py")
        done = subprocess.run([options.peer_python, str(script), name], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the peer ended without a word")
        theirs = json.loads(done.stdout.strip().splitlines()[-1])["seconds"]
        apart = {name: _apart(results[name], folder / f"{name}.npy", grid) for name in JOBS}
    ratios = {f"{name}_ratio": _rounded(statistics.median(theirs[name]) / seconds[name]) for name in JOBS}
    others = {f"{name}_rmse_vs_rtk": _rounded(apart[name]) for name in JOBS if name != "fdk"}
    return ratios | {"rmse_vs_rtk": _rounded(apart["fdk"])} | others


def _rtk_views(geometry: ScanGeometry) -> list[list[float]]:
    parameters = to_rtk(geometry)
    return torch.stack([getattr(parameters, name) for name in RTK_ORDER], dim=1).tolist()


def _apart(ours: Tensor, file: Path, grid: VolumeGrid) -> float:
    """Relative RMS difference; of volumes, in the part of the field of view that every view sees."""
    theirs = torch.from_numpy(np.load(file))
    if ours.shape == grid.shape:
        size = grid.shape[0]
        off = torch.arange(size) - (size - 1) / 2
        seen = (torch.hypot(off, off[:, None]) < 0.45 * size) & (off.abs() < 0.4 * size)[:, None, None]
        ours, theirs = ours[seen], theirs[seen]
    return float((ours - theirs).norm() / theirs.norm())


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    main()
