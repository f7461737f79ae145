"""Simulate raw scans of a bone with a known answer."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.arrays import blocks
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.documents import write_document
from xrmflow.io.log import track
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import create_volume
from xrmflow.io.write_dataexchange import write_dataexchange
from xrmflow.io.write_txrm import write_txrm
from xrmflow.manage.simulated_run import write_run
from xrmflow.manage.snakefile import command_line
from xrmflow.metrics.labels import BONE, CANAL, LACUNA, OUTSIDE
from xrmflow.morphometry.thickness import local_thickness
from xrmflow.phantom.detector import dark_subtracted
from xrmflow.phantom.object import Bone, coarsened, cube_means, make_bone
from xrmflow.phantom.presets import PRESETS, PlannedScan, Preset, Specimen
from xrmflow.phantom.scan import OBJECT_FACTOR, ScanRecipe, SimulatedScan, object_grid, object_margin, simulate_scan
from xrmflow.phantom.truth import coarse_attenuation, truth_record
from xrmflow.reconstruction.fdk import fdk_slabs
from xrmflow.reconstruction.grids import natural_grid

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
        preset: tiny (seconds; to try the commands, its networks hardly learn anything), demo (half a minute), small
            (minutes) or large (hours; 16 GB of memory).
        seed: of the bone, the faults and the noise; the same seed gives the same scans.
    """
    files = simulate(folder, preset=preset, seed=seed)
    rows = [(file.scan, file.path, file.role, file.pair, file.truth) for file in files]
    settings = write_run(folder, rows, preset=preset)
    shown = [f"{file.path}  (truth: {file.truth})" for file in files]
    return "\n".join([*shown, f"Next: {command_line(settings)}"])


def simulate(folder: Path, *, preset: Preset, seed: int) -> list[SimulatedFile]:
    """Write the scans of a preset, `<scan>.txrm` or `.h5`, each with its truth.

    `<scan>.truth/` holds truth.json, truth.zarr (the scan's own grid) and truth_fine.zarr (the object's grid, with
    labels).
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[SimulatedFile] = []
    for number, specimen in enumerate(PRESETS[preset]):
        files += _simulate_specimen(folder, specimen, seed=seed * 1000 + number * 100)
    return files


def _simulate_specimen(folder: Path, specimen: Specimen, *, seed: int) -> list[SimulatedFile]:
    finest = specimen.scans[0].recipe
    factors = [round(plan.recipe.voxel_um / finest.voxel_um) for plan in specimen.scans]
    margin = max(object_margin(plan.recipe) * factor for plan, factor in zip(specimen.scans, factors, strict=True))
    margin += -margin % math.lcm(*factors)
    bone = make_bone(specimen.bone, object_grid(finest), seed=seed, margin=margin, track=track)
    files = []
    for number, (plan, factor) in enumerate(zip(specimen.scans, factors, strict=True)):
        scanned = coarsened(bone, factor)
        scan = simulate_scan(scanned, plan.recipe, seed=seed + 1 + number, track=track)
        files.append(_write(folder, plan, scanned, scan))
    return files


def _write(folder: Path, plan: PlannedScan, bone: Bone, scan: SimulatedScan) -> SimulatedFile:
    """The truth first: the raw file appears last, when all else is there."""
    path, truth = folder / f"{plan.stem}{SUFFIXES[plan.format]}", folder / f"{plan.stem}.truth"
    origin = provenance(stage="simulate")
    _write_truth_volume(truth / "truth.zarr", bone, scan, origin, reference=plan.reference)
    _write_fine_truth(truth / "truth_fine.zarr", bone, scan, origin)
    record = {"scan": plan.stem, "file": path.name, "role": plan.role, **truth_record(bone, scan)}
    if plan.reference:
        record["thickness_um"] |= thickness_um(bone)
    write_document(truth / "truth.json", kind="truth", payload=record, provenance=origin)
    (_write_txrm if plan.format == "txrm" else _write_dataexchange)(path, scan)
    return SimulatedFile(plan.stem, path, truth, plan.role, plan.pair)


def _write_truth_volume(
    path: Path, bone: Bone, scan: SimulatedScan, origin: dict[str, Any], *, reference: bool
) -> None:
    """The monochromatic volume on the scan's own grid and, if asked for, what a perfect scan would have given."""
    grid, energy = natural_grid(scan.acquisition), scan.effective_energy_kev
    with create_volume(path, quantity="attenuation_per_mm", grid=grid, calibrated=True, provenance=origin) as store:
        data = store.add("data", grid.shape)
        for slices in track(blocks(grid.shape[0], SLAB), label="writing the true volume"):
            data[slices] = coarse_attenuation(bone, energy, factor=OBJECT_FACTOR, slices=slices)
        if reference:
            perfect, geometry = store.add("fdk_reference", grid.shape), scan_geometry(scan.acquisition)
            fdk_slabs(scan.line_integrals, perfect, geometry, grid, track=track)


def _write_fine_truth(path: Path, bone: Bone, scan: SimulatedScan, origin: dict[str, Any]) -> None:
    """The monochromatic volume and the labels on the finer grid."""
    grid = bone.grid.slab(bone.core)
    # Not an OME-NGFF image: that reserves the name "labels" for a group.
    with create_volume(
        path, quantity="attenuation_per_mm", grid=grid, calibrated=True, provenance=origin, multiscale=False
    ) as store:
        data, labels = store.add("data", grid.shape), store.add("labels", grid.shape, np.uint8)
        for slices in track(blocks(grid.shape[0], 4 * SLAB), label="writing the fine true volume"):
            rows = slice(bone.margin + slices.start, bone.margin + slices.stop)
            data[slices] = bone.attenuation_per_mm(scan.effective_energy_kev, rows)
            labels[slices] = bone.labels[rows]


def thickness_um(bone: Bone) -> dict[str, float]:
    """Mean local thickness of bone, its pores filled, and of marrow, micrometres, from the noise-free object.

    Measured on the scan's own grid in the volume of bone, where each voxel knows its share of bone.
    """
    labels = bone.labels[bone.core]
    filled = cube_means((labels == BONE) | (labels == LACUNA) | (labels == CANAL), OBJECT_FACTOR)
    inside = cube_means(labels != OUTSIDE, OBJECT_FACTOR) >= 0.5
    phases = {"bone_mean": inside & (filled >= 0.5), "marrow_mean": inside & (filled < 0.5)}
    voxel_um = bone.grid.voxel_mm * OBJECT_FACTOR * 1e3
    local = {name: local_thickness(filled, domain, 0.5)[domain] for name, domain in phases.items()}
    return {name: float(values[np.isfinite(values)].mean() * voxel_um) for name, values in local.items()}


def _write_txrm(path: Path, scan: SimulatedScan) -> None:
    """As an X-ray microscope does: dark subtracted, one averaged reference, shifts as what must be added."""
    recipe, geometry = scan.recipe, scan.nominal
    write_txrm(
        path,
        projections=dark_subtracted(scan.counts, scan.darks),
        angles_deg=np.asarray(geometry.angles_deg),
        reference=(scan.flats.mean(axis=0) - scan.darks.mean(axis=0)).astype(np.float32),
        pixel_size_um=recipe.voxel_um,
        source_to_axis_mm=recipe.source_to_axis_mm,
        detector_to_axis_mm=recipe.axis_to_detector_mm,
        shifts_px=-geometry.shifts_px,
        exposure_s=recipe.exposure_s,
        voltage_kv=recipe.tube_kv,
        source_filter=_filter_name(recipe),
    )


def _write_dataexchange(path: Path, scan: SimulatedScan) -> None:
    """As a beamline does: raw frames, flats and darks."""
    recipe, geometry = scan.recipe, scan.nominal
    write_dataexchange(
        path,
        projections=scan.counts,
        flats=scan.flats,
        darks=scan.darks,
        angles_deg=np.asarray(geometry.angles_deg),
        pixel_size_um=geometry.pixel_mm * 1e3,
        source_to_axis_mm=geometry.source_to_axis_mm,
        source_to_detector_mm=geometry.source_to_detector_mm,
        shifts_px=-geometry.shifts_px,
        exposure_s=recipe.exposure_s,
        voltage_kv=recipe.tube_kv,
        sample="simulated bone",
        metadata={"filter": _filter_name(recipe)},
    )


def _filter_name(recipe: ScanRecipe) -> str:
    filters = ", ".join(f"{thickness:g} mm {material}" for material, thickness in recipe.filters_mm.items())
    return f"{filters or 'none'} (simulated)"
