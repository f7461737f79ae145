"""Bone indices of a segmented volume, each with its unit and the way it was got.

Symbols follow Bouxsein 2010 (J. Bone Miner. Res. 25:1468) and Dempster 2013 (28:2).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xrmflow.metrics.labels import BONE, OUTSIDE
from xrmflow.morphometry.grey import bone_share
from xrmflow.morphometry.lacuna_rows import lacuna_rows, per_lacuna
from xrmflow.morphometry.lacunae import Lacuna, measure_lacunae
from xrmflow.morphometry.masks import eroded
from xrmflow.morphometry.rows import Row, fraction_name, noted, row, uncalibrated
from xrmflow.morphometry.segmented import Options, Segmented
from xrmflow.morphometry.slabs import Slab, summed
from xrmflow.morphometry.structure import Phase, Regions, structure_rows

FEW_SLICES = 8
MIXED = 0.1
"""Fraction of bone, away from its surface, that may differ by a quarter of the contrast before it is not one phase."""


@dataclass(frozen=True)
class Measurement:
    """Tables: indices, values per slice, values per lacuna."""

    indices: list[Row]
    slices: list[Row]
    lacunae: list[Row]


def measure(
    data: Segmented,
    *,
    options: Options,
    first_voxel_mm: tuple[float, float, float],
    thickness: Mapping[Phase, Regions] | None = None,
) -> Measurement:
    """Measure a segmented volume.

    Args:
        data: volume and labels.
        options: what to measure.
        first_voxel_mm: (x, y, z) of the centre of voxel (0, 0, 0).
        thickness: what `xrmflow.morphometry.structure.thickness_of` found of each phase; None to find it here.
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
    rows += structure_rows(data, options, reason, thickness)
    if options.lacunae and deep and data.record["gates_voxels"] is not None:
        blur = data.record["edge_blur_voxels"]
        found = measure_lacunae(data.volume, data.labels, soft=data.levels.soft, blur_voxels=blur, work=data.work)
    rows += lacuna_rows(data, options, found, reason)
    common = {"compartment": data.compartment}
    return Measurement([common | row for row in rows], slices, per_lacuna(found, data.scale, first_voxel_mm))


def volume_rows(data: Segmented) -> list[Row]:
    """TV, BV and BV/TV; pores are no bone."""
    cube, unit = data.scale.edge**3, data.scale.unit(3)
    total, count = data.total, data.count(BONE)
    note = uncalibrated(data.scale)
    return [
        row("TV", "total volume", total * cube, unit, "voxel count", note),
        row("BV", "bone volume", count * cube, unit, "voxel count; lacunae and canals are not bone", note),
        row("BV/TV", fraction_name(data.scale), count / total, "1", "voxel count", note),
        grey_fraction_row(data, note),
    ]


def grey_fraction_row(data: Segmented, note: str) -> Row:
    """BV/TV with partial volumes; only where bone is one phase, so that greys in between are mixtures, not tissues."""
    name, mixed = f"{fraction_name(data.scale)}, from grey values", _mixed(data)
    if mixed > MIXED:
        reason = f"skipped: {mixed:.0%} of the mineralised tissue differs in grey from the rest by more than a quarter"
        return row("BV/TV.grey", name, None, "1", "", noted(data.scale, reason))
    value = _grey_bone(data) / data.total
    return row("BV/TV.grey", name, value, "1", "partial volumes between the greys of bone and soft tissue", note)


def _mixed(data: Segmented) -> float:
    """Fraction of the bone away from its surface whose grey is not that of bone."""
    core_voxels = other = 0
    for slab in data.work.slabs(data.labels.shape):
        core = eroded(data.context[slab.around(2)] == BONE, 2)[slab.inner(2)]
        fraction = data.levels.fraction(data.smoothed[slab.core][core])
        core_voxels, other = core_voxels + fraction.size, other + np.count_nonzero(np.abs(fraction - 1) > 0.25)
    return other / max(core_voxels, 1)


def _grey_bone(data: Segmented) -> float:
    """Bone in the volume of interest with partial volumes, voxels."""
    reach = max(int(np.ceil(2 * data.record["edge_blur_voxels"])), 1)

    def share(slab: Slab) -> np.ndarray:
        around, context = slab.around(reach + 1), data.context[slab.around(reach + 1)]
        found = bone_share(data.volume[around], context == BONE, context > OUTSIDE, data.levels, reach=reach)
        return found[slab.inner(reach + 1)]

    return summed((share(slab), data.inside(slab.core)) for slab in data.work.slabs(data.labels.shape))[0]


def slice_rows(data: Segmented, first_z_mm: float) -> list[Row]:
    """TA, BA and BA/TA of each slice of the volume of interest."""
    tissue, bone = data.counts[:, OUTSIDE + 1 :].sum(axis=1), data.counts[:, BONE]
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


def _mean_inside(data: Segmented, depth: int) -> float | None:
    """Mean attenuation of bone more than `depth` voxels from its surface; None where there is none."""

    def core(slab: Slab) -> np.ndarray:
        return eroded(data.labels[slab.around(depth)] == BONE, depth)[slab.inner(depth)]

    slabs = data.work.slabs(data.labels.shape)
    total, count = summed((data.volume[slab.core], core(slab)) for slab in slabs)
    return total / count if count else None


def attenuation_rows(data: Segmented, options: Options) -> list[Row]:
    """Mean attenuation of bone away from its surfaces and, with a calibration line, tissue mineral density."""
    depth = options.core_erosion_voxels
    mean, method = _mean_inside(data, depth), f"mean of bone at least {depth} voxels from its surface"
    if mean is None:
        mean, method = _mean_inside(data, 0), "mean of bone"
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
