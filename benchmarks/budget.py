"""A scan many times larger than the memory that each stage may use for arrays, from the raw file to the report.

python benchmarks/budget.py /tmp/large --size 1024 --views 400 --budget-gb 0.5

A simulated bone (drawn on voxels four times coarser than the scan's, monochromatic, with photon noise) is written as a
raw file of `size` x `size` pixels; the workflow is run on it with every `memory_gb` at the budget, to which the
program's own is added where a stage counts it in; then what each job declared is compared with what it took, and what
`xrmflow estimate` said with what the run left. Run where the folder may take some 50 bytes a voxel. The same folder
again goes on where the last run ended.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from estimates import disk_rows, job_rows

from xrmflow.arrays import blocks
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.write_dataexchange import write_dataexchange
from xrmflow.manage.estimate import estimate
from xrmflow.manage.plan import load_plan
from xrmflow.manage.resources import COSTS, TILE_HALO_PX
from xrmflow.manage.usage import jobs
from xrmflow.phantom.object import BoneRecipe, make_bone
from xrmflow.projectors.transform import project

VOXEL_MM, SOURCE_TO_AXIS_MM, MAGNIFICATION = 0.004, 40.0, 4.0
COARSER, COUNTS, LARGEST_PATH = 4, 20_000, 2.5
VIEWS_AT_ONCE, FLATS = 16, 10
STAGES_WITH_BUDGET = ("flatfield", "fdk", "n2i_split", "n2i_train", "segment", "morphometry")

SETTINGS = """\
scans: scans.tsv
results: {folder}/results
models: {folder}/models
cupping: {{slices: {slices}}}
n2i_apply: {{tile_px: {tile}}}
n2i_train: {{steps: {steps}, memory_gb: {budget}}}
"""


def simulate(folder: Path, *, size: int, views: int) -> None:
    """Write `bone.h5` and the table of scans."""
    scan = Acquisition(
        beam="cone",
        angles_deg=tuple((np.arange(views) * 360 / views).tolist()),
        rows=size,
        cols=size,
        pixel_mm=VOXEL_MM * MAGNIFICATION,
        source_to_axis_mm=SOURCE_TO_AXIS_MM,
        source_to_detector_mm=SOURCE_TO_AXIS_MM * MAGNIFICATION,
        centre_px=(size - 1) / 2 + 1.6,
        midplane_px=(size - 1) / 2,
    )
    volume, grid = _bone(size // COARSER)
    geometry = scan_geometry(scan)
    volume *= LARGEST_PATH / float(project(volume, geometry.with_views(slice(0, 1)), grid).max())
    rng = np.random.default_rng(0)
    counts = np.empty((views, size, size), np.uint16)
    for part in blocks(views, VIEWS_AT_ONCE):
        paths = project(volume, geometry.with_views(part), grid).numpy()
        counts[part] = np.minimum(rng.poisson(COUNTS * np.exp(-paths)), 65_535)
    write_dataexchange(
        folder / "bone.h5",
        projections=counts,
        flats=rng.poisson(COUNTS, (FLATS, size, size)).astype(np.uint16),
        darks=np.zeros((1, size, size), np.uint16),
        angles_deg=np.array(scan.angles_deg),
        pixel_size_um=1000 * scan.pixel_mm,
        source_to_axis_mm=SOURCE_TO_AXIS_MM,
        source_to_detector_mm=SOURCE_TO_AXIS_MM * MAGNIFICATION,
    )
    (folder / "scans.tsv").write_text("scan\tsource\trole\nbone\tbone.h5\ttrain\n")


def _bone(cells: int) -> tuple[torch.Tensor, VolumeGrid]:
    """A bone that fills half the field of view of `cells` voxels a side, taller than it, attenuation per mm."""
    voxel_mm = VOXEL_MM * COARSER
    half_um = 0.25 * cells * voxel_mm * 1e3
    recipe = BoneRecipe(
        outer_um=(0.87 * half_um, 0.77 * half_um),
        cortex_um=0.3 * half_um,
        tissue_um=(half_um, 0.95 * half_um),
        form_wavelength_um=4 * half_um,
        trabecular_wavelength_um=14e3 * voxel_mm,
        canal_radius_um=3e3 * voxel_mm,
        lacuna_semi_axes_um=(1.2e3 * voxel_mm, 1.6e3 * voxel_mm, 2.4e3 * voxel_mm),
        lacuna_clearance_um=1e3 * voxel_mm,
        lacunae_per_mm3=5e-4 / voxel_mm**3,
    )
    bone = make_bone(recipe, VolumeGrid((cells, cells, cells), voxel_mm), seed=0, margin=cells // 8)
    return torch.from_numpy(bone.attenuation_per_mm(25.0, slice(None))), bone.grid


def configure(folder: Path, options: argparse.Namespace) -> Path:
    """Write the settings: the budget for every stage that takes one."""
    # The default network's working copies for each pixel of a tile of four splits, halo included.
    tile = int((options.budget_gb * 1e9 / (4 * COSTS["n2i_apply"].memory[1])) ** 0.5) - TILE_HALO_PX
    given = {"slices": options.slices, "steps": options.steps, "budget": options.budget_gb}
    text = SETTINGS.format(folder=folder, tile=max(64, tile // 64 * 64), **given)
    for stage in STAGES_WITH_BUDGET:
        if f"{stage}:" not in text:
            program_gb = COSTS[stage].base_mb / 1000 if COSTS[stage].whole else 0.0
            text += f"{stage}: {{memory_gb: {options.budget_gb + program_gb:.3f}}}\n"
    (folder / "config.yaml").write_text(text)
    return folder / "config.yaml"


def compared(settings: Path) -> dict[str, Any]:
    """Declared against used for every job, estimated against measured for the run."""
    plan = load_plan(str(settings))
    found = jobs([Path(plan.settings.results), Path(plan.settings.models)])
    used = {job.rule: (job.used_mb, job.asked_mb) for job in found if job.used_mb and job.asked_mb}
    disk = {what: estimated / measured for what, _, estimated, measured in disk_rows(plan, estimate(plan, cores=2))}
    rows = {what: (estimated, measured) for what, _, estimated, measured in job_rows(plan)}
    memory = {what: estimated / measured for what, (estimated, measured) in rows.items() if what.endswith("memory")}
    expected, took = rows["all jobs, time"]
    return {
        "used_and_declared_mb": used,
        "beyond_declared": [rule for rule, (mb, asked) in used.items() if mb > asked],
        "disk_estimated_over_measured": {what: round(ratio, 2) for what, ratio in disk.items()},
        "memory_estimated_over_measured": {what: round(ratio, 2) for what, ratio in memory.items()},
        "time_estimated_over_measured": round(expected / took, 2),
        "seconds_in_all": round(sum(job.seconds for job in found)),
    }


def main() -> None:
    """Simulate, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=1024, help="pixels and voxels a side")
    parser.add_argument("--views", type=int, default=400)
    parser.add_argument("--budget-gb", type=float, default=0.5, help="for arrays, 1e9 bytes")
    parser.add_argument("--slices", type=int, default=12, help="that the beam hardening is fitted on")
    parser.add_argument("--steps", type=int, default=300, help="of the training")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not (options.folder / "bone.h5").exists():
        simulate(options.folder, size=options.size, views=options.views)
    settings = configure(options.folder, options)
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--cores", "2"]
    subprocess.run([*command, "--config", f"settings={settings}"], check=True)
    arrays_gb = 4e-9 * options.size**2 * max(options.size, options.views)
    print(json.dumps({"largest_array_gb": arrays_gb, "budget_gb": options.budget_gb, **compared(settings)}))


if __name__ == "__main__":
    main()
