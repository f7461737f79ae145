"""Bone indices of a segmented volume, each with its unit and the way it was got.

Symbols follow Bouxsein 2010 (J. Bone Miner. Res. 25:1468) and Dempster 2013 (28:2).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from xrmflow.metrics.labels import BONE, OUTSIDE
from xrmflow.morphometry.grey import bone_share
from xrmflow.morphometry.lacuna_rows import lacuna_rows, per_lacuna
from xrmflow.morphometry.lacunae import Lacuna, measure_lacunae
from xrmflow.morphometry.masks import eroded
from xrmflow.morphometry.rows import Row, fraction_name, noted, row, uncalibrated
from xrmflow.morphometry.segmented import Options, Segmented
from xrmflow.morphometry.structure import structure_rows

FEW_SLICES = 8
MIXED = 0.1
"""Fraction of bone, away from its surface, that may differ by a quarter of the contrast before it is not one phase."""


@dataclass(frozen=True)
class Measurement:
    """Tables: indices, values per slice, values per lacuna."""

    indices: list[Row]
    slices: list[Row]
    lacunae: list[Row]


def measure(data: Segmented, *, options: Options, first_voxel_mm: tuple[float, float, float]) -> Measurement:
    """Measure a segmented volume.

    Args:
        data: volume and labels.
        options: what to measure.
        first_voxel_mm: (x, y, z) of the centre of voxel (0, 0, 0).
    """
    if data.volume.shape != data.labels.shape or data.labels.shape != data.context.shape:
        raise ValueError(
            f"labels: expected the shape of the volume {data.volume.shape}, got {data.labels.shape} and "
            f"{data.context.shape}"
        )
    slices = slice_rows(data, first_voxel_mm[2])
    rows = volume_rows(data) + area_rows(data, slices) + attenuation_rows(data, options)
    deep = len(slices) >= options.least_slices
    reason = (
        "" if deep else f"skipped: {len(slices)} slices, at least {options.least_slices} are needed in three dimensions"
    )
    found: list[Lacuna] = []
    rows += structure_rows(data, options, reason)
    if options.lacunae and deep and data.record["gates_voxels"] is not None:
        blur = data.record["edge_blur_voxels"]
        found = measure_lacunae(data.volume, data.labels, soft=data.levels.soft, blur_voxels=blur)
    rows += lacuna_rows(data, options, found, reason)
    common = {"compartment": data.compartment}
    return Measurement([common | row for row in rows], slices, per_lacuna(found, data.scale, first_voxel_mm))


def volume_rows(data: Segmented) -> list[Row]:
    """TV, BV and BV/TV; pores are no bone."""
    cube, unit, labels = data.scale.edge**3, data.scale.unit(3), data.labels
    inside, bone = labels > OUTSIDE, labels == BONE
    total, count = np.count_nonzero(inside), np.count_nonzero(bone)
    note = uncalibrated(data.scale)
    return [
        row("TV", "total volume", total * cube, unit, "voxel count", note),
        row("BV", "bone volume", count * cube, unit, "voxel count; lacunae and canals are not bone", note),
        row("BV/TV", fraction_name(data.scale), count / total, "1", "voxel count", note),
        grey_fraction_row(data, total, note),
    ]


def grey_fraction_row(data: Segmented, total: Any, note: str) -> Row:
    """BV/TV with partial volumes; only where bone is one phase, so that greys in between are mixtures, not tissues."""
    name, bone = f"{fraction_name(data.scale)}, from grey values", data.context == BONE
    core = data.levels.fraction(data.smoothed[eroded(bone, 2)])
    mixed = float((np.abs(core - 1) > 0.25).mean()) if core.size else 0.0
    if mixed > MIXED:
        reason = f"skipped: {mixed:.0%} of the mineralised tissue differs in grey from the rest by more than a quarter"
        return row("BV/TV.grey", name, None, "1", "", noted(data.scale, reason))
    reach = max(int(np.ceil(2 * data.record["edge_blur_voxels"])), 1)
    share = bone_share(data.volume, bone, data.context > OUTSIDE, data.levels, reach=reach)
    value = float(share[data.labels > OUTSIDE].sum(dtype=np.float64)) / total
    return row("BV/TV.grey", name, value, "1", "partial volumes between the greys of bone and soft tissue", note)


def slice_rows(data: Segmented, first_z_mm: float) -> list[Row]:
    """TA, BA and BA/TA of each slice of the volume of interest."""
    tissue = np.count_nonzero(data.labels > OUTSIDE, axis=(1, 2))
    bone = np.count_nonzero(data.labels == BONE, axis=(1, 2))
    square = data.scale.edge**2
    return [
        {
            "z": int(z),
            "z_mm": first_z_mm + z * data.scale.voxel_mm if data.scale.calibrated else None,
            "TA": tissue[z] * square,
            "BA": bone[z] * square,
            "BA_TA": bone[z] / tissue[z],
            "area_unit": data.scale.unit(2),
        }
        for z in np.flatnonzero(tissue)
    ]


def area_rows(data: Segmented, slices: list[Row]) -> list[Row]:
    """BA/TA over the slices; where there are too few for a spread to mean anything also each slice's own."""
    values = np.array([one["BA_TA"] for one in slices])
    name = "bone area fraction" if data.scale.calibrated else "mineralised fraction"
    note = uncalibrated(data.scale)
    rows = [
        row("BA/TA", f"{name}, mean of slices", float(values.mean()), "1", "voxel count in each slice", note),
        row("BA/TA.SD", f"{name}, spread between slices", float(values.std()), "1", "voxel count in each slice", note),
    ]
    if len(slices) >= FEW_SLICES:
        return rows
    return rows + [
        row(f"BA/TA.{one['z']}", f"{name} of slice {one['z']}", one["BA_TA"], "1", "voxel count", note)
        for one in slices
    ]


def attenuation_rows(data: Segmented, options: Options) -> list[Row]:
    """Mean attenuation of bone away from its surfaces and, with a calibration line, tissue mineral density."""
    bone = data.labels == BONE
    depth = options.core_erosion_voxels
    core = eroded(bone, depth)
    method = f"mean of bone at least {depth} voxels from its surface" if core.any() else "mean of bone"
    mean = float(data.volume[core if core.any() else bone].mean(dtype=np.float64)) if bone.any() else None
    if not data.scale.calibrated:
        return [row("mu", "mean attenuation of bone", mean, "1/voxel", method, uncalibrated(data.scale))]
    per_cm = None if mean is None else 10 * mean
    line = data.record.get("density_calibration")
    density = (
        None if line is None or per_cm is None else line["slope_mgha_per_cm2"] * per_cm + line["intercept_mgha_per_cm3"]
    )
    note = "skipped: uncalibrated, no density calibration line" if line is None else ""
    return [
        row("mu", "mean attenuation of bone", per_cm, "1/cm", method),
        row("TMD", "tissue mineral density", density, "mgHA/cm3", method, note),
    ]
