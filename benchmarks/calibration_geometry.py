"""How well the geometry of a scan is found from the scan itself.

python benchmarks/calibration.py --what geometry --cases 4 --seed 0 --counts 10000 --object bone

Each case is an object on voxels half as large as the reconstruction's (a simulated bone, or measured trabecular bone
of XRMFLOW_TEST_DATA), seen through 2 x 2 points of each pixel by a detector off by a random centre, roll, tilt, slant,
drift and jitter. Everything starts from the nominal geometry: the sweep of the centre first, then the joint fit, or
with `--route sharpness` that route, which shares nothing with it but how images are drawn.
Other kinds of scan: `--beam parallel --arc-deg 180`, `--arc-deg 215` (short scan), `--offset-px 30` (offset detector),
`--width 1.2` (wider than the detector), `--views 60`, `--source-to-axis-mm 7 --rows 128` (wide cone), nominal distances
and midplane that are off, too: `--distance-percent 2 --midplane-px 5`.
Errors are rms displacements of voxels' images in pixels after the best rigid motion of the object, and after one that
also changes its size and taper, which no circular scan tells. PSNR is against the object, of reconstructions of the
same data in the found (after the latter motion) and in the true geometry.
"""

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, avg_pool3d, grid_sample

from xrmflow.calibration.alignment import align
from xrmflow.calibration.alignment_fit import AlignmentFit
from xrmflow.calibration.centre import find_centre
from xrmflow.calibration.gauge import (
    absorbed_along_columns,
    absorbed_along_rows,
    best_motion,
    ray_displacement_px,
    seen_by_moved,
)
from xrmflow.calibration.pose import NUMBERS, changed
from xrmflow.calibration.sharpening import sharpen
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import spline_drift
from xrmflow.geometry.scan import scan_geometry
from xrmflow.phantom.object import BoneRecipe, make_bone
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk

REAL_DATA = Path(os.environ.get("XRMFLOW_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
VOXEL_MM, MAGNIFICATION = 0.02, 3.0
TRUTH_KNOTS = 7
FINER = 2


@dataclass(frozen=True)
class Case:
    """What one scan showed.

    Attributes:
        before_px, centre_only_px, after_px: gauge-free ray displacement: nominal, after the sweep, after the fit.
        deformed_px: after the fit, and a change of the object's size and taper.
        centre_error_px, roll_error_deg, tilt_error_deg, slant_error_deg, midplane_error_px: fitted minus true.
        distance_error_percent: likewise of source and detector's distance.
        skew_error_deg: of the skew that stands for tilt * slant (rad), since no scan tells a tilt.
        observable: the numbers that the data hold.
        axis_error_deg: of the angle between the axis' image and the columns, roll + skew.
        covered: of each number that the data hold, whether its 95 % interval holds the truth.
        shifts_covered: share of the views whose 95 % bands hold the true shift along columns, and along rows, beyond
            what a motion of the object stands for.
        shift_interval_px: half widths of these bands.
        psnr_loss_db: of the reconstruction, against that in the true geometry.
        trusted: what the fit said.
        cost: in reconstructions or reprojections of the whole scan.
        seconds: wall clock.
    """

    before_px: float
    centre_only_px: float
    after_px: float
    deformed_px: float
    centre_error_px: float
    roll_error_deg: float
    axis_error_deg: float
    tilt_error_deg: float
    slant_error_deg: float
    skew_error_deg: float
    midplane_error_px: float
    distance_error_percent: float
    observable: list[str]
    covered: dict[str, bool]
    shifts_covered: tuple[float, float] | None
    shift_interval_px: tuple[float, float] | None
    psnr_loss_db: float
    trusted: bool
    cost: float
    seconds: float


def misaligned(rng: np.random.Generator, options: argparse.Namespace) -> Acquisition:
    """A scan off by up to what the options say; jitter is normal, drift a random cubic spline."""
    views, cols, rows, cone = options.views, options.cols, options.rows, options.beam == "cone"
    drift = spline_drift(torch.from_numpy(rng.uniform(-1, 1, (TRUTH_KNOTS, 2))), views).numpy()
    drift -= drift.mean(axis=0)
    drift *= options.drift_px / np.abs(drift).max(axis=0)
    shifts = drift + rng.normal(0, options.jitter_px, drift.shape)
    shifts -= shifts.mean(axis=0)
    off = rng.uniform(-1, 1, 4) * [options.centre_px, *[options.angle_deg] * 3]
    return Acquisition(
        beam=options.beam,
        angles_deg=tuple((np.arange(views) * options.arc_deg / views).tolist()),
        rows=rows,
        cols=cols,
        pixel_mm=VOXEL_MM * (MAGNIFICATION if cone else 1.0),
        source_to_axis_mm=options.source_to_axis_mm if cone else None,
        source_to_detector_mm=options.source_to_axis_mm * MAGNIFICATION if cone else None,
        centre_px=(cols - 1) / 2 + options.offset_px + off[0],
        midplane_px=(rows - 1) / 2,
        roll_deg=off[1],
        tilt_deg=off[2],
        slant_deg=off[3],
        shift_u_px=tuple(shifts[:, 0].tolist()),
        shift_v_px=tuple(shifts[:, 1].tolist()),
    )


def nominal(truth: Acquisition, options: argparse.Namespace, rng: np.random.Generator) -> Acquisition:
    """What a file would record: as far off the middle as meant, upright, no shifts; distances, midplane a bit off."""
    percent, rows = rng.uniform(-1, 1, 2) * [options.distance_percent, options.midplane_px]
    off = {"midplane_px": float(rows)}
    if truth.beam == "cone":
        off["source_to_detector_mm"] = percent / 100 * float(truth.source_to_detector_mm or 0)
    truth = changed(truth, off)
    still: dict[str, Any] = {"roll_deg": 0.0, "tilt_deg": 0.0, "slant_deg": 0.0, "shift_u_px": (), "shift_v_px": ()}
    return replace(truth, centre_px=(truth.cols - 1) / 2 + options.offset_px, **still)


def bone(seed: int, options: argparse.Namespace) -> tuple[torch.Tensor, VolumeGrid]:
    """A simulated bone that fills `--width` of the detector, taller than what is seen of it."""
    um, half = VOXEL_MM * 1e3, 0.5 * options.cols * VOXEL_MM * 1e3 * options.width
    recipe = BoneRecipe(
        outer_um=(0.87 * half, 0.77 * half),
        cortex_um=0.24 * half,
        tissue_um=(half, 0.95 * half),
        form_wavelength_um=options.cols * um,
        trabecular_wavelength_um=14 * um,
        canal_radius_um=4 * um,
        lacuna_semi_axes_um=(2 * um, 3 * um, 5 * um),
        lacuna_clearance_um=1.5 * um,
        lacunae_per_mm3=0.5e9 / (14 * um) ** 3,
    )
    size = options.cols * FINER
    grid = VolumeGrid((options.rows * FINER, size, size), VOXEL_MM / FINER)
    made = make_bone(recipe, grid, seed=seed, margin=int(0.3 * options.rows) * FINER)
    return torch.from_numpy(made.attenuation_per_mm(25.0, slice(None))), made.grid


def trabecular(seed: int, options: argparse.Namespace) -> tuple[torch.Tensor, VolumeGrid]:
    """Measured trabecular bone, a cylinder of it with `--width` of the detector, turned at random."""
    import tifffile

    rng = np.random.default_rng(seed)
    files = sorted((REAL_DATA / "ciclope_LHDL_3155").glob("*.tif"))
    grey = np.stack([tifffile.imread(file) for file in files]).astype(np.float32)
    grey = np.rot90(np.flip(grey, axis=0) if rng.integers(2) else grey, int(rng.integers(4)), axes=(1, 2))
    place = np.arange(grey.shape[1]) - (grey.shape[1] - 1) / 2
    radius = np.hypot(place, place[:, None])
    grey = np.clip(grey / 255, 0, 1) * np.clip(grey.shape[1] / 2 - radius, 0, 1)
    voxel = options.width * options.cols * VOXEL_MM / grey.shape[1]
    return torch.from_numpy(np.ascontiguousarray(grey)), VolumeGrid(grey.shape, voxel)


def line_integrals(volume: torch.Tensor, grid: VolumeGrid, truth: Acquisition) -> torch.Tensor:
    """Noise-free line integrals: intensities averaged over 2 x 2 points of a pixel."""
    n = 2
    fine = replace(
        truth,
        rows=truth.rows * n,
        cols=truth.cols * n,
        pixel_mm=truth.pixel_mm / n,
        centre_px=truth.centre_px * n + (n - 1) / 2,
        midplane_px=truth.midplane_px * n + (n - 1) / 2,
        shift_u_px=tuple(n * s for s in truth.shift_u_px),
        shift_v_px=tuple(n * s for s in truth.shift_v_px),
    )
    paths = project(volume, scan_geometry(fine), grid)
    return -torch.log(avg_pool2d(torch.exp(-paths), n))


def noisy(paths: torch.Tensor, counts: float, rng: np.random.Generator) -> np.ndarray:
    """Line integrals from counted photons; unchanged for counts of 0."""
    if not counts:
        return paths.numpy()
    drawn = np.maximum(rng.poisson(np.exp(-paths.double().numpy()) * counts), 0.5)
    return -np.log(drawn / counts).astype(np.float32)


def psnr_loss_db(data: np.ndarray, reference: torch.Tensor, fitted: Acquisition, truth: Acquisition) -> float:
    """PSNR against the object of the reconstruction in the true geometry, minus that in the fitted one, dB.

    The fitted geometry is moved so that the object stands where it stands in the true one: nothing is interpolated.
    """
    grid = view(truth)
    right, found = scan_geometry(truth), scan_geometry(fitted)
    found = seen_by_moved(found, best_motion(found, right, grid, deformed=True))
    z, side = truth.rows // 4, truth.cols // 5
    inside = (slice(z, -z), slice(side, -side), slice(side, -side))
    errors = []
    for geometry in (right, found):
        volume = fdk(torch.from_numpy(data), geometry, grid, window="hann")[inside]
        errors.append(float(((volume - reference[inside]) ** 2).mean()))
    return 10 * float(np.log10(errors[1] / errors[0]))


def view(scan: Acquisition) -> VolumeGrid:
    """The field of view in its own voxels."""
    return VolumeGrid((scan.rows, scan.cols, scan.cols), VOXEL_MM)


def sampled(volume: torch.Tensor, grid: VolumeGrid, wanted: VolumeGrid) -> torch.Tensor:
    """A volume on another grid about the same centre: means of 2 x 2 x 2 trilinear samples."""
    size = [n * 2 for n in wanted.shape]
    axes = [(torch.arange(n) - (n - 1) / 2) * (wanted.voxel_mm / 2) for n in size]
    half = [(n - 1) / 2 * grid.voxel_mm for n in grid.shape]
    places = torch.stack(torch.meshgrid(*(a / h for a, h in zip(axes, half, strict=True)), indexing="ij")[::-1], dim=-1)
    return avg_pool3d(grid_sample(volume[None, None], places[None].to(volume), align_corners=True), 2)[0, 0]


def run_case(seed: int, options: argparse.Namespace) -> Case:
    """Simulate, fit, compare."""
    rng = np.random.default_rng([seed, 17])
    truth = misaligned(rng, options)
    volume, grid = (bone if options.object == "bone" else trabecular)(seed, options)
    volume = volume * (3.0 / float(project(volume, scan_geometry(truth.with_views(slice(0, 1))), grid).max()))
    clean = line_integrals(volume, grid, truth)
    data, start = noisy(clean, options.counts, rng), nominal(truth, options, np.random.default_rng([seed, 18]))
    began = time.perf_counter()
    centred = find_centre(data, start, search_px=options.centre_px + 4, roll=False)
    coarse = replace(start, centre_px=centred.centre_px)
    shifts = {"drift_knots": options.knots if options.drift_px else 0, "jitter": options.jitter_px > 0}
    fit = (
        align(data, coarse, **shifts)
        if options.route == "joint"
        else sharpen(data, coarse, shifts=any(shifts.values()))
    )
    seconds = time.perf_counter() - began

    def displacement(one: Acquisition, *, deformed: bool = False) -> float:
        return ray_displacement_px(scan_geometry(one), scan_geometry(truth), view(truth), deformed=deformed)

    errors = {
        name: getattr(fit.acquisition, name) - _true(name, truth)
        for name in NUMBERS
        if getattr(truth, name) is not None
    }
    return Case(
        before_px=displacement(start),
        centre_only_px=displacement(coarse),
        after_px=displacement(fit.acquisition),
        deformed_px=displacement(fit.acquisition, deformed=True),
        centre_error_px=errors["centre_px"],
        roll_error_deg=errors["roll_deg"],
        axis_error_deg=errors["roll_deg"] + errors["skew_deg"],
        tilt_error_deg=errors["tilt_deg"],
        slant_error_deg=errors["slant_deg"],
        skew_error_deg=errors["skew_deg"],
        midplane_error_px=errors["midplane_px"],
        distance_error_percent=100 * errors.get("source_to_detector_mm", 0.0) / (truth.source_to_detector_mm or 1.0),
        observable=[one.name for one in fit.estimates if one.observable],
        covered=_covered(fit, truth),
        shifts_covered=_shifts_covered(fit, truth),
        shift_interval_px=None if fit.shift_interval_px is None else tuple(fit.shift_interval_px.mean(axis=0).tolist()),
        psnr_loss_db=psnr_loss_db(data, sampled(volume, grid, view(truth)), fit.acquisition, truth),
        trusted=fit.trusted,
        cost=fit.operations,
        seconds=seconds,
    )


def _true(name: str, truth: Acquisition) -> float:
    """Of a fit that leaves tilt nominal, so that skew stands for what it does to a slanted detector."""
    if name == "skew_deg":
        return float(np.degrees(np.radians(truth.tilt_deg) * np.radians(truth.slant_deg)))
    return float(getattr(truth, name))


def _covered(fit: AlignmentFit, truth: Acquisition) -> dict[str, bool]:
    known = [one for one in fit.estimates if one.interval is not None]
    return {one.name: bool(abs(one.value - _true(one.name, truth)) <= float(one.interval or 0)) for one in known}


def _shifts_covered(fit: AlignmentFit, truth: Acquisition) -> tuple[float, float] | None:
    if fit.shift_interval_px is None or not fit.trusted:
        return None
    off, angles = fit.acquisition.shifts_px - truth.shifts_px, np.asarray(truth.angles_deg)
    for k, absorbed in enumerate((absorbed_along_columns(angles), absorbed_along_rows(angles))):
        off[:, k] -= absorbed @ np.linalg.lstsq(absorbed, off[:, k], rcond=None)[0]
    along_columns, along_rows = (np.abs(off) <= fit.shift_interval_px).mean(axis=0).tolist()
    return along_columns, along_rows


def summary(cases: list[Case]) -> dict[str, Any]:
    """The figures of all cases."""
    others = ("covered", "observable", "shifts_covered", "shift_interval_px", "trusted")
    names = [name for name in asdict(cases[0]) if name not in others]
    values = {name: np.abs([getattr(case, name) for case in cases]) for name in names}
    spread = {name: {"median": _round(np.median(v)), "worst": _round(v.max())} for name, v in values.items()}
    spread["psnr_loss_db"]["worst"] = _round(max(case.psnr_loss_db for case in cases))
    return {
        **spread,
        "covered": {name: _held(name, cases) for name in sorted({name for case in cases for name in case.covered})},
        "shifts_covered": _mean([case.shifts_covered for case in cases if case.shifts_covered]),
        "shift_interval_px": _mean([case.shift_interval_px for case in cases if case.shift_interval_px]),
        "trusted": sum(case.trusted for case in cases),
    }


def _held(name: str, cases: list[Case]) -> str:
    hits = [case.covered[name] for case in cases if name in case.covered]
    return f"{sum(hits)} of {len(hits)}"


def _mean(pairs: list[tuple[float, float]]) -> list[float]:
    return [_round(value) for value in np.mean(pairs, axis=0)] if pairs else []


def _round(value: Any) -> float:
    return round(float(value), 4)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this benchmark."""
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    parser.add_argument(
        "--counts", type=float, default=10000, help="open-beam photons per pixel and view; 0 for no noise"
    )
    parser.add_argument("--object", choices=["bone", "trabecular"], default="bone")
    parser.add_argument("--route", choices=["joint", "sharpness"], default="joint")
    parser.add_argument("--beam", choices=["cone", "parallel"], default="cone")
    parser.add_argument("--source-to-axis-mm", type=float, default=20.0)
    parser.add_argument("--offset-px", type=float, default=0.0, help="nominal distance of the axis from the middle")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--cols", type=int, default=128)
    parser.add_argument("--views", type=int, default=180)
    parser.add_argument("--arc-deg", type=float, default=360.0)
    parser.add_argument("--width", type=float, default=0.5, help="of the object, as a share of the detector's")
    parser.add_argument("--centre-px", type=float, default=20.0, help="largest, as are the following")
    parser.add_argument("--angle-deg", type=float, default=2.0)
    parser.add_argument(
        "--distance-percent", type=float, default=0.0, help="error of the nominal distances, voxel kept"
    )
    parser.add_argument("--midplane-px", type=float, default=0.0, help="error of the nominal row of the midplane")
    parser.add_argument("--drift-px", type=float, default=5.0)
    parser.add_argument("--jitter-px", type=float, default=1.0, help="standard deviation")
    parser.add_argument("--knots", type=int, default=7, help="of the fitted drift")
    parser.add_argument("--each", action="store_true", help="print a line for each case first")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All cases, and what they showed."""
    if options.object == "trabecular" and not (REAL_DATA / "ciclope_LHDL_3155").is_dir():
        return {"skipped": f"no measured bone in {REAL_DATA} (set XRMFLOW_TEST_DATA)"}
    cases = []
    for seed in range(options.seed, options.seed + options.cases):
        cases.append(run_case(seed, options))
        if options.each:
            print(json.dumps(asdict(cases[-1])), flush=True)
    return summary(cases)
