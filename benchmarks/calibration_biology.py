"""Whether a correction fitted to the scans themselves leaves a difference between groups of bones as it is.

Two groups of --cases bones, in both of the same random sizes, but each with bulges and mineral of its own; those of the
second have 3 % more mineral and a cortex 5 % thicker. The truth is measured on the objects themselves, which differ by
chance too: mean attenuation of bone at the energy that a thin object sees, and mean thickness of the cortex along rays
from the middle of each slice. The same is measured in the reconstructions, without any knowledge of the truth:
uncorrected, each with its own correction (scan), and all with one (protocol). An effect is the second group's mean over
the first's, minus one; its error is relative to the true effect.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import scipy.ndimage
from calibration_bones import COLS, VOXEL_UM, Scanned, random_bone, reconstructed, scan_recipe, scanned

from xrmflow.calibration.basis import load_slab
from xrmflow.calibration.bone import segment_bone
from xrmflow.calibration.cupping import fit_cupping
from xrmflow.calibration.protocol import ScanEquations, fit_protocol
from xrmflow.metrics.labels import BONE
from xrmflow.phantom.scan import OBJECT_FACTOR

DENSER, THICKER = 0.03, 0.05
ANGLES, STEP_PX = 180, 0.25
SURFACE_PX = 2


@dataclass(frozen=True)
class Measured:
    """One bone: mean attenuation of bone, per mm, and mean thickness of its cortex, mm."""

    attenuation: float
    thickness: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of this part."""
    parser.add_argument("--cases", type=int, default=10, help="bones in each of the two groups")
    parser.add_argument("--seed", type=int, default=0, help="number of the first bone")
    parser.add_argument("--counts", type=float, default=10000, help="open-beam photons per pixel and view")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--views", type=int, default=240)
    parser.add_argument("--tube-kv", type=int, default=60, help="with 0.5 mm of aluminium")
    parser.add_argument("--mineral-variation", type=float, default=0.02, help="relative, within a bone")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Scan both groups, correct, measure, compare."""
    groups = [[_scanned(seed, treated, options) for seed in _seeds(treated, options)] for treated in (False, True)]
    fits = [[fit_cupping(one.measured, one.scan.acquisition) for one in group] for group in groups]
    shared = fit_protocol([ScanEquations(fit.system, fit.largest, fit.totals) for group in fits for fit in group])
    corrections = {
        "uncorrected": [[(1.0,)] * options.cases] * 2,
        "scan": [[fit.coefficients for fit in group] for group in fits],
        "protocol": [[shared.coefficients] * options.cases] * 2,
    }
    truth = _effects([[_truth(one) for one in group] for group in groups])
    found = {
        name: _effects(
            [
                [_measured(one, c) for one, c in zip(group, cs, strict=True)]
                for group, cs in zip(groups, used, strict=True)
            ]
        )
        for name, used in corrections.items()
    }
    return {
        "fixed": {"cols": COLS, "voxel_um": VOXEL_UM, "al_mm": 0.5, "planted_percent": [100 * DENSER, 100 * THICKER]},
        "true_effect_percent": _percent(truth),
        **{
            name: {
                "effect_percent": _percent(effect),
                "error_of_the_effect_percent": _percent({k: effect[k] / truth[k] - 1 for k in truth}),
            }
            for name, effect in found.items()
        },
        "protocol_c2": round(shared.found[1], 3),
        "protocol_uncertainty": round(shared.uncertainty[0], 3) if shared.uncertainty else None,
        "applied": sum(fit.applied for group in fits for fit in group),
    }


def _seeds(treated: bool, options: argparse.Namespace) -> range:
    first = options.seed + treated * options.cases
    return range(first, first + options.cases)


def _scanned(seed: int, treated: bool, options: argparse.Namespace) -> Scanned:
    size = seed - treated * options.cases
    shape = replace(random_bone(np.random.default_rng([size, 0]), options.mineral_variation), trabecular_fraction=0.0)
    if treated:
        shape = replace(
            shape,
            cortex_um=shape.cortex_um * (1 + THICKER),
            mineral_mg_per_cm3=shape.mineral_mg_per_cm3 * (1 + DENSER),
        )
    recipe = scan_recipe(options.tube_kv, 0.5, rows=options.rows, views=options.views, counts=options.counts)
    return scanned(shape, recipe, seed)


def _truth(one: Scanned) -> Measured:
    """Of the object itself, at the energy that a thin object sees in the first group's bone."""
    bone = one.bone
    labels = bone.labels[bone.core]
    volume = bone.attenuation_per_mm(one.scan.effective_energy_kev, bone.core)
    return _measure(volume, labels == BONE, OBJECT_FACTOR, bone.grid.voxel_mm)


def _measured(one: Scanned, coefficients: tuple[float, ...]) -> Measured:
    """Of the reconstruction, as a user would."""
    grid = load_slab(one.measured, one.scan.acquisition, degree=1, slices=48).grid
    volume = reconstructed(one.measured, one.scan, grid, coefficients)
    segmented = segment_bone(volume, smoothing_px=1.0)
    if segmented is None:
        raise RuntimeError("no bone was found in a reconstruction")
    return _measure(volume, segmented[0], 1, grid.voxel_mm)


def _measure(volume: np.ndarray, bone: np.ndarray, factor: int, voxel_mm: float) -> Measured:
    """Mean attenuation of bone well below its surface, and mean thickness of the cortex.

    The thickness along a ray from the middle is the integral over it of (v - w) / (b - w), with b the mean of bone and
    w that of the marrow: partial volumes and blur do not change it.
    """
    deep = np.asarray(scipy.ndimage.binary_erosion(bone, iterations=SURFACE_PX * factor, border_value=1), dtype=bool)
    far = ~np.asarray(scipy.ndimage.binary_dilation(bone, iterations=SURFACE_PX * factor), dtype=bool)
    middle = np.asarray(scipy.ndimage.binary_fill_holes(bone.any(axis=0)))
    marrow = far & np.asarray(scipy.ndimage.binary_erosion(middle, iterations=SURFACE_PX * factor), dtype=bool)
    around = float(volume[marrow].mean())
    share = (volume - around) / (float(volume[deep].mean()) - around)
    rows, cols = np.nonzero(middle)
    angle = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)[:, None]
    reach = np.arange(0, volume.shape[2] / 2, STEP_PX)
    places = np.array([rows.mean() + reach * np.sin(angle), cols.mean() + reach * np.cos(angle)])
    near = np.asarray(scipy.ndimage.binary_dilation(middle, iterations=SURFACE_PX * factor), dtype=bool)
    lengths = [
        scipy.ndimage.map_coordinates(np.where(near, layer, 0.0), places, order=1).sum(axis=1).mean() for layer in share
    ]
    return Measured(float(volume[deep].mean()), float(np.mean(lengths)) * STEP_PX * voxel_mm)


def _effects(groups: list[list[Measured]]) -> dict[str, float]:
    means = [{name: np.mean([asdict(one)[name] for one in group]) for name in asdict(group[0])} for group in groups]
    return {name: float(means[1][name] / means[0][name] - 1) for name in means[0]}


def _percent(values: dict[str, float]) -> dict[str, float]:
    return {name: round(100 * value, 2) for name, value in values.items()}
