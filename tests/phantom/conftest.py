"""A bone and a scan of it small enough to simulate in a second or two, shared by the tests of the simulator."""

from dataclasses import replace

import pytest

from xrmflow.phantom.detector import DetectorRecipe
from xrmflow.phantom.object import Bone, BoneRecipe, make_bone
from xrmflow.phantom.scan import ScanRecipe, SimulatedScan, object_grid, object_margin, simulate_scan

QUIET = DetectorRecipe(
    counts=20000, drift=0.0, dead_fraction=0.0, unstable_fraction=0.0, outlier_fraction=0.0, flats=60, darks=20
)


@pytest.fixture(scope="session")
def bone_recipe() -> BoneRecipe:
    return BoneRecipe(
        outer_um=(29.0, 26.0),
        cortex_um=14.0,
        tissue_um=(35.0, 33.0),
        trabecular_wavelength_um=16.0,
        canal_radius_um=2.5,
        lacunae_per_mm3=90e3,
        lacuna_clearance_um=1.6,
    )


@pytest.fixture(scope="session")
def recipe() -> ScanRecipe:
    return ScanRecipe(
        rows=24, cols=64, views=48, voxel_um=1.4, detector=QUIET, centre_offset_px=1.3, shift_px=1.5, roll_deg=2.0
    )


@pytest.fixture(scope="session")
def bone(bone_recipe: BoneRecipe, recipe: ScanRecipe) -> Bone:
    return make_bone(bone_recipe, object_grid(recipe), seed=3, margin=object_margin(recipe))


@pytest.fixture(scope="session")
def scan(bone: Bone, recipe: ScanRecipe) -> SimulatedScan:
    return simulate_scan(bone, recipe, seed=3)


@pytest.fixture(scope="session")
def steady_scan(bone: Bone, recipe: ScanRecipe) -> SimulatedScan:
    """A scan without shifts, roll and centre offset."""
    return simulate_scan(bone, replace(recipe, shift_px=0.0, roll_deg=0.0, centre_offset_px=0.0), seed=3)
