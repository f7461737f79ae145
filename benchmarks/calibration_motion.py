"""How well a scan of an object that moves is reconstructed after its motion is fitted from the scan itself.

python benchmarks/calibration.py --what motion --cases 10 --seed 0 --counts 10000 0 --object bone

Objects and images are made as in `calibration_geometry`. During the scan the object drifts along six smooth random
trajectories, splines of other knots than those fitted, of zero mean and of up to `--drift-px` pixels along each of x,
y, z and `--turn-deg` degrees about each. Everything starts from the geometry of an object that stands still. PSNR is
against the object: of the scan of the still object with the same noise, and of that of the moving one in the nominal,
the found and the true geometry, each moved rigidly as a whole to where the object stands: nothing is interpolated.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from calibration_geometry import (
    MAGNIFICATION,
    REAL_DATA,
    VOXEL_MM,
    bone,
    line_integrals,
    noisy,
    sampled,
    trabecular,
    view,
)

from xrmflow.calibration.gauge import best_motion, ray_displacement_px
from xrmflow.calibration.motion import fit_motion
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.perturbation import spline_drift
from xrmflow.geometry.scan import ScanGeometry, moved, scan_geometry
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk

TRUTH_KNOTS, LINE_MAX, SOURCE_TO_AXIS_MM = 7, 3.0, 20.0


@dataclass(frozen=True)
class Case:
    """What one scan showed.

    Attributes:
        seed, counts: which.
        nominal_loss_db, loss_db, true_loss_db: PSNR of the still object's scan minus that without correction, with the
            found motion and with the true one.
        still_psnr_db: of the still object's scan.
        before_px, after_px: rms displacement of voxels' images after the best rigid motion of the object.
        covered: share of all six trajectories within their 95 % bands.
        trusted: what the fit said.
        cost: in reconstructions or reprojections of the whole scan.
        seconds: wall clock.
    """

    seed: int
    counts: float
    nominal_loss_db: float
    loss_db: float
    true_loss_db: float
    still_psnr_db: float
    before_px: float
    after_px: float
    covered: float
    trusted: bool
    cost: float
    seconds: float


def trajectories(rng: np.random.Generator, options: argparse.Namespace) -> np.ndarray:
    """(view, 6) shifts, mm, and turns, degrees."""
    motion = spline_drift(torch.from_numpy(rng.uniform(-1, 1, (TRUTH_KNOTS, 6))), options.views).numpy()
    motion -= motion.mean(axis=0)
    motion /= np.abs(motion).max(axis=0)
    return motion * ([options.drift_px * VOXEL_MM] * 3 + [options.turn_deg] * 3)


def still_scan(options: argparse.Namespace) -> Acquisition:
    """A full turn, centred and upright."""
    return Acquisition(
        beam="cone",
        angles_deg=tuple((np.arange(options.views) * 360.0 / options.views).tolist()),
        rows=options.rows,
        cols=options.cols,
        pixel_mm=VOXEL_MM * MAGNIFICATION,
        source_to_axis_mm=SOURCE_TO_AXIS_MM,
        source_to_detector_mm=SOURCE_TO_AXIS_MM * MAGNIFICATION,
        centre_px=(options.cols - 1) / 2,
        midplane_px=(options.rows - 1) / 2,
    )


def psnr_db(data: np.ndarray, geometry: ScanGeometry, reference: torch.Tensor, scan: Acquisition) -> float:
    """Of the reconstruction against the object, away from the edges of the field of view."""
    z, side = scan.rows // 4, scan.cols // 5
    inside = (slice(z, -z), slice(side, -side), slice(side, -side))
    wanted = reference[inside]
    error = fdk(torch.from_numpy(data), geometry, view(scan), window="hann")[inside] - wanted
    return 10 * float(torch.log10((wanted.max() - wanted.min()) ** 2 / (error**2).mean()))


def in_place(geometry: ScanGeometry, truth: ScanGeometry, scan: Acquisition) -> ScanGeometry:
    """The geometry moved so that it shows the object where the true one does."""
    motion = best_motion(geometry, truth, view(scan))
    return moved(geometry, shift_mm=motion[:3], turn_deg=motion[3:6])


def covered(motion: np.ndarray, band: np.ndarray, truth: np.ndarray) -> float:
    """Share of the views and directions whose true motion, less its mean, lies in the band of the fitted one."""
    return float((np.abs(motion - truth) <= band).mean())


def run_object(seed: int, options: argparse.Namespace) -> list[Case]:
    """One object and its motion: simulate, fit and compare at each number of counts."""
    still = still_scan(options)
    motion = trajectories(np.random.default_rng([seed, 23]), options)
    moving = still.with_object_motion(motion)
    volume, grid = (bone if options.object == "bone" else trabecular)(seed, options)
    volume = volume * (LINE_MAX / float(project(volume, scan_geometry(still.with_views(slice(0, 1))), grid).max()))
    reference = sampled(volume, grid, view(still))
    clean = [line_integrals(volume, grid, one) for one in (still, moving)]
    start, truth = scan_geometry(still), scan_geometry(moving)
    cases = []
    for counts in options.counts:
        unmoved, data = (noisy(paths, counts, np.random.default_rng([seed, 29])) for paths in clean)
        began = time.perf_counter()
        fit = fit_motion(data, still, knots=options.knots)
        seconds = time.perf_counter() - began
        found = scan_geometry(fit.acquisition)
        best = psnr_db(unmoved, start, reference, still)
        nominal, corrected, ideal = (
            psnr_db(data, in_place(one, truth, still), reference, still) for one in (start, found, truth)
        )
        case = Case(
            seed=seed,
            counts=counts,
            nominal_loss_db=best - nominal,
            loss_db=best - corrected,
            true_loss_db=best - ideal,
            still_psnr_db=best,
            before_px=ray_displacement_px(start, truth, view(still)),
            after_px=ray_displacement_px(found, truth, view(still)),
            covered=covered(fit.motion, fit.band, motion),
            trusted=fit.trusted,
            cost=fit.operations,
            seconds=seconds,
        )
        if options.each:
            print(json.dumps(asdict(case)), flush=True)
        cases.append(case)
    return cases


def summary(cases: list[Case]) -> dict[str, Any]:
    """The figures of all cases at one number of counts."""
    names = [name for name in asdict(cases[0]) if name not in ("seed", "counts", "trusted", "covered")]
    values = {name: np.array([getattr(case, name) for case in cases]) for name in names}
    spread = {name: {"median": _round(np.median(v)), "worst": _round(v.max())} for name, v in values.items()}
    spread["still_psnr_db"]["worst"] = _round(values["still_psnr_db"].min())
    return {
        **spread,
        "within_1_db": sum(case.loss_db <= 1 for case in cases),
        "covered": _round(np.mean([case.covered for case in cases])),
        "trusted": sum(case.trusted for case in cases),
    }


def _round(value: Any) -> float:
    return round(float(value), 4)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this benchmark."""
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    parser.add_argument(
        "--counts", type=float, nargs="+", default=[10000.0, 0.0], help="photons per pixel and view; 0 for no noise"
    )
    parser.add_argument("--object", choices=["bone", "trabecular"], default="bone")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--cols", type=int, default=128)
    parser.add_argument("--views", type=int, default=180)
    parser.add_argument("--width", type=float, default=0.5, help="of the object, as a share of the detector's")
    parser.add_argument("--drift-px", type=float, default=10.0, help="largest along each axis, as is the following")
    parser.add_argument("--turn-deg", type=float, default=1.0)
    parser.add_argument("--knots", type=int, default=12, help="of the fitted motion")
    parser.add_argument("--each", action="store_true", help="print a line for each case first")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All cases, and what they showed at each number of counts."""
    if options.object == "trabecular" and not (REAL_DATA / "ciclope_LHDL_3155").is_dir():
        return {"skipped": f"no measured bone in {REAL_DATA} (set XRMFLOW_TEST_DATA)"}
    cases = [case for seed in range(options.seed, options.seed + options.cases) for case in run_object(seed, options)]
    by_counts = {counts: [case for case in cases if case.counts == counts] for counts in options.counts}
    return {f"counts_{counts:g}": summary(some) for counts, some in by_counts.items()}
