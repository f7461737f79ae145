"""Peak memory of the streamed FDK against its plan, each case in a process of its own; prints one JSON line.

python benchmarks/memory.py                               ten cases: sizes, views, budgets
python benchmarks/memory.py --size 768 --views 720 --memory-gb 2 --compare

Simulated noise as projections (the content does not matter but for compression: nothing compresses less), read from a
plain file, and a volume in a store as the workflow writes it. Peak is the largest resident set of the whole process.
"""

import argparse
import json
import logging
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.trajectories import circular_cone
from xrmflow.io.heap import share_heap
from xrmflow.io.stores import create_volume, open_volume
from xrmflow.reconstruction.fdk import fdk_slabs

# (size, views, budget in GB): whole in memory, several slabs with held rows, and slabs that read their own windows.
CASES = (
    (96, 90, 4.0), (128, 128, 4.0), (192, 180, 4.0), (192, 180, 0.56), (256, 240, 4.0), (256, 240, 0.75),
    (320, 180, 1.0), (320, 320, 0.7), (384, 240, 1.2), (384, 240, 0.8),
)  # fmt: skip


class File:
    """Images in a file, read as a whole or as bands of their rows: holds nothing itself."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(np.float32)

    def __getitem__(self, selection: slice | tuple[slice, slice]) -> np.ndarray:
        images, rows = selection if isinstance(selection, tuple) else (selection, slice(None))
        first, stop, _ = images.indices(self.shape[0])
        top, bottom, _ = rows.indices(self.shape[1])
        out = np.empty((stop - first, bottom - top, self.shape[2]), np.float32)
        with self.path.open("rb") as file:
            for n, image in enumerate(range(first, stop)):
                file.seek(4 * self.shape[2] * (image * self.shape[1] + top))
                file.readinto(out[n])
        return out


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    if options.folder:
        share_heap()
        return _one(options)
    cases = [(options.size, options.views, options.memory_gb)] if options.size else list(CASES)
    with tempfile.TemporaryDirectory() as folder:
        lines = [_case(Path(folder), *case, compare=options.compare) for case in cases]
    worst = max(abs(line["planned_over_peak"] - 1) for line in lines)
    print(json.dumps({"cases": lines, "worst_estimate_error": round(worst, 3)}))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Peak memory of the streamed FDK against its plan, one JSON line.")
    parser.add_argument("--size", type=int, help="one case: voxels and detector pixels a side")
    parser.add_argument("--views", type=int, default=720)
    parser.add_argument("--memory-gb", type=float, default=2.0)
    parser.add_argument("--compare", action="store_true", help="also compare voxels with the run without a limit")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _case(folder: Path, size: int, views: int, memory_gb: float, *, compare: bool) -> dict[str, float]:
    """Run one case in a process of its own."""
    _noise(folder / "projections", size, views)
    line = _run(folder, size, views, memory_gb)
    if compare:
        within = open_volume(folder / "volume").data[...]
        _run(folder, size, views, 1e3)
        whole = open_volume(folder / "volume").data[...]
        line["rms_difference"] = float(np.sqrt(np.mean((within - whole) ** 2) / np.mean(whole**2)))
        line["largest_difference"] = float(np.abs(within - whole).max() / np.abs(whole).max())
    (folder / "projections").unlink()
    shutil.rmtree(folder / "volume")
    return line


def _noise(path: Path, size: int, views: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(views):
            rng.random((size, size), np.float32).tofile(file)


def _run(folder: Path, size: int, views: int, memory_gb: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--size", str(size), "--views", str(views), "--memory-gb", str(memory_gb)]
    done = subprocess.run([*command, "--folder", str(folder)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _one(options: argparse.Namespace) -> None:
    """The case itself; reads its own plan from what it logs before it starts."""
    plan: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: plan.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("xrmflow.reconstruction.fdk_cpu")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    size, views = options.size, options.views
    geometry = circular_cone(
        torch.arange(views, dtype=torch.float64) * 360 / views,
        rows=size, cols=size, pixel_mm=1.6,
        source_to_axis_mm=1000 * size / 256, source_to_detector_mm=1500 * size / 256,
    )  # fmt: skip
    grid = VolumeGrid((size, size, size), 1.0)
    projections = File(options.folder / "projections", (views, size, size))
    made = {"quantity": "attenuation_per_mm", "grid": grid, "calibrated": True, "provenance": {}}
    with create_volume(options.folder / "volume", **made) as store:
        fdk_slabs(projections, store.add("data", grid.shape), geometry, grid, memory_gb=options.memory_gb)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    planned = float(re.search(r"needs ([\d.]+) GB", plan[0])[1])  # type: ignore[index]
    slabs = int(re.search(r"in (\d+) slab", plan[0])[1])  # type: ignore[index]
    peak = usage.ru_maxrss * 1024e-9
    line = {"size": size, "views": views, "memory_gb": options.memory_gb, "slabs": slabs, "planned_gb": planned}
    line |= {"peak_gb": round(peak, 3), "planned_over_peak": round(planned / peak, 3)}
    line |= {"peak_over_budget": round(peak / options.memory_gb, 3), "cpu_s": round(usage.ru_utime + usage.ru_stime, 1)}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
