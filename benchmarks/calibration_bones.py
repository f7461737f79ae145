"""Bones of random shape and their scans, for the benchmarks of calibration."""

from dataclasses import dataclass

import numpy as np
import torch

from xrmflow.calibration.polynomial import linearise
from xrmflow.chain import ToLineIntegrals
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.phantom.detector import DetectorRecipe
from xrmflow.phantom.object import Bone, BoneRecipe, make_bone
from xrmflow.phantom.scan import ScanRecipe, SimulatedScan, object_grid, object_margin, simulate_scan
from xrmflow.reconstruction.fdk import fdk

SPECTRA = ((40, 0.25), (60, 0.5), (80, 0.5))
"""Tube voltage, kV, and aluminium, mm."""
COLS, VOXEL_UM = 96, 20.0
QUIET = {"drift": 0.0, "dead_fraction": 0.0, "unstable_fraction": 0.0, "outlier_fraction": 0.0}


@dataclass(frozen=True)
class Scanned:
    """A bone, its scan and the line integrals measured in it."""

    bone: Bone
    scan: SimulatedScan
    measured: np.ndarray


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


def scan_recipe(tube_kv: int, aluminium_mm: float, *, rows: int, views: int, counts: float) -> ScanRecipe:
    """A scan of that spectrum without faults other than photon noise, in a geometry without shifts."""
    return ScanRecipe(
        rows=rows,
        cols=COLS,
        views=views,
        voxel_um=VOXEL_UM,
        detector=DetectorRecipe(counts=counts, flats=200, darks=50, **QUIET),
        source_to_axis_mm=40.0,
        axis_to_detector_mm=60.0,
        tube_kv=tube_kv,
        filters_mm={"aluminium": aluminium_mm},
        centre_offset_px=0.7,
        roll_deg=0.0,
        shift_px=0.0,
    )


def scanned(shape: BoneRecipe, recipe: ScanRecipe, seed: int) -> Scanned:
    """Make the bone and scan it."""
    bone = make_bone(shape, object_grid(recipe), seed=seed, margin=object_margin(recipe))
    scan = simulate_scan(bone, recipe, seed=seed)
    to_integrals = ToLineIntegrals(_tensor(scan.flats), _tensor(scan.darks), photons_per_count=1.0)
    return Scanned(bone, scan, to_integrals(_tensor(scan.counts)).numpy())


def reconstructed(
    p: np.ndarray, scan: SimulatedScan, grid: VolumeGrid, coefficients: tuple[float, ...] = (1.0,)
) -> np.ndarray:
    """(z, y, x) attenuation per mm from line integrals corrected by a polynomial."""
    corrected = linearise(torch.from_numpy(p), coefficients)
    return fdk(corrected, scan_geometry(scan.acquisition), grid).numpy()


def spread(values: np.ndarray, digits: int = 2) -> dict[str, float]:
    """Median, least and largest."""
    return {name: round(float(of(values)), digits) for name, of in (("median", np.median), ("min", min), ("max", max))}


def _tensor(counts: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(counts.astype(np.float32))
