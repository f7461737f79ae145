"""What `xrmflow simulate` makes: specimens and their scans, from seconds to hours of compute."""

from dataclasses import dataclass, replace
from typing import Literal

from xrmflow.phantom.detector import DetectorRecipe
from xrmflow.phantom.object import BoneRecipe
from xrmflow.phantom.scan import ScanRecipe

Preset = Literal["tiny", "demo", "small", "large"]
Format = Literal["txrm", "data_exchange"]


@dataclass(frozen=True)
class PlannedScan:
    """One scan to make.

    Attributes:
        stem: the file's name without its suffix, and the scan's id.
        recipe: how it is taken.
        format: of the file.
        role, pair: what it is for, as in the table of scans.
        reference: whether to reconstruct, for the truth, what a perfect scan would have given.
    """

    stem: str
    recipe: ScanRecipe
    format: Format
    role: str = "train"
    pair: str = ""
    reference: bool = True


@dataclass(frozen=True)
class Specimen:
    """One bone and its scans; the first has the smallest voxels, those of the others are multiples of them."""

    bone: BoneRecipe
    scans: tuple[PlannedScan, ...]


TINY_BONE = BoneRecipe(
    outer_um=(31.0, 28.0),
    cortex_um=15.0,
    tissue_um=(37.0, 35.0),
    trabecular_wavelength_um=16.0,
    canal_radius_um=2.5,
    lacuna_clearance_um=2.0,
)
TINY_SCAN = ScanRecipe(
    rows=32,
    cols=64,
    views=72,
    voxel_um=1.4,
    detector=DetectorRecipe(counts=2000),
    centre_offset_px=1.3,
    shift_px=1.5,
)
TINY_LOW = replace(TINY_SCAN, rows=16, roll_deg=0.0, shift_px=0.0)
TINY_HIGH = replace(TINY_LOW, rows=32, cols=128, voxel_um=0.7, supersampling=1)
DEMO_BONE = BoneRecipe(
    outer_um=(87.0, 78.0), cortex_um=24.0, tissue_um=(101.0, 96.0), trabecular_wavelength_um=24.0, canal_radius_um=5.0
)
DEMO_SCAN = ScanRecipe(rows=96, cols=160, views=320, voxel_um=1.4, detector=DetectorRecipe(counts=1000))
PAIR_BONE = BoneRecipe(
    outer_um=(49.0, 45.0), cortex_um=20.0, tissue_um=(57.0, 54.0), trabecular_wavelength_um=22.0, canal_radius_um=4.0
)
PAIR_LOW = replace(DEMO_SCAN, rows=48, cols=96, views=240, roll_deg=0.0, shift_px=0.0, centre_offset_px=-1.6)
PAIR_HIGH = replace(
    PAIR_LOW,
    rows=96,
    cols=192,
    views=360,
    voxel_um=0.7,
    detector=DetectorRecipe(counts=8000),
    centre_offset_px=2.4,
    exposure_s=16.0,
    supersampling=1,
)
SMALL_BONE = replace(DEMO_BONE, outer_um=(140.0, 125.0), cortex_um=40.0, tissue_um=(165.0, 155.0), canal_radius_um=7.0)
LARGE_BONE = replace(
    SMALL_BONE, outer_um=(285.0, 255.0), cortex_um=70.0, tissue_um=(335.0, 310.0), canal_radius_um=10.0
)

PRESETS: dict[Preset, tuple[Specimen, ...]] = {
    "tiny": (
        Specimen(TINY_BONE, (PlannedScan("bone", TINY_SCAN, "txrm"),)),
        Specimen(
            TINY_BONE,
            (
                PlannedScan("pair_high", TINY_HIGH, "data_exchange", role="reference", reference=False),
                PlannedScan(
                    "pair_low", TINY_LOW, "data_exchange", role="train-only", pair="pair_high", reference=False
                ),
            ),
        ),
    ),
    "demo": (
        Specimen(DEMO_BONE, (PlannedScan("bone", DEMO_SCAN, "txrm"),)),
        Specimen(
            PAIR_BONE,
            (
                PlannedScan("pair_high", PAIR_HIGH, "data_exchange", role="reference", reference=False),
                PlannedScan(
                    "pair_low", PAIR_LOW, "data_exchange", role="train-only", pair="pair_high", reference=False
                ),
            ),
        ),
    ),
    "small": (
        Specimen(SMALL_BONE, (PlannedScan("small", replace(DEMO_SCAN, rows=192, cols=256, views=600), "txrm"),)),
    ),
    "large": (
        Specimen(LARGE_BONE, (PlannedScan("large", replace(DEMO_SCAN, rows=512, cols=512, views=1200), "txrm"),)),
    ),
}
