"""Bones in thick soft tissue: one coefficient for both materials against one for each.

Each case has two bones (rough tubes, as a tibia and a fibula) in an oval of soft tissue a centimetre across and more,
scanned with photon noise in the true geometry; shapes are drawn from the seed, nothing is tuned to a case. Coefficients
are fitted to the noisy scan. What they do is judged on the noise-free one, against the monochromatic volume of what a
thin layer of each material attenuates:

- difference: of the bone's third of least and that of most hardening (FDK of the true line integrals squared), over its
  mean, voxels next to a surface left out;
- shading: rms of what soft tissue (three voxels from any edge) differs from the truth by, about its mean, over its
  mean: dark bands between bones and streaks;
- error: of the mean of bone and of soft tissue.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from calibration_bones import spread
from scipy.ndimage import binary_erosion

from xrmflow.calibration.basis import load_slab
from xrmflow.calibration.bone import segment_bone
from xrmflow.calibration.cupping import fit_cupping
from xrmflow.calibration.materials import bone_integrals, correct_two_materials, fit_two_materials
from xrmflow.calibration.polynomial import linearise
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.phantom.materials import attenuation_per_mm, bone_attenuation_per_mm
from xrmflow.phantom.spectrum import detected_spectrum
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk

COLS, ROWS, VIEWS, FINER = 112, 20, 200, 2
MINERAL = 0.6


@dataclass(frozen=True)
class Limb:
    """A limb that is the same in all slices, and its scan.

    Attributes:
        soft, bone: (y, x) bool at `FINER` times the resolution.
        noisy, exact, true: (view, row, col) line integrals: measured, without noise, and monochromatic.
    """

    soft: np.ndarray
    bone: np.ndarray
    noisy: np.ndarray
    exact: np.ndarray
    true: np.ndarray
    acquisition: Acquisition


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of this part."""
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="number of the first limb")
    parser.add_argument("--counts", type=float, default=20000, help="open-beam photons per pixel and view")
    parser.add_argument("--kv", type=int, default=80)
    parser.add_argument("--aluminium-mm", type=float, default=1.0)
    parser.add_argument("--radius-mm", type=float, default=6.0, help="largest half width of the soft tissue")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All cases with no, one and two coefficients."""
    cases = [judged(limb(seed, options)) for seed in range(options.seed, options.seed + options.cases)]
    kinds = ("none", "one", "two")
    return {
        kind: {name: spread(np.array([case[kind][name] for case in cases])) for name in cases[0][kind]}
        for kind in kinds
    } | {
        "two_better_than_one": {
            name: int(sum(abs(case["two"][name]) < abs(case["one"][name]) for case in cases))
            for name in cases[0]["one"]
            if name.endswith("percent")
        },
    }


def limb(seed: int, options: argparse.Namespace) -> Limb:
    """Draw a limb and scan it."""
    rng = np.random.default_rng([seed, 7])
    width = 2 * options.radius_mm / 0.92
    soft, bone = shapes(rng, options.radius_mm, width)
    voxel = width / COLS
    angles = tuple(np.linspace(0, 360, VIEWS, endpoint=False).tolist())
    middle = (COLS - 1) / 2 + 0.6, (ROWS - 1) / 2
    acquisition = Acquisition("cone", angles, ROWS, COLS, 2.5 * voxel, 200.0, 500.0, *middle)
    lengths = [_lengths(part, acquisition, voxel / FINER) for part in (soft, bone)]
    spectrum = detected_spectrum(options.kv, filters_mm={"aluminium": options.aluminium_mm})
    energies, weights = spectrum.energies_kev, spectrum.weights
    per_mm = attenuation_per_mm("soft_tissue", energies), bone_attenuation_per_mm(MINERAL, energies)
    seen = sum(w * np.exp(-a * lengths[0] - b * lengths[1]) for w, a, b in zip(weights, *per_mm, strict=True))
    counts = np.maximum(np.random.default_rng([seed, 8]).poisson(options.counts * seen), 1)
    return Limb(
        soft,
        bone,
        noisy=-np.log(counts / options.counts).astype(np.float32),
        exact=-np.log(seen).astype(np.float32),
        true=((weights @ per_mm[0]) * lengths[0] + (weights @ per_mm[1]) * lengths[1]).astype(np.float32),
        acquisition=acquisition,
    )


def shapes(rng: np.random.Generator, radius_mm: float, width_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) soft tissue and bone."""
    size = COLS * FINER
    x = (np.arange(size) - (size - 1) / 2) * width_mm / size
    half = rng.uniform(0.8, 1.0, 2) * radius_mm
    body = (x / half[0]) ** 2 + (x[:, None] / half[1]) ** 2 < 1
    towards, away = rng.uniform(0, 2 * np.pi), radius_mm * rng.uniform(0.32, 0.42)
    bone = np.zeros_like(body)
    for side, thick, wall in ((1.0, (0.26, 0.33), (0.10, 0.16)), (-rng.uniform(0.9, 1.3), (0.16, 0.22), (0.09, 0.12))):
        centre = side * away * np.array([np.cos(towards), np.sin(towards)])
        bone |= _tube(rng, x - centre[0], x[:, None] - centre[1], *(radius_mm * rng.uniform(*r) for r in (thick, wall)))
    return body & ~bone, bone


def _tube(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, radius: float, wall: float) -> np.ndarray:
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    waves = zip((2, 3, 4), rng.uniform(0.02, 0.08, 3), rng.uniform(0, 2 * np.pi, 3), strict=True)
    outer = radius * (1 + sum(size * np.cos(n * angle + phase) for n, size, phase in waves))
    return (distance < outer) & (distance > outer - wall)


def _lengths(part: np.ndarray, acquisition: Acquisition, voxel_mm: float) -> np.ndarray:
    """Path in a material, mm."""
    volume = np.repeat(part[None].astype(np.float32), (ROWS + 8) * FINER, axis=0)
    grid = VolumeGrid(volume.shape, voxel_mm)
    return project(torch.from_numpy(volume), scan_geometry(acquisition), grid).numpy().astype(np.float64)


def judged(one: Limb) -> dict[str, dict[str, float]]:
    """Figures with no, one and two coefficients."""
    geometry = scan_geometry(one.acquisition)
    grid = load_slab(one.noisy, one.acquisition, degree=1, slices=ROWS).grid
    exact = torch.from_numpy(one.exact)
    single, double = fit_cupping(one.noisy, one.acquisition), fit_two_materials(one.noisy, one.acquisition)
    of_bone = segmented(one.noisy, one.acquisition, grid, double.bone_per_mm)
    corrected = {
        "none": exact,
        "one": linearise(exact, single.coefficients),
        "two": correct_two_materials(exact, of_bone, double.coefficients),
    }
    true = fdk(torch.from_numpy(one.true), geometry, grid).numpy()
    hardened = fdk(torch.from_numpy(one.true) ** 2, geometry, grid).numpy()
    regions = [_inside(part, erosion) for part, erosion in ((one.bone, 1), (one.soft, 3))]
    found = {kind: figures(fdk(p, geometry, grid).numpy(), true, hardened, *regions) for kind, p in corrected.items()}
    found["one"] |= {"applied": float(single.applied), "c": single.found[1]}
    found["two"] |= {"applied": float(double.applied), "c_bone": double.found[0], "c_soft": double.found[1]}
    return found


def segmented(p: np.ndarray, acquisition: Acquisition, grid: VolumeGrid, bone_per_mm: float) -> torch.Tensor:
    """(view, row, col) line integrals of the bone that the first reconstruction shows in its middle slice."""
    geometry = scan_geometry(acquisition)
    found = segment_bone(fdk(torch.from_numpy(p), geometry, grid).numpy(), smoothing_px=1.0)
    if found is None:
        return torch.zeros(p.shape)
    tall = np.repeat(found[0][grid.shape[0] // 2][None], ROWS + 8, axis=0)
    return bone_integrals(torch.from_numpy(tall), bone_per_mm, geometry, VolumeGrid(tall.shape, grid.voxel_mm))


def _inside(part: np.ndarray, erosion: int) -> np.ndarray:
    """(y, x) voxels that are all of a material, and so far from its surface."""
    whole = part.reshape(COLS, FINER, COLS, FINER).all(axis=(1, 3))
    return np.asarray(binary_erosion(whole, iterations=erosion), bool)


def figures(
    volume: np.ndarray, true: np.ndarray, hardened: np.ndarray, bone: np.ndarray, soft: np.ndarray
) -> dict[str, float]:
    """Errors of a volume (z, y, x), per cent; the mean over slices is looked at."""
    volume, true, hardened = volume.mean(axis=0), true.mean(axis=0), hardened.mean(axis=0)
    low, high = np.quantile(hardened[bone], (1 / 3, 2 / 3))
    least, most = bone & (hardened <= low), bone & (hardened >= high)
    difference = [(v[least].mean() - v[most].mean()) / v[bone].mean() for v in (volume, true)]
    return {
        "bone_difference_percent": float(100 * (difference[0] - difference[1])),
        "soft_shading_percent": float(100 * (volume - true)[soft].std() / true[soft].mean()),
        "bone_error_percent": float(100 * (volume[bone].mean() / true[bone].mean() - 1)),
        "soft_error_percent": float(100 * (volume[soft].mean() / true[soft].mean() - 1)),
    }
