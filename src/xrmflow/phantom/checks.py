"""The rows of validation.csv: results of a simulated scan against its truth, each with its limit."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from xrmflow.arrays import Reader, blocks
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.metrics.images import psnr
from xrmflow.metrics.labels import BONE, OUTSIDE
from xrmflow.phantom.comparison import best_gaussian, best_non_local_means, cubic_upsampled, detected, solid

Row = dict[str, Any]
COLUMNS = ("scan", "volume", "check", "value", "truth", "unit", "difference", "limit", "passed", "note")
ATTENUATION, SUPERRES = "mean attenuation of bone", "PSNR above cubic interpolation"
BLOCK = 64
"""Slices and rows that are looked at at a time: the edge of a chunk."""
HALO = 5
"""Slices around those that are compared, so that filters see what lies beyond."""


@dataclass(frozen=True)
class Limits:
    """What is asked for; see `xrmflow.config.validate.ValidateSection`."""

    centre_px: float
    attenuation_percent: float
    bone_fraction_percent: float
    denoising_gain_db: float
    superres_gain_db: float
    lacuna_f1: float
    lacuna_reach: float
    border_slices: int
    erosion_voxels: int
    filter_slices: int


@dataclass(frozen=True)
class Known:
    """The truth of a scan.

    Attributes:
        record: truth.json.
        grid, fine_grid: of the scan's own volume, and the finer one.
        attenuation: (z, y, x) monochromatic, 1/mm. Like the other volumes it is read in blocks.
        reference: (z, y, x) what a perfect scan would have given, 1/mm; None when it was not made.
        fine_attenuation, fine_labels: (z, y, x) on the finer grid.
    """

    record: dict[str, Any]
    grid: VolumeGrid
    fine_grid: VolumeGrid
    attenuation: Reader
    reference: Reader | None
    fine_attenuation: Reader
    fine_labels: Reader

    @property
    def factor(self) -> int:
        """Fine voxels along the edge of a voxel."""
        return self.fine_labels.shape[0] // self.attenuation.shape[0]

    @property
    def bone_per_mm(self) -> float:
        """Attenuation of mineralised bone at the effective energy, 1/mm: the data range of every PSNR."""
        return float(self.record["attenuation_per_mm"]["bone"])


def geometry_rows(found: dict[str, Any], known: Known, limits: Limits) -> list[Row]:
    """Centre of rotation, and for information the detector's roll, of an acquisition record against the true ones."""
    true = known.record["acquisition"]
    centre, roll = (float(found[name]) - float(true[name]) for name in ("centre_px", "roll_deg"))
    values = ("px", centre, limits.centre_px, abs(centre) <= limits.centre_px)
    return [
        _row("centre of rotation", "", float(found["centre_px"]), float(true["centre_px"]), *values),
        _row("roll of the detector", "", float(found["roll_deg"]), float(true["roll_deg"]), "deg", roll, None, None),
    ]


def attenuation_row(name: str, volume: Reader, known: Known, limits: Limits) -> Row:
    """Mean attenuation inside true bone against the monochromatic truth."""
    means = _means_inside((volume, known.attenuation), known, limits)
    if means is None:
        return not_run(ATTENUATION, name, "no bone is thick enough to look inside")
    value, true = means
    energy, depth = known.record["effective_energy_kev"], limits.erosion_voxels
    note = f"true bone {depth} voxels and more below its surface; truth at the effective energy of {energy:.2f} keV"
    return _relative(ATTENUATION, name, value, true, "1/mm", limits.attenuation_percent, note)


def _means_inside(volumes: tuple[Reader, ...], known: Known, limits: Limits) -> list[float] | None:
    """Means of some volumes inside true bone, summed over blocks; None where there is none."""
    shape, depth = known.attenuation.shape, limits.erosion_voxels
    sums, count = np.zeros(len(volumes)), 0
    seen = slice(limits.border_slices, shape[0] - limits.border_slices)
    for block in product(blocks(shape[0], BLOCK), blocks(shape[1], BLOCK)):
        around = tuple(slice(max(b.start - depth, 0), b.stop + depth) for b in block)
        fine = known.fine_labels[tuple(slice(a.start * known.factor, a.stop * known.factor) for a in around)]
        inner = tuple(slice(b.start - a.start, b.stop - a.start) for b, a in zip(block, around, strict=True))
        inside = solid(np.asarray(fine), BONE, factor=known.factor, erosion=depth)[inner]
        z = np.arange(block[0].start, block[0].stop)
        inside[(z < seen.start) | (z >= seen.stop)] = False
        sums += [float(np.asarray(one[block])[inside].sum(dtype=np.float64)) for one in volumes]
        count += np.count_nonzero(inside)
    return (sums / count).tolist() if count else None


def bone_fraction_row(
    name: str, value: float | None, z_range_mm: tuple[float, float], known: Known, limits: Limits, *, judge: bool
) -> Row:
    """BV/TV of a table against the truth within the periosteal surface between the same heights."""
    if value is None:
        return not_run("BV/TV", name, "the table has no value")
    start, stop = (known.fine_grid.index_from(z) for z in z_range_mm)
    bone, inside = _counted(known.fine_labels, max(start, 0), min(stop, known.fine_labels.shape[0]))
    true = bone / inside
    note = f"heights {z_range_mm[0]:.4f} to {z_range_mm[1]:.4f} mm; truth from the object's own labels"
    return _relative("BV/TV", name, value, true, "1", limits.bone_fraction_percent if judge else None, note)


def _counted(labels: Reader, start: int, stop: int) -> tuple[int, int]:
    """Voxels of bone, and all that are not outside, of some slices."""
    bone = inside = 0
    for z, y in product(blocks(stop - start, BLOCK), blocks(labels.shape[1], BLOCK)):
        here = np.asarray(labels[start + z.start : start + z.stop, y])
        bone, inside = bone + np.count_nonzero(here == BONE), inside + np.count_nonzero(here != OUTSIDE)
    return int(bone), int(inside)


def denoising_rows(noisy: Reader, denoised: Reader, known: Known, limits: Limits) -> list[Row]:
    """PSNR of the denoised volume against that of filters tuned against the truth."""
    checks = ("PSNR above best Gaussian", "PSNR above best non-local means")
    if known.reference is None:
        return [not_run(check, "denoised", "the truth has no reference reconstruction") for check in checks]
    around, inner = _middle(noisy.shape[0], limits.filter_slices)
    specimen = known.attenuation[around] > 0.5 * known.record["attenuation_per_mm"]["soft_tissue"]
    mask = specimen & np.isin(np.arange(len(specimen)), np.arange(len(specimen))[inner])[:, None, None]
    box = (slice(None), *_extent(specimen))
    data = {"data_range": known.bone_per_mm, "mask": mask[box]}
    reference, before, after = (volume[around][box] for volume in (known.reference, noisy, denoised))
    value = psnr(after, reference, **data)
    where = f"range {known.bone_per_mm:.3f} 1/mm; mask: specimen with soft tissue, {limits.filter_slices} slices; "
    where += f"unfiltered {psnr(before, reference, **data):.2f} dB"
    rows = []
    for check, tune in zip(checks, (best_gaussian, best_non_local_means), strict=True):
        best = tune(before, reference, **data)
        gain = value - best.psnr_db
        note = f"{best.setting} suits the truth best; {where}"
        passed = gain >= limits.denoising_gain_db
        rows.append(_row(check, "denoised", value, best.psnr_db, "dB", gain, limits.denoising_gain_db, passed, note))
    return rows


def superres_row(source: Reader, superres: Reader, known: Known, limits: Limits) -> Row:
    """PSNR of the super-resolved volume against that of cubic interpolation of the volume it was made from."""
    around, inner = _middle(source.shape[0], limits.filter_slices)
    factor = known.factor
    fine = slice((around.start + inner.start) * factor, (around.start + inner.stop) * factor)
    cubic = cubic_upsampled(source[around], factor)[inner.start * factor : inner.stop * factor]
    data = {"data_range": known.bone_per_mm, "mask": known.fine_labels[fine] != OUTSIDE}
    value, other = (psnr(one, known.fine_attenuation[fine], **data) for one in (superres[fine], cubic))
    note = f"against the true object; range {known.bone_per_mm:.3f} 1/mm; mask: inside the bone's outer surface, "
    note += f"{limits.filter_slices} slices"
    gain = value - other
    passed = gain >= limits.superres_gain_db
    return _row(SUPERRES, "superres", value, other, "dB", gain, limits.superres_gain_db, passed, note)


def lacuna_row(
    name: str, found_mm: np.ndarray, z_range_mm: tuple[float, float], known: Known, limits: Limits, *, judge: bool
) -> Row:
    """F1 score of the lacunae found between two heights."""
    lacunae = known.record["lacunae"]
    longest = max((one["semi_axes_um"][-1] for one in lacunae), default=0.0) * 1e-3
    low, high = z_range_mm
    margin = max(longest, limits.border_slices * known.grid.voxel_mm)
    result = detected(found_mm, lacunae, z_range_mm=(low + margin, high - margin), reach=limits.lacuna_reach)
    if not result.true:
        return not_run("lacunae, F1", name, "no lacuna lies whole within the slices that are measured")
    note = f"{result.found} found, {result.true} true; precision {result.precision:.2f}, recall {result.recall:.2f}"
    passed = result.f1 >= limits.lacuna_f1 if judge else None
    limit = limits.lacuna_f1 if judge else None
    return _row("lacunae, F1", name, result.f1, 1.0, "1", result.f1 - 1, limit, passed, note)


def thickness_rows(name: str, symbol: str, value_mm: float | None, known: Known, *, key: str) -> list[Row]:
    """A mean thickness against the truth, for information; none where either is not known."""
    true_um = known.record["thickness_um"].get(key)
    if true_um is None or value_mm is None:
        return []
    note = "the same measure of the noise-free object"
    return [_relative(symbol, name, value_mm * 1e3, float(true_um), "um", None, note)]


def not_run(check: str, volume: str, reason: str) -> Row:
    """A check that could not be done."""
    return _row(check, volume, None, None, "", None, None, None, f"not run: {reason}")


def _relative(
    check: str, volume: str, value: float, true: float, unit: str, limit_percent: float | None, note: str
) -> Row:
    """A row whose difference and limit are in percent of the truth."""
    percent = 100 * (value / true - 1)
    passed = None if limit_percent is None else abs(percent) <= limit_percent
    note = f"difference and limit in percent; {note}"
    return _row(check, volume, value, true, unit, percent, limit_percent, passed, note)


def _row(
    check: str,
    volume: str,
    value: float | None,
    true: float | None,
    unit: str,
    difference: float | None,
    limit: float | None,
    passed: bool | None,
    note: str = "",
) -> Row:
    values = (volume, check, value, true, unit, difference, limit, None if passed is None else bool(passed), note)
    return dict(zip(COLUMNS[1:], values, strict=True))


def _middle(slices: int, wanted: int) -> tuple[slice, slice]:
    """The central slices with a halo, and which of these are the central ones."""
    count = min(wanted, slices)
    first = (slices - count) // 2
    start, stop = max(first - HALO, 0), min(first + count + HALO, slices)
    return slice(start, stop), slice(first - start, first - start + count)


def _extent(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that hold some of a mask (z, y, x)."""
    rows, cols = np.flatnonzero(mask.any(axis=(0, 2))), np.flatnonzero(mask.any(axis=(0, 1)))
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
