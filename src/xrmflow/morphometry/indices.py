"""Bone indices of a segmented volume, each with its unit and the way it was got.

Symbols follow Bouxsein 2010 (J. Bone Miner. Res. 25:1468) and Dempster 2013 (28:2).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from xrmflow.morphometry.grey import Levels, bone_share, edge_blur, smooth
from xrmflow.morphometry.lacunae import Lacuna, measure_lacunae
from xrmflow.morphometry.masks import eroded
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.segmentation import BONE, CANAL, LACUNA, MARROW, OUTSIDE
from xrmflow.morphometry.thickness import local_thickness

Row = dict[str, Any]
SLICE_COLUMNS = ("z", "z_mm", "TA", "BA", "BA_TA", "area_unit")
LACUNA_COLUMNS = (
    "id",
    *("x_mm", "y_mm", "z_mm"),
    *("volume_um3", "grey_volume_um3"),
    *("semi_axis_long_um", "semi_axis_middle_um", "semi_axis_short_um"),
    *("x_voxel", "y_voxel", "z_voxel"),
    *("volume_voxels", "grey_volume_voxels"),
    *("semi_axis_long_voxels", "semi_axis_middle_voxels", "semi_axis_short_voxels"),
    *("stretch", "oblateness", "touching_border"),
)
FEW_SLICES = 8
THIN = 3.0
"""Voxels: structures thinner than this are resolved too poorly to be measured."""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        thickness, lacunae: whether to.
        least_slices: fewer are no volume: what needs three dimensions is skipped.
        correct_blur: whether to move curved surfaces back by what the measured blur displaced them.
        core_erosion_voxels: bone this close to a surface does not count towards its mean attenuation.
    """

    thickness: bool = True
    lacunae: bool = True
    least_slices: int = 8
    correct_blur: bool = True
    core_erosion_voxels: int = 2


@dataclass(frozen=True)
class Segmented:
    """A volume with its labels, as the segmentation left them.

    Attributes:
        volume: (z, y, x) float32, attenuation per mm (per voxel when not calibrated), not smoothed.
        labels, context: (z, y, x) uint8, with and without the cut to the volume of interest.
        scale: voxel size.
        record: the segmentation's record.
    """

    volume: np.ndarray
    labels: np.ndarray
    context: np.ndarray
    scale: Scale
    record: dict[str, Any]

    def grey(self, name: str) -> float:
        """A recorded grey in the volume's units: "threshold", "bone", "soft_tissue"."""
        return float(self.record[f"{name}_{'per_mm' if self.scale.calibrated else 'per_voxel'}"])

    @property
    def levels(self) -> Levels:
        """Greys of bone and soft tissue."""
        return Levels(self.grey("bone"), self.grey("soft_tissue"))

    @property
    def compartment(self) -> str:
        """Name of the volume of interest."""
        whole = np.array_equal(self.labels > OUTSIDE, self.context > OUTSIDE)
        return str(self.record["voi"]) if whole else f"{self.record['voi']}, cut"


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
    rows += thickness_rows(data, options, reason)
    if options.lacunae and deep and data.record["gates_voxels"] is not None:
        blur = edge_blur(data.volume, data.context > OUTSIDE, data.levels)
        found = measure_lacunae(data.volume, data.labels, soft=data.levels.soft, blur_voxels=blur)
    rows += lacuna_rows(data, options, found, reason)
    common = {"compartment": data.compartment}
    return Measurement([common | row for row in rows], slices, per_lacuna(found, data.scale, first_voxel_mm))


def row(symbol: str, name: str, value: float | None, unit: str, method: str = "", note: str = "") -> Row:
    """One line of the table; a value that is not known is None."""
    known = value is not None and np.isfinite(value)
    return {"symbol": symbol, "name": name, "value": float(value) if known else None, "unit": unit} | {  # type: ignore[arg-type]
        "method": method,
        "note": note if known or note else "skipped: nothing to measure",
    }


def fraction_name(scale: Scale) -> str:
    """What a volume fraction above a threshold is, with and without a calibration."""
    return "bone volume fraction" if scale.calibrated else "mineralised fraction"


def volume_rows(data: Segmented) -> list[Row]:
    """TV, BV and BV/TV; pores are no bone."""
    cube, unit, labels = data.scale.edge**3, data.scale.unit(3), data.labels
    inside, bone = labels > OUTSIDE, labels == BONE
    total, count = np.count_nonzero(inside), np.count_nonzero(bone)
    reach = max(int(np.ceil(2 * data.record["edge_blur_voxels"])), 1)
    share = bone_share(data.volume, data.context == BONE, data.context > OUTSIDE, data.levels, reach=reach)
    note = uncalibrated(data.scale)
    return [
        row("TV", "total volume", total * cube, unit, "voxel count", note),
        row("BV", "bone volume", count * cube, unit, "voxel count; lacunae and canals are not bone", note),
        row("BV/TV", fraction_name(data.scale), count / total, "1", "voxel count", note),
        row(
            "BV/TV.grey",
            f"{fraction_name(data.scale)}, from grey values",
            float(share[inside].sum(dtype=np.float64)) / total,
            "1",
            "partial volumes at surfaces between the greys of bone and soft tissue",
            note,
        ),
    ]


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


def thickness_rows(data: Segmented, options: Options, reason: str) -> list[Row]:
    """Tb.Th of bone with its pores filled, and Tb.Sp: computed with all context, sampled in the volume of interest."""
    reason = reason or ("" if options.thickness else "skipped: switched off in the settings")
    names = {"Tb.Th": "thickness of bone", "Tb.Sp": "separation of bone"}
    if reason:
        return [row(symbol, name, None, data.scale.unit(1), "", reason) for symbol, name in names.items()]
    grey = smooth(data.volume, data.record["sigma_voxels"])
    blur = data.record["edge_blur_voxels"] if options.correct_blur else 0.0
    rows = []
    for symbol, kinds in (("Tb.Th", (BONE, LACUNA, CANAL)), ("Tb.Sp", (MARROW,))):
        domain, sample = np.isin(data.context, kinds), np.isin(data.labels, kinds)
        local = local_thickness(grey, domain, data.grey("threshold"), blur_voxels=blur)[sample]
        rows += _distribution(symbol, names[symbol], local[np.isfinite(local)], data.scale, blur)
    return rows


def _distribution(symbol: str, name: str, voxels: np.ndarray, scale: Scale, blur: float) -> list[Row]:
    method = "largest balls (Hildebrand 1997), surface from grey values" + (
        f", corrected for a blur of {blur:.2f} voxels" if blur else ""
    )
    method += ", lacunae and canals filled" if symbol == "Tb.Th" else ""
    mean, spread = (
        (float(voxels.mean(dtype=np.float64)), float(voxels.std(dtype=np.float64))) if voxels.size else (None, None)
    )
    note = uncalibrated(scale)
    if mean is not None and mean < THIN:
        note = "; ".join(
            filter(None, (note, f"warning: {mean:.2g} voxels on average, fewer than {THIN:g}: poorly resolved"))
        )
    unit = scale.unit(1)
    return [
        row(symbol, f"{name}, mean", None if mean is None else mean * scale.edge, unit, method, note),
        row(f"{symbol}.SD", f"{name}, spread", None if spread is None else spread * scale.edge, unit, method, note),
    ]


def lacuna_rows(data: Segmented, options: Options, lacunae: list[Lacuna], reason: str) -> list[Row]:
    """Number, density, volumes and shape of the lacunae that lie whole in the volume of interest; volume of canals."""
    scale, unit = data.scale, data.scale.um_unit(3)
    searched = options.lacunae and data.record["gates_voxels"] is not None
    reason = reason or ("" if searched else "skipped: switched off in the settings")
    if reason:
        return [row("Lc.N", "number of lacunae", None, "1", "", reason)]
    whole = [one for one in lacunae if not one.cut]
    bone = np.count_nonzero(data.labels == BONE) * scale.edge**3
    note = f"{len(lacunae) - len(whole)} more are cut by the edge of the volume and left out"
    note = "; ".join(filter(None, (uncalibrated(scale), note)))
    volumes = np.array([one.voxels for one in whole]) * scale.um**3
    grey = np.array([one.grey_voxels for one in whole]) * scale.um**3
    canals = np.count_nonzero(data.labels == CANAL) * scale.edge**3
    inside = np.count_nonzero(data.labels == LACUNA) * scale.edge**3
    return [
        row("Lc.N", "number of lacunae", len(whole), "1", "components of pores within the gates", note),
        row(
            "Lc.N/BV",
            "lacuna density",
            len(whole) / bone if bone else None,
            scale.unit(-3),
            "whole lacunae over bone",
            note,
        ),
        row("Lc.V", "lacuna volume, mean", _mean(volumes), unit, "voxel count", note),
        row("Lc.V.SD", "lacuna volume, spread", float(volumes.std()) if whole else None, unit, "voxel count", note),
        row("Lc.V.grey", "lacuna volume from grey values, mean", _mean(grey), unit, "grey missing from bone", note),
        row(
            "Lc.St",
            "lacuna stretch, mean",
            _mean(np.array([one.stretch for one in whole])),
            "1",
            "second moments",
            note,
        ),
        row("Lc.TV/BV", "lacunar porosity", inside / bone if bone else None, "1", "voxel count, cut lacunae included"),
        row("Ca.V", "canal volume", canals, scale.unit(3), "voxel count", uncalibrated(scale)),
    ]


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None


def per_lacuna(lacunae: list[Lacuna], scale: Scale, first_voxel_mm: tuple[float, float, float]) -> list[Row]:
    """One row a lacuna: centre, volume, semi-axes, in voxels and, where their size is known, mm and micrometres."""
    rows = []
    for n, one in enumerate(lacunae, start=1):
        centre = [float(c) for c in one.centre[::-1]]
        volumes, axes = [float(one.voxels), one.grey_voxels], [float(a) for a in one.semi_axes]
        mm: list[float | None] = [None] * 3
        um: list[float | None] = [None] * 5
        if scale.calibrated:
            mm = [first + c * scale.voxel_mm for first, c in zip(first_voxel_mm, centre, strict=True)]
            um = [*(v * scale.um**3 for v in volumes), *(a * scale.um for a in axes)]
        values = [n, *mm, *um, *centre, *volumes, *axes, one.stretch, one.oblateness, one.cut]
        rows.append(dict(zip(LACUNA_COLUMNS, values, strict=True)))
    return rows


def uncalibrated(scale: Scale) -> str:
    """The word that stays with data without a voxel size, all the way to the table."""
    return "" if scale.calibrated else "uncalibrated"
