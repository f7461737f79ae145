"""Peak memory of segment and morphometry against what the model of requests expects; prints one JSON line.

python benchmarks/morphometry_memory.py
python benchmarks/morphometry_memory.py --shape 256 1024 1024 --memory-gb 0.5

A simulated bone (drawn on voxels twice coarser, with noise) is segmented and measured by the stages, each in a process
of its own; peak is its largest resident set. Where the arrays of a volume do not fit into `memory_gb`, they lie beside
the results on the disk: run where there is room for some 30 bytes a voxel.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.arrays import blocks
from xrmflow.config.settings import Settings
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.stores import create_volume
from xrmflow.manage.resources import job_of, used_mb
from xrmflow.manage.sizes import ScanSize
from xrmflow.phantom.object import BoneRecipe, make_bone

VOXEL_MM, COARSER, NOISE, SLICES = 0.0014, 2, 0.12, 64
CASES = (
    ((128, 128, 128), 4.0), ((256, 256, 256), 4.0), ((256, 256, 256), 0.3), ((256, 512, 512), 4.0),
    ((256, 512, 512), 0.5),
)  # fmt: skip


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, help="one case: voxels along z, y, x, multiples of 64")
    parser.add_argument("--memory-gb", type=float, default=4.0, help="for arrays, 1e9 bytes")
    parser.add_argument("--folder", type=Path, help="where to work, on a disk; a temporary folder")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        return _stage(options.stage, options.folder, options.memory_gb)
    cases = [(tuple(options.shape), options.memory_gb)] if options.shape else CASES
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps([line for case in cases for line in _case(Path(folder), *case)]))


def _case(folder: Path, shape: tuple[int, int, int], memory_gb: float) -> list[dict[str, Any]]:
    scan = folder / "x".join(str(n) for n in shape)
    if not scan.exists():
        _simulate(scan / "volume.zarr", shape)
    return [_run(stage, scan, shape, memory_gb) for stage in ("segment", "morphometry")]


def _run(stage: str, scan: Path, shape: tuple[int, int, int], memory_gb: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--stage", stage, "--folder", str(scan), "--memory-gb", str(memory_gb)]
    line = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    section = Settings.model_validate({stage: {"memory_gb": memory_gb}}).section(stage)
    expected = used_mb(stage, job_of(ScanSize(1, shape[1], shape[2], 2, shape), section))
    return {"stage": stage, "shape": shape, "memory_gb": memory_gb, "expected_mb": round(expected), **line}


def _stage(stage: str, scan: Path, memory_gb: float) -> None:
    """Run one stage in this process."""
    from xrmflow.config.morphometry import MorphometrySection
    from xrmflow.config.segment import SegmentSection
    from xrmflow.stages import morphometry, segment

    start, cpu = time.perf_counter(), time.process_time()
    volume, bone, tables = scan / "volume.zarr", scan / "bone/volume.zarr", scan / "morphometry"
    if stage == "segment":
        segment.run(volume=volume, bone=bone, params=SegmentSection(memory_gb=memory_gb))
    else:
        morphometry.run(
            volume=volume,
            bone=bone,
            table=tables / "volume.csv",
            slices=tables / "volume_slices.csv",
            lacunae=tables / "volume_lacunae.csv",
            params=MorphometrySection(memory_gb=memory_gb),
        )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps({"peak_mb": round(peak_mb)} | {name: round(value, 1) for name, value in took.items()}))


def _simulate(path: Path, shape: tuple[int, int, int]) -> None:
    """Write a volume of a bone that fills most of the field of view."""
    nz, ny, nx = (size // COARSER for size in shape)
    half_um = 475 * VOXEL_MM * shape[1]
    recipe = BoneRecipe(
        outer_um=(0.8 * half_um, 0.72 * half_um),
        cortex_um=0.25 * half_um,
        tissue_um=(0.95 * half_um, 0.9 * half_um),
        canal_radius_um=5.0,
    )
    bone = make_bone(recipe, VolumeGrid((nz, ny, nx), VOXEL_MM * COARSER), seed=0)
    grey = bone.attenuation_per_mm(25.0, slice(None))
    rng, grid = np.random.default_rng(0), VolumeGrid(shape, VOXEL_MM)
    origin = {"stage": "fdk"}
    with create_volume(path, quantity="attenuation_per_mm", grid=grid, calibrated=True, provenance=origin) as store:
        data = store.add("data", shape)
        for z in blocks(shape[0], SLICES):
            fine = grey[z.start // COARSER : z.stop // COARSER]
            for axis in range(3):
                fine = fine.repeat(COARSER, axis=axis)
            data[z] = fine + NOISE * grey.max() * rng.standard_normal(fine.shape, dtype=np.float32)


if __name__ == "__main__":
    main()
