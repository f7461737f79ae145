"""Speed of the X-ray transform on a GPU, and how far its results are from the CPU's; prints one JSON line.

python benchmarks/projector_gpu.py --size 1024 --views 1024
python benchmarks/projector_gpu.py --size 1024 --views 1024 --tiling pieces=4 --tiling places_x=8
python benchmarks/projector_gpu.py --size 2048 --views 2048 --zarr /fast/disk/scratch

The task is that of benchmarks/projector.py: cone beam, magnification 1.5, as many detector pixels and voxels a side as
--size. Rates are giga-updates (voxels times views) per second with all data on the GPU, from CUDA events, medians of
repeats after one that compiles. With --zarr a scan is first written to a store, and then FDK is timed by the wall clock
from opening that store to the sealed store of the volume, reading and writing included.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed
from xrmflow.geometry.scan import ScanGeometry, scan_geometry
from xrmflow.io.stores import create_projections, create_volume, open_projections
from xrmflow.projectors import cpu
from xrmflow.projectors.setup import Setup
from xrmflow.reconstruction.fdk import filter_views
from xrmflow.reconstruction.weights import view_weights

# What the differences to the CPU are measured on: the CPU would take minutes for more.
CPU_SIZE, CPU_VIEWS = 128, 64
DEVICE = "cuda"
VIEWS_AT_ONCE = 32
SLICES_AT_ONCE = 64


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    if not torch.cuda.is_available():
        sys.exit("benchmarks/projector_gpu.py: expected a CUDA device, found none; nothing was measured")
    from xrmflow.projectors import gpu  # needs Triton, which comes with CUDA builds of torch

    tiling = gpu.Tiling(**dict(options.tiling))
    acquisition, level, tilted = _task(options.size, options.views)
    line = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "size": options.size,
        "views": options.views,
        "repeats": options.repeats,
        "tiling": dict(options.tiling),
        "difference_to_cpu": _differences(gpu, min(options.size, CPU_SIZE), min(options.views, CPU_VIEWS)),
    }
    if options.zarr is None:
        updates = options.size**3 * options.views
        seconds = _measure(_jobs(gpu, tiling, level, tilted), options.repeats)
        line["giga_updates_per_second"] = {name: round(1e-9 * updates / s, 1) for name, s in seconds.items()}
        line["peak_memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    else:
        line["zarr_to_zarr_seconds"] = _through_zarr(gpu, tiling, acquisition, level, options.zarr)
    print(json.dumps(line))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed of the X-ray transform on a GPU, one JSON line.")
    parser.add_argument("--size", type=int, default=512, help="voxels and detector pixels a side")
    parser.add_argument("--views", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--zarr", type=Path, help="folder on a fast disk: time FDK from store to store instead")
    parser.add_argument(
        "--tiling", type=_setting, action="append", default=[], help="NAME=NUMBER, of gpu_launch.Tiling"
    )
    return parser.parse_args(arguments)


def _setting(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    return name, int(number)


def _task(size: int, views: int) -> tuple[Acquisition, Setup, Setup]:
    """A circle, and the same with 1 degree of tilt and a jitter of each view, on one grid."""
    acquisition = Acquisition(
        beam="cone",
        angles_deg=tuple(360.0 * n / views for n in range(views)),
        rows=size,
        cols=size,
        pixel_mm=1.6,
        source_to_axis_mm=1000 * size / 256,
        source_to_detector_mm=1500 * size / 256,
        centre_px=(size - 1) / 2,
        midplane_px=(size - 1) / 2,
    )
    circle, grid = scan_geometry(acquisition), VolumeGrid((size, size, size), 1.0)
    jitter = torch.randn((views, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return acquisition, Setup(circle, grid), Setup(perturbed(circle, tilt_deg=1.0, shifts_px=jitter), grid)


def _differences(gpu, size: int, views: int) -> dict[str, float]:
    """Largest difference over the largest value, GPU to CPU, of each function on the level and the tilted scan."""
    found = {}
    generator = torch.Generator().manual_seed(0)
    for kind, setup in zip(("level", "tilted"), _task(size, views)[1:], strict=True):
        volume = torch.rand(setup.grid.shape, generator=generator)
        projections = torch.rand((views, size, size), generator=generator)
        for name, data in (
            ("project", volume),
            ("project_adjoint", projections),
            ("backproject", projections),
            ("backproject_adjoint", volume),
        ):
            truth = getattr(cpu, name)(data, setup)
            ours = getattr(gpu, name)(data.to(DEVICE), setup).cpu()
            found[f"{name} {kind}"] = float((ours - truth).abs().max() / truth.abs().max())
    return found


def _jobs(gpu, tiling, level: Setup, tilted: Setup) -> dict[str, Callable[[], Tensor]]:
    geometry: ScanGeometry = level.geometry
    projections = torch.rand((geometry.views, geometry.cols, geometry.rows), device=DEVICE).permute(0, 2, 1)
    nz, ny, nx = level.grid.shape
    volume = torch.rand((ny, nx, nz), device=DEVICE).permute(2, 0, 1)
    return {
        "backproject": lambda: gpu.backproject(projections, level, tiling=tiling),
        "project": lambda: gpu.project(volume, level, tiling=tiling),
        "project_adjoint": lambda: gpu.project_adjoint(projections, level, tiling=tiling),
        "backproject_adjoint": lambda: gpu.backproject_adjoint(volume, level, tiling=tiling),
        "backproject tilted": lambda: gpu.backproject(projections, tilted, tiling=tiling),
        "project tilted": lambda: gpu.project(volume, tilted, tiling=tiling),
    }


def _measure(jobs: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """Median seconds of each job on the GPU, the first run left out."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for run in range(repeats + 1):
        for name, job in jobs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            job()
            end.record()
            torch.cuda.synchronize()
            if run:
                seconds[name].append(1e-3 * start.elapsed_time(end))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _through_zarr(gpu, tiling, acquisition: Acquisition, setup: Setup, folder: Path) -> float:
    """Wall seconds of FDK from a store of projections to a store of the volume that fits the GPU whole."""
    record = {"stage": "benchmark"}
    geometry, grid = setup.geometry, setup.grid
    with tempfile.TemporaryDirectory(dir=folder) as name:
        scan, result = Path(name) / "projections.zarr", Path(name) / "volume.zarr"
        with create_projections(scan, quantity="line_integral", acquisition=acquisition, provenance=record) as store:
            data = store.add("data", (geometry.views, geometry.rows, geometry.cols))
            one = np.random.default_rng(0).random((VIEWS_AT_ONCE, geometry.rows, geometry.cols), dtype=np.float32)
            for start in range(0, geometry.views, VIEWS_AT_ONCE):
                stop = min(start + VIEWS_AT_ONCE, geometry.views)
                data[start:stop] = one[: stop - start]
        begin = time.perf_counter()
        weights = view_weights(geometry).to(DEVICE)
        reader = open_projections(scan, "line_integral").data
        nz, ny, nx = grid.shape
        volume = torch.zeros((ny, nx, nz), device=DEVICE)
        for start in range(0, geometry.views, VIEWS_AT_ONCE):
            views = slice(start, min(start + VIEWS_AT_ONCE, geometry.views))
            part = torch.from_numpy(np.asarray(reader[views])).to(DEVICE)
            filtered = filter_views(part, geometry.with_views(views), weights[views], window="ram-lak", truncation_px=0)
            gpu.add_backprojection(volume, filtered, setup, views, tiling=tiling)
        with create_volume(
            result, quantity="attenuation_per_mm", grid=grid, calibrated=True, provenance=record, multiscale=False
        ) as store:
            data = store.add("data", grid.shape)
            for start in range(0, nz, SLICES_AT_ONCE):
                slices = slice(start, min(start + SLICES_AT_ONCE, nz))
                data[slices] = volume[:, :, slices].permute(2, 0, 1).contiguous().cpu().numpy()
        return round(time.perf_counter() - begin, 1)


if __name__ == "__main__":
    main()
