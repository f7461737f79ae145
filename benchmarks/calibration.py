"""How far calibration from the scan itself comes on simulated bones of random shape; prints one line of JSON.

python benchmarks/calibration.py --what cupping --cases 24 --seed 0 --counts 10000

Each case is a bone, one of three spectra in turn, and a scan of it with photon noise, in its true geometry. Nothing is
tuned to a case. Bone is what the truth says it is, two voxels below its surface; where in the bone a voxel lies is its
distance from the axis relative to the periosteum's. Grey values are means over the slices that every view sees.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from xrmflow.calibration.basis import load_slab
from xrmflow.calibration.cupping import CuppingFit, fit_cupping
from xrmflow.calibration.polynomial import linearise
from xrmflow.chain import ToLineIntegrals
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.phantom.comparison import solid
from xrmflow.phantom.detector import DetectorRecipe
from xrmflow.phantom.object import BONE, Bone, BoneRecipe, coordinates_mm, make_bone
from xrmflow.phantom.scan import OBJECT_FACTOR, ScanRecipe, SimulatedScan, object_grid, object_margin, simulate_scan
from xrmflow.reconstruction.fdk import fdk

SPECTRA = ((40, 0.25), (60, 0.5), (80, 0.5))
"""Tube voltage, kV, and aluminium, mm."""
SHELLS = 12
QUIET = {"drift": 0.0, "dead_fraction": 0.0, "unstable_fraction": 0.0, "outlier_fraction": 0.0}


@dataclass(frozen=True)
class Case:
    """What one bone showed; fractions, not per cent.

    Attributes:
        tube_kv: of the spectrum.
        applied, trusted: what the fit said.
        c2: found.
        too_dark: mean of uncorrected bone below the monochromatic reference's.
        difference: (outer - inner) / mean of uncorrected bone beyond the reference's own.
        real_difference: the reference's own, from mineral that varies over a bone.
        reduction: of the difference beyond the reference's own; 0 when not applied.
        shape_error: rms relative difference of the means of shells from the reference's, after the best scale.
        scale_error: mean of corrected bone over that of the reference, minus one.
        mono_change: relative change of the mean of bone in a monochromatic scan of the same noise.
        mono_trusted: what the fit to that said.
    """

    tube_kv: int
    applied: bool
    trusted: bool
    c2: float
    too_dark: float
    difference: float
    real_difference: float
    reduction: float
    shape_error: float
    scale_error: float
    mono_change: float
    mono_trusted: bool


def random_bone(rng: np.random.Generator, mineral_variation: float) -> BoneRecipe:
    """A bone about as thick as a mouse's femur; pores are below the resolution, except the largest canal."""
    outer = rng.uniform(550, 760, 2)
    return BoneRecipe(
        outer_um=(float(outer[0]), float(outer[1])),
        cortex_um=float(rng.uniform(180, 300)),
        tissue_um=(float(outer[0]) * 1.15, float(outer[1]) * 1.15),
        roughness=float(rng.uniform(0.02, 0.05)),
        form_wavelength_um=2500.0,
        trabecular_wavelength_um=float(rng.uniform(200, 300)),
        trabecular_fraction=float(rng.uniform(0.1, 0.35)),
        lacunae_per_mm3=0.0,
        canal_radius_um=30.0,
        mineral_variation=mineral_variation,
    )


def scan_recipe(tube_kv: int, aluminium_mm: float, options: argparse.Namespace) -> ScanRecipe:
    """A scan of that spectrum without faults other than photon noise, in a geometry without shifts."""
    return ScanRecipe(
        rows=options.rows,
        cols=96,
        views=options.views,
        voxel_um=20.0,
        detector=DetectorRecipe(counts=options.counts, flats=200, darks=50, **QUIET),
        source_to_axis_mm=40.0,
        axis_to_detector_mm=60.0,
        tube_kv=tube_kv,
        filters_mm={"aluminium": aluminium_mm},
        centre_offset_px=0.7,
        roll_deg=0.0,
        shift_px=0.0,
    )


def cupping_case(seed: int, options: argparse.Namespace) -> Case:
    """Simulate, fit, compare."""
    recipe = scan_recipe(*SPECTRA[seed % len(SPECTRA)], options)
    shape = random_bone(np.random.default_rng([seed, 0]), options.mineral_variation)
    bone = make_bone(shape, object_grid(recipe), seed=seed, margin=object_margin(recipe))
    scan = simulate_scan(bone, recipe, seed=seed)
    to_integrals = ToLineIntegrals(_tensor(scan.flats), _tensor(scan.darks), photons_per_count=1.0)
    measured = to_integrals(_tensor(scan.counts)).numpy()
    clean = np.exp(-scan.line_integrals.astype(float)) * options.counts
    mono = -np.log(np.maximum(np.random.default_rng([seed, 9]).poisson(clean), 1) / options.counts).astype(np.float32)
    fit, mono_fit = (fit_cupping(p, scan.acquisition, degree=options.degree) for p in (measured, mono))
    return _compared(measured, fit, mono_fit, scan, bone)


def _compared(measured: np.ndarray, fit: CuppingFit, mono_fit: CuppingFit, scan: SimulatedScan, bone: Bone) -> Case:
    grid = load_slab(measured, scan.acquisition, degree=1, slices=48).grid
    shell, inside = _shells(bone, grid)
    reference = _means(scan.line_integrals, scan, grid, shell, inside)
    before = _means(measured, scan, grid, shell, inside)
    after = _means(_corrected(measured, fit), scan, grid, shell, inside)
    mono = _means(_corrected(scan.line_integrals, mono_fit), scan, grid, shell, inside)
    weights = np.bincount(shell[inside], minlength=SHELLS) / inside.sum()
    cupped, left = (_difference(means) - _difference(reference) for means in (before, after))
    scale = (weights @ (after * reference)) / (weights @ after**2)
    return Case(
        tube_kv=scan.recipe.tube_kv,
        applied=fit.applied,
        trusted=fit.trusted,
        c2=fit.found[1],
        too_dark=float(1 - weights @ before / (weights @ reference)),
        difference=cupped,
        real_difference=_difference(reference),
        reduction=1 - abs(left) / abs(cupped),
        shape_error=float(np.sqrt(weights @ (scale * after / reference - 1) ** 2)),
        scale_error=float(weights @ after / (weights @ reference) - 1),
        mono_change=float(weights @ mono / (weights @ reference) - 1),
        mono_trusted=mono_fit.trusted,
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


def _means(p: np.ndarray, scan: SimulatedScan, grid: VolumeGrid, shell: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Mean attenuation of bone in each shell of the reconstruction, per mm."""
    volume = fdk(torch.from_numpy(p), scan_geometry(scan.acquisition), grid).numpy()
    counts = np.bincount(shell[inside], minlength=SHELLS)
    return np.bincount(shell[inside], volume[inside].astype(float), minlength=SHELLS) / counts


def _difference(means: np.ndarray) -> float:
    """(outer third - inner third) / mean."""
    third = SHELLS // 3
    return float((means[-third:].mean() - means[:third].mean()) / means.mean())


def _corrected(p: np.ndarray, fit: CuppingFit) -> np.ndarray:
    return linearise(torch.from_numpy(p), fit.coefficients).numpy()


def _tensor(counts: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(counts.astype(np.float32))


def summary(cases: list[Case], options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The figures of all cases, per cent where the name says so."""
    values = {name: np.array([getattr(case, name) for case in cases], float) for name in asdict(cases[0])}
    return {
        "what": options.what,
        "settings": {
            **{name: value for name, value in vars(options).items() if name not in ("what", "each")},
            "cols": 96,
            "voxel_um": 20.0,
            "kv_and_al_mm": SPECTRA,
        },
        "difference_before_percent": _spread(100 * values["difference"]),
        "too_dark_before_percent": _spread(100 * values["too_dark"]),
        "real_difference_percent": _spread(100 * values["real_difference"]),
        "reduction_percent": _spread(100 * values["reduction"]),
        "shape_error_percent": _spread(100 * values["shape_error"]),
        "scale_error_percent": _spread(100 * values["scale_error"]),
        "mono_change_percent": _spread(100 * np.abs(values["mono_change"])),
        "applied": int(values["applied"].sum()),
        "trusted": int(values["trusted"].sum()),
        "mono_trusted": int(values["mono_trusted"].sum()),
        "seconds_a_case": round(seconds / len(cases), 1),
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {name: round(float(of(values)), 2) for name, of in (("median", np.median), ("min", min), ("max", max))}


def main() -> None:
    """Read the options, run the cases, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=["cupping"], default="cupping")
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="number of the first bone")
    parser.add_argument("--counts", type=float, default=10000, help="open-beam photons per pixel and view")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--views", type=int, default=240)
    parser.add_argument("--degree", type=int, default=2)
    parser.add_argument("--mineral-variation", type=float, default=0.02, help="relative, within a bone")
    parser.add_argument("--each", action="store_true", help="print a line for each case first")
    options = parser.parse_args()
    start, cases = time.perf_counter(), []
    for seed in range(options.seed, options.seed + options.cases):
        cases.append(cupping_case(seed, options))
        if options.each:
            print(json.dumps(asdict(cases[-1])), flush=True)
    print(json.dumps(summary(cases, options, time.perf_counter() - start)))


if __name__ == "__main__":
    main()
