"""Simulate raw scans of a bone with a known answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xrmflow.arrays import blocks
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.documents import write_document
from xrmflow.io.log import track
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import StoreWriter, create_volume
from xrmflow.io.write_dataexchange import write_dataexchange
from xrmflow.io.write_txrm import write_txrm
from xrmflow.phantom.detector import dark_subtracted
from xrmflow.phantom.object import Bone, coarsened, make_bone
from xrmflow.phantom.presets import PRESETS, PlannedScan, Preset, Specimen
from xrmflow.phantom.scan import ScanRecipe, SimulatedScan, object_grid, object_margin, simulate_scan
from xrmflow.phantom.truth import coarse_attenuation, truth_record
from xrmflow.reconstruction.fdk import fdk, natural_grid

SLAB = 16
SUFFIXES = {"txrm": ".txrm", "data_exchange": ".h5"}


@dataclass(frozen=True)
class SimulatedFile:
    """One scan that was written.

    Attributes:
        scan: its id.
        path: the raw file.
        truth: the folder with its known answer.
        role, pair: what it is for, as in the table of scans.
    """

    scan: str
    path: Path
    truth: Path
    role: str
    pair: str


def run(folder: Path, *, preset: Preset = "demo", seed: int = 0) -> str:
    """Simulate raw scans of a bone, with the truth beside each.

    Args:
        folder: where to write; made if it does not exist.
        preset: tiny (seconds), demo (half a minute), small (minutes) or large (hours; 16 GB of memory).
        seed: of the bone, the faults and the noise; the same seed gives the same scans.
    """
    files = simulate(folder, preset=preset, seed=seed)
    return "\n".join(f"{file.path}  (truth: {file.truth})" for file in files)


def simulate(folder: Path, *, preset: Preset, seed: int) -> list[SimulatedFile]:
    """Write the scans of a preset: `<scan>.txrm` or `.h5`, and `<scan>.truth/` with truth.json, truth.zarr, truth_fine.zarr."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[SimulatedFile] = []
    for number, specimen in enumerate(PRESETS[preset]):
        files += _simulate_specimen(folder, specimen, seed=seed * 1000 + number * 100)
    return files


def _simulate_specimen(folder: Path, specimen: Specimen, *, seed: int) -> list[SimulatedFile]:
    finest = specimen.scans[0].recipe
    margin = max(_margin(plan.recipe, finest) for plan in specimen.scans)
    bone = make_bone(specimen.bone, _fine_grid(finest), seed=seed, margin=margin, track=track)
    files = []
    for number, plan in enumerate(specimen.scans):
        scanned = coarsened(bone, round(plan.recipe.voxel_um / finest.voxel_um))
        scan = simulate_scan(scanned, plan.recipe, seed=seed + 1 + number, track=track)
        files.append(_write(folder, plan, scanned, scan))
    return files


def _fine_grid(recipe: ScanRecipe) -> VolumeGrid:
    return object_grid(recipe)


def _write(folder: Path, plan: PlannedScan, bone: Bone, scan: SimulatedScan) -> SimulatedFile:
    """The truth first: the raw file appears last, when all else is there."""
    path, truth = folder / f"{plan.stem}{SUFFIXES[plan.format]}", folder / f"{plan.stem}.truth"
    origin = provenance(stage="simulate")
    _write_truth_volume(truth / "truth.zarr", bone, scan, origin)
    _write_fine_truth(truth / "truth_fine.zarr", bone, scan, origin)
    record = {"scan": plan.stem, "file": path.name, **truth_record(bone, scan)}
    write_document(truth / "truth.json", kind="truth", payload=record, provenance=origin)
    (_write_txrm if plan.format == "txrm" else _write_dataexchange)(path, scan)
    return SimulatedFile(plan.stem, path, truth, plan.role, plan.pair)
