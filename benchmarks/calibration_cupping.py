"""Cupping of bone before and after the correction that is fitted to the scan itself, or to all scans of a protocol.

Each case is a bone, one of three spectra in turn, and a scan of it with photon noise, in its true geometry. Nothing is
tuned to a case. Cases of the same spectrum are a protocol. Each is done twice where two values of --mineral-variation
are given: with bone that is equally mineralised everywhere, the correction has only to find the hardening; where
mineral varies, bone that by chance is denser outside looks like hardening, and one scan cannot tell.

Bone is what the truth says it is, two voxels below its surface; where in the bone a voxel lies is its distance from the
axis relative to the periosteum's. Grey values are means over the slices that every view sees. "Difference" is outer
minus inner third over the mean, beyond the monochromatic reference's own; reduction is how much of it is gone (100 %:
no difference; less than 0: made worse); the shape error is the rms relative difference of the means of 12 shells from
the reference's after the best scale; the scale error the mean of bone against the reference's. Cost is the time of a
fit on a slab of a scan with --cost-cols columns, in FDKs of that slab (all voxels, views and columns), each run once
before.
"""

import argparse
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from calibration_bones import COLS, SPECTRA, VOXEL_UM, Scanned, random_bone, reconstructed, scan_recipe, scanned, spread

from xrmflow.calibration.basis import load_slab
from xrmflow.calibration.cupping import CuppingFit, fit_cupping
from xrmflow.calibration.protocol import ScanEquations, fit_protocol
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.phantom.comparison import solid
from xrmflow.phantom.object import BONE, Bone, coordinates_mm
from xrmflow.phantom.scan import OBJECT_FACTOR
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk

SHELLS = 12
COST_SLICES = 48


@dataclass(frozen=True)
class Case:
    """What one bone showed under one correction; fractions, not per cent.

    Attributes:
        applied, trusted: what the fit said.
        c2: found.
        uncertainty: of it.
        reduction: of the difference beyond the reference's own; 0 when not applied.
        shape_error: rms relative difference of the means of shells from the reference's, after the best scale.
        scale_error: mean of corrected bone over that of the reference, minus one.
    """

    applied: bool
    trusted: bool
    c2: float
    uncertainty: float
    reduction: float
    shape_error: float
    scale_error: float


@dataclass(frozen=True)
class Uncorrected:
    """One bone before any correction, and what is done to a monochromatic scan of it.

    Attributes:
        too_dark: mean of bone below the monochromatic reference's.
        difference: (outer - inner) / mean of bone beyond the reference's own.
        real_difference: the reference's own, from mineral that varies over a bone.
        mono_change: relative change of the mean of bone in a monochromatic scan of the same noise.
        mono_trusted: what the fit to that said.
    """

    too_dark: float
    difference: float
    real_difference: float
    mono_change: float
    mono_trusted: bool


@dataclass(frozen=True)
class Shells:
    """Means of bone in shells, as they depend on the correction: (degree, shell) of each power, (shell,) of the truth.

    FDK is linear, so that a correction costs no reconstruction here.
    """

    powers: np.ndarray
    reference: np.ndarray
    weights: np.ndarray

    def after(self, coefficients: tuple[float, ...]) -> np.ndarray:
        """(shell,) means of the corrected volume."""
        return np.asarray(coefficients) @ self.powers[: len(coefficients)]

    def judged(self, fit: CuppingFit) -> Case:
        """How good a correction is."""
        reference, after = self.reference, self.after(fit.coefficients)
        cupped, left = (_difference(means) - _difference(reference) for means in (self.powers[0], after))
        scale = (self.weights @ (after * reference)) / (self.weights @ after**2)
        return Case(
            applied=fit.applied,
            trusted=fit.trusted,
            c2=fit.found[1],
            uncertainty=fit.uncertainty[0] if fit.uncertainty else float("nan"),
            reduction=1 - abs(left) / abs(cupped),
            shape_error=float(np.sqrt(self.weights @ (scale * after / reference - 1) ** 2)),
            scale_error=float(self.weights @ after / (self.weights @ reference) - 1),
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of this part."""
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="number of the first bone")
    parser.add_argument("--counts", type=float, default=10000, help="open-beam photons per pixel and view")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--views", type=int, default=240)
    parser.add_argument("--degree", type=int, default=2)
    parser.add_argument(
        "--mineral-variation", type=float, nargs="+", default=[0.02, 0.0], help="relative, within a bone"
    )
    parser.add_argument("--cost-cols", type=int, default=512, help="columns of the scan whose fit is timed; 0: none")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All cases under both corrections, and the cost."""
    start = time.perf_counter()
    found = {f"mineral_varies_{100 * v:g}_percent": _bones(v, options) for v in options.mineral_variation}
    seconds = (time.perf_counter() - start) / (options.cases * len(options.mineral_variation))
    cost = {"cost": cost_of_a_fit(options.cost_cols, options.degree)} if options.cost_cols else {}
    fixed = {"cols": COLS, "voxel_um": VOXEL_UM, "kv_and_al_mm": SPECTRA}
    return {"fixed": fixed, **found, **cost, "seconds_a_case": round(seconds, 1)}


def _bones(mineral_variation: float, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of all bones whose mineral varies so much."""
    before, shells, fits = [], [], []
    for seed in range(options.seed, options.seed + options.cases):
        recipe = scan_recipe(
            *SPECTRA[seed % len(SPECTRA)], rows=options.rows, views=options.views, counts=options.counts
        )
        one = scanned(random_bone(np.random.default_rng([seed, 0]), mineral_variation), recipe, seed)
        fits.append(fit_cupping(one.measured, one.scan.acquisition, degree=options.degree))
        shells.append(shells_of(one, options.degree))
        before.append(_uncorrected(one, shells[-1], seed, options))
    shared = _shared(fits, options.degree)
    scopes = {
        scope: [shell.judged(fit) for shell, fit in zip(shells, used, strict=True)]
        for scope, used in (("scan", fits), ("protocol", shared))
    }
    return _figures(before) | {scope: _judgement(cases) for scope, cases in scopes.items()}


def _shared(fits: list[CuppingFit], degree: int) -> list[CuppingFit]:
    """For each scan the fit to all scans of its spectrum."""
    n = len(SPECTRA)
    equations = [ScanEquations(fit.system, fit.largest, fit.totals) for fit in fits]
    protocols = [fit_protocol(equations[k::n], degree=degree) for k in range(min(n, len(fits)))]
    return [protocols[index % n] for index in range(len(fits))]


def shells_of(one: Scanned, degree: int) -> Shells:
    """Means in shells of a scan's reconstruction and of its monochromatic reference's."""
    grid = load_slab(one.measured, one.scan.acquisition, degree=1, slices=COST_SLICES).grid
    shell, inside = _shells(one.bone, grid)

    def means(p: np.ndarray) -> np.ndarray:
        volume = reconstructed(p, one.scan, grid)
        counts = np.bincount(shell[inside], minlength=SHELLS)
        return np.bincount(shell[inside], volume[inside].astype(float), minlength=SHELLS) / counts

    powers = np.stack([means(one.measured**power) for power in range(1, degree + 1)])
    weights = np.bincount(shell[inside], minlength=SHELLS) / inside.sum()
    return Shells(powers, means(one.scan.line_integrals), weights)


def _uncorrected(one: Scanned, shells: Shells, seed: int, options: argparse.Namespace) -> Uncorrected:
    clean = np.exp(-one.scan.line_integrals.astype(float)) * options.counts
    noisy = np.maximum(np.random.default_rng([seed, 9]).poisson(clean), 1)
    mono = -np.log(noisy / options.counts).astype(np.float32)
    fit = fit_cupping(mono, one.scan.acquisition, degree=options.degree)
    before, reference, weights = shells.powers[0], shells.reference, shells.weights
    change = 0.0
    if fit.applied:
        grid = load_slab(mono, one.scan.acquisition, degree=1, slices=COST_SLICES).grid
        inside = _shells(one.bone, grid)[1]
        plain, changed = (reconstructed(mono, one.scan, grid, c)[inside].mean() for c in ((1.0,), fit.coefficients))
        change = float(changed / plain - 1)
    return Uncorrected(
        too_dark=float(1 - weights @ before / (weights @ reference)),
        difference=_difference(before) - _difference(reference),
        real_difference=_difference(reference),
        mono_change=change,
        mono_trusted=fit.trusted,
    )


def _shells(bone: Bone, grid: VolumeGrid) -> tuple[np.ndarray, np.ndarray]:
    """(z, y, x) number of the shell of each voxel, equally many in each, and whether it lies well inside bone."""
    core = bone.labels[bone.core]
    spare = (core.shape[0] // OBJECT_FACTOR - grid.shape[0]) // 2
    inside = solid(core, BONE, factor=OBJECT_FACTOR, erosion=2)[spare : spare + grid.shape[0]]
    x, y, z = coordinates_mm(grid)
    outer, _ = bone.shaft.walls_mm(np.arctan2(y[:, None], x), z)
    place = np.hypot(x, y[:, None]) / outer
    limits = np.quantile(place[inside], np.linspace(0, 1, SHELLS + 1)[1:-1])
    return np.digitize(place, limits), inside


def _difference(means: np.ndarray) -> float:
    """(outer third - inner third) / mean."""
    third = SHELLS // 3
    return float((means[-third:].mean() - means[:third].mean()) / means.mean())


def _figures(before: list[Uncorrected]) -> dict[str, Any]:
    values = {name: np.array([getattr(case, name) for case in before], float) for name in asdict(before[0])}
    return {
        "difference_before_percent": spread(100 * values["difference"]),
        "too_dark_before_percent": spread(100 * values["too_dark"]),
        "real_difference_percent": spread(100 * values["real_difference"]),
        "mono_change_percent": spread(100 * np.abs(values["mono_change"])),
        "mono_trusted": int(values["mono_trusted"].sum()),
    }


def _judgement(cases: list[Case]) -> dict[str, Any]:
    values = {name: np.array([getattr(case, name) for case in cases], float) for name in asdict(cases[0])}
    return {
        "reduction_percent": spread(100 * values["reduction"]),
        "below_90": int((values["reduction"] < 0.9).sum()),
        "made_worse": int((values["reduction"] < 0).sum()),
        "shape_error_percent": spread(100 * values["shape_error"]),
        "scale_error_percent": spread(100 * values["scale_error"]),
        "c2": spread(values["c2"], 3),
        "uncertainty": spread(values["uncertainty"], 3),
        "applied": int(values["applied"].sum()),
        "trusted": int(values["trusted"].sum()),
        "each_percent": [round(100 * float(r), 1) for r in values["reduction"]],
    }


def cost_of_a_fit(cols: int, degree: int) -> dict[str, float]:
    """Seconds of a fit and of an FDK of the same slab, and their ratio; start-up and compiling excluded."""
    _timed(*_tube(64, 64), degree)
    fit_s, fdk_s = _timed(*_tube(cols, cols), degree)
    limit = round(1.1 * (degree + 1), 2)
    return {
        "cols": cols,
        "slices": COST_SLICES,
        "fit_s": round(fit_s, 2),
        "fdk_s": round(fdk_s, 2),
        "fdks": round(fit_s / fdk_s, 3),
        "limit_fdks": limit,
    }


def _tube(cols: int, views: int) -> tuple[np.ndarray, Acquisition]:
    """Line integrals of a hardened tube that is the same in all slices, with noise."""
    rows, voxel = COST_SLICES + 4, 1.6 / cols
    angles = tuple(np.linspace(0, 360, views, endpoint=False))
    acquisition = Acquisition(
        "cone", angles, rows, cols, 2.5 * voxel, 40.0, 100.0, (cols - 1) / 2 + 0.7, (rows - 1) / 2
    )
    radius = np.hypot(*(np.mgrid[:cols, :cols] - (cols - 1) / 2)) * voxel
    volume = np.where((radius < 0.65) & (radius > 0.4) | (radius < 0.15), 1.2, np.where(radius < 0.7, 0.15, 0.0))
    grid = VolumeGrid((3, cols, cols), voxel)
    middle = scan_geometry(acquisition).with_rows(slice(rows // 2, rows // 2 + 1))
    lengths = project(torch.from_numpy(np.repeat(volume[None], 3, axis=0).astype(np.float32)), middle, grid).numpy()
    p = -np.log(0.5 * np.exp(-1.5 * lengths) + 0.5 * np.exp(-0.5 * lengths)).repeat(rows, axis=1)
    return p + np.random.default_rng(0).normal(0, 0.01, p.shape).astype(np.float32), acquisition


def _timed(p: np.ndarray, acquisition: Acquisition, degree: int) -> tuple[float, float]:
    grid = VolumeGrid((COST_SLICES, acquisition.cols, acquisition.cols), acquisition.voxel_mm)
    start = time.perf_counter()
    fit_cupping(p, acquisition, degree=degree, slices=COST_SLICES)
    middle = time.perf_counter()
    fdk(torch.from_numpy(p), scan_geometry(acquisition), grid)
    return middle - start, time.perf_counter() - middle
