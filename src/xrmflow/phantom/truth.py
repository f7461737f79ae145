"""The known answer of a simulated scan."""

from dataclasses import asdict
from typing import Any

import numpy as np

from xrmflow.metrics.labels import LABELS
from xrmflow.phantom.materials import attenuation_per_mm, bone_attenuation_per_mm
from xrmflow.phantom.object import Bone, cube_means, volume_fractions
from xrmflow.phantom.scan import SimulatedScan

EFFECTIVE_ENERGY = (
    "the energy at which mineralised bone attenuates as it does on average in the detected spectrum at zero "
    "thickness; "
    "a beam-hardening correction with unit slope at zero yields attenuation at this energy"
)
REFERENCE = (
    "FDK reconstruction of noise-free monochromatic line integrals at the effective energy, with the scan's blur "
    "and pixels, in the true geometry"
)


def truth_record(bone: Bone, scan: SimulatedScan) -> dict[str, Any]:
    """Everything known about a scan that is not a volume, ready for JSON; units are in the names."""
    spectrum, energy = scan.recipe.spectrum(), scan.effective_energy_kev
    return {
        "recipe": asdict(scan.recipe),
        "bone_recipe": asdict(bone.recipe),
        "acquisition": scan.acquisition.to_dict(),
        "nominal_acquisition": scan.nominal.to_dict(),
        "spectrum": {
            "energies_kev": spectrum.energies_kev.tolist(),
            "weights": spectrum.weights.tolist(),
            "mean_energy_kev": spectrum.mean_energy_kev(),
        },
        "effective_energy_kev": energy,
        "effective_energy_means": EFFECTIVE_ENERGY,
        "reference_means": REFERENCE,
        "attenuation_per_mm": {
            "bone": float(bone_attenuation_per_mm(bone.recipe.mineral_fraction, energy)),
            "soft_tissue": float(attenuation_per_mm("water", energy)),
        },
        "labels": LABELS,
        "volumes": volume_fractions(bone),
        "thickness_um": cortical_thickness_um(bone),
        "lacunae": [{**lacuna.to_dict(), "whole": whole} for lacuna, whole in bone.seen_lacunae()],
        "canals": [{"path_mm": canal.path_mm.tolist(), "radius_um": canal.radius_mm * 1e3} for canal in bone.canals],
        "faults": faults(scan),
    }


def cortical_thickness_um(bone: Bone) -> dict[str, float]:
    """Radial thickness of the cortex within the field of view, micrometres, from its two walls."""
    view = bone.grid.slab(bone.core)
    half = view.shape[0] * view.voxel_mm / 2
    heights = view.centre_mm[2] + np.linspace(-half, half, 65)
    outer, inner = bone.shaft.walls_mm(np.linspace(0, 2 * np.pi, 180, endpoint=False), heights)
    thickness = (outer - inner) * 1e3
    return {
        "cortical_mean": float(thickness.mean()),
        "cortical_least": float(thickness.min()),
        "cortical_most": float(thickness.max()),
    }


def faults(scan: SimulatedScan) -> dict[str, Any]:
    """What is wrong with the detector."""
    return {
        "stuck_pixels": int(np.count_nonzero(~np.isnan(scan.detector.stuck))),
        "unstable_pixels": int(np.count_nonzero(scan.detector.unstable != 1)),
        "outlier_fraction": scan.recipe.detector.outlier_fraction,
        "drift_amplitude": scan.recipe.detector.drift,
    }


def coarse_attenuation(bone: Bone, energy_kev: float, *, factor: int, slices: slice) -> np.ndarray:
    """Attenuation averaged over cubes of `factor` voxels: (z, y, x) float32, 1/mm.

    Args:
        bone: the object.
        energy_kev: keV.
        factor: voxels along each edge of a cube.
        slices: of the coarse volume, within the field of view.
    """
    start = bone.margin + slices.start * factor
    fine = bone.attenuation_per_mm(energy_kev, slice(start, start + (slices.stop - slices.start) * factor))
    return cube_means(fine, factor)
