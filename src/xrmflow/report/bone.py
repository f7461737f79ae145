"""Bone: histogram and threshold, masks over slices, distributions, and the metrics side by side."""

import math
from collections.abc import Mapping

import numpy as np

from xrmflow.config.report import ReportSection
from xrmflow.io.stores import Volume
from xrmflow.metrics.labels import BONE, LACUNA
from xrmflow.report import plots
from xrmflow.report.blocks import Block, Cell, Gallery, NotRun, Picture, Plot, Table, Text
from xrmflow.report.images import busiest, overlay, window
from xrmflow.report.methods import threshold_of
from xrmflow.report.numbers import Comparison, as_csv, column, compare, difference_cell, parse, passed, unit, value_cell
from xrmflow.report.results import Results, Row, display_name
from xrmflow.report.style import svg
from xrmflow.report.volumes import AXES, Shown, window_text

LONG_NOTE = 40
"""Characters: shorter ones are repeated."""
IN_PERCENT = "difference and limit in percent"
"""What validate notes where these two are percent of the truth, not in the row's unit."""
LENGTHS = ("Tb.Th", "Ct.Th", "Tb.Sp")
MASK_NOTE = "Outlines: bone amber, lacunae blue, canals pink; what lies outside the volume of interest is darkened."


def metrics(results: Results, params: ReportSection) -> list[Block]:
    """Every metric of every measured volume, side by side with the plain reconstruction."""
    if not results.metrics:
        return [NotRun("Morphometry", "no volume was measured")]
    blocks: list[Block] = []
    if len(results.metrics) > 1:
        first = display_name(next(iter(results.metrics)))
        blocks.append(
            Text(
                f"A network can move numbers. Each metric stands beside the same metric of the {first} volume, with "
                f"the difference in percent of it; differences beyond {params.bias_percent:g} % are marked."
            )
        )
    if not results.calibrated:
        blocks.append(
            Text(
                "Uncalibrated: the voxel size is not known. Lengths are in voxels and attenuation is per voxel.", "look"
            )
        )
    return [*blocks, metric_table(results.metrics, params.bias_percent, results.scan), _methods_table(results.metrics)]


def metric_table(tables: Mapping[str, list[Row]], limit_percent: float, scan: str) -> Table:
    """One row a metric; for each volume its value, for each but the first its difference."""
    volumes = list(tables)
    columns = ["Metric", "Name", "Unit"]
    for place, volume in enumerate(volumes):
        columns += [display_name(volume)] + (["difference"] if place else [])
    columns.append("Note")
    compared = compare(tables)
    several = len({c.compartment for c in compared}) > 1
    notes = _once([_joined(c.notes, len(volumes)) for c in compared])
    rows = [
        [*_metric_row(c, volumes, limit_percent, several=several), Cell(note)]
        for c, note in zip(compared, notes, strict=True)
    ]
    numeric = frozenset(range(3, len(columns) - 1))
    download = (f"{scan}_morphometry.csv", as_csv(list(tables.values())))
    return Table("Morphometry", columns, rows, numeric, "Hover over a number for all its digits.", download)


def _methods_table(tables: Mapping[str, list[Row]]) -> Table:
    """How each metric was measured; volumes measured in the same way share a row."""
    how: dict[tuple[str, str], list[str]] = {}
    for volume, found in tables.items():
        for row in found:
            if row.get("method"):
                how.setdefault((row["symbol"], row["method"]), []).append(display_name(volume))
    order = {symbol: place for place, symbol in enumerate(dict.fromkeys(symbol for symbol, _ in how))}
    rows = [[Cell(s), Cell(method), Cell(", ".join(names))] for (s, method), names in how.items()]
    rows.sort(key=lambda cells: order[cells[0].text])
    return Table("How each metric was measured", ["Metric", "Method", "Volumes"], rows, folded=True)


def truth(results: Results) -> list[Block]:
    """The comparison with the known answer of a simulated scan."""
    if not results.validation:
        return [
            NotRun(
                "Comparison with the truth",
                "measured scan: the true answer is not known" if not results.simulated else "no truth was given",
            )
        ]
    columns = ["Volume", "Check", "Value", "Truth", "Unit", "Difference", "Limit", "Result", "Note"]
    rows = [_truth_row(row) for row in results.validation]
    warning = Text(
        "SIMULATED scan: these checks compare with the numbers the phantom was made from. A measured scan has none.",
        "info",
    )
    download = (f"{results.scan}_validation.csv", as_csv([results.validation]))
    return [warning, Table("Against the truth", columns, rows, frozenset({2, 3, 5, 6}), download=download)]


def grey_levels(results: Results, shown: list[Shown]) -> list[Block]:
    """Histogram of each volume with its threshold."""
    if not shown:
        return [NotRun("Histogram", "no volume was reconstructed")]
    thresholds = {display_name(one.name): value for one in shown if (value := _threshold(results, one)) is not None}
    samples = {display_name(one.name): one.sample for one in shown}
    everything = np.concatenate(list(samples.values()))
    low, high = window(everything, 0.05, 99.98)
    high = max([high, *thresholds.values()])
    figure = plots.histograms(samples, thresholds, value_label=f"attenuation ({shown[0].unit})", limits=(low, high))
    words = "; ".join(f"{name} {value:.4g} {shown[0].unit}" for name, value in thresholds.items())
    note = f"From every k-th voxel of {len(shown[0].indices)} slices. " + (
        f"Dashed, the threshold: {words}." if words else "No threshold is recorded."
    )
    return [Plot("Grey levels", svg(figure), "histogram of grey values of each volume, with thresholds", note)]


def masks(results: Results, shown: list[Shown], grey_window: tuple[float, float], params: ReportSection) -> list[Block]:
    """The mask drawn over a slice, whole and magnified where lacunae are."""
    pairs = [(one, results.bones[one.name]) for one in shown if one.name in results.bones]
    if not pairs:
        return [NotRun("Masks", "no volume was segmented")]
    blocks: list[Block] = []
    for one, bone in pairs:
        if bone.data.shape != one.volume.data.shape:
            blocks.append(
                NotRun(f"Mask of the {display_name(one.name)} volume", "the mask lies on another grid than the volume")
            )
        else:
            pictures = _mask_pictures(one, bone, grey_window, params)
            blocks.append(
                Gallery(
                    f"Mask of the {display_name(one.name)} volume",
                    pictures,
                    f"{MASK_NOTE} {window_text(grey_window, one.unit)}",
                )
            )
    return blocks


def distributions(results: Results) -> list[Block]:
    """BA/TA along the bone, thickness and lacuna volumes."""
    return [*_area_fraction(results), *_thickness(results), *_lacunae(results)]


def _metric_row(c: Comparison, volumes: list[str], limit_percent: float, *, several: bool) -> list[Cell]:
    name = f"{c.name} ({c.compartment})" if several and c.compartment else c.name
    row = [Cell(c.symbol), Cell(name), Cell(unit(c.unit))]
    for place, volume in enumerate(volumes):
        row.append(value_cell(c.values.get(volume)))
        if place:
            row.append(difference_cell(c.difference_percent.get(volume), limit_percent))
    return row


def _once(notes: list[str]) -> list[str]:
    """A long note that a row shares with the row above is not said again."""
    above = ["", *notes]
    return [
        "as above" if note == before and len(note) > LONG_NOTE else note
        for note, before in zip(notes, above, strict=False)
    ]


def _joined(notes: Mapping[str, str], volumes: int) -> str:
    """The notes of a metric: once where all volumes have the same, by volume otherwise."""
    if len(set(notes.values())) == 1 and len(notes) == volumes:
        return next(iter(notes.values()))
    return "; ".join(f"{display_name(name)}: {note}" for name, note in notes.items())


def _truth_row(row: Row) -> list[Cell]:
    note, percent = row.get("note", ""), " %" if IN_PERCENT in row.get("note", "") else ""
    value, true, difference, limit = (value_cell(row.get(name)) for name in ("value", "truth", "difference", "limit"))
    return [
        Cell(display_name(row.get("volume", "")) or "scan"),
        Cell(row.get("check", "")),
        value,
        true,
        Cell(unit(row.get("unit", ""))),
        *(Cell(cell.text + percent * bool(cell.value), cell.value) for cell in (difference, limit)),
        _result_cell(row.get("passed", ""), known=bool(value.value)),
        Cell(note.replace(IN_PERCENT, "").lstrip("; ")),
    ]


def _result_cell(text: str, *, known: bool) -> Cell:
    state = passed(text)
    if not known:
        return Cell("not run", "", "info")
    return Cell({"pass": "within limit", "fail": "outside limit"}.get(state, "no limit"), text, state)


def _threshold(results: Results, one: Shown) -> float | None:
    """The threshold of a volume in its displayed unit; None when unknown or given as a density."""
    bone = results.bones.get(one.name)
    value, unit = threshold_of(bone.record) if bone else (None, "")
    if value is None or unit.startswith("mg"):
        return None
    return value if unit == "1/cm" else value * one.scale


def _mask_pictures(one: Shown, bone: Volume, grey_window: tuple[float, float], params: ReportSection) -> list[Picture]:
    place, labels = _labelled_slice(one, bone)
    image, name = one.whole(place), display_name(one.name)
    rows, cols = _interesting(labels, params.zoom_px)
    found = []
    for part, what in (((slice(None), slice(None)), "whole slice"), ((rows, cols), "magnified")):
        found.append(
            overlay(
                image[part],
                labels[part],
                grey_window=grey_window,
                alt=f"axial slice {one.indices[place]} of the {name} volume with outlines of bone and lacunae, {what}",
                caption=f"Slice {one.indices[place]}, {what}",
                axes=AXES["axial"],
                voxel_um=one.voxel_um,
                longest_px=params.picture_px,
                quality=params.jpeg_quality,
            )
        )
    return found


def _labelled_slice(one: Shown, bone: Volume) -> tuple[int, np.ndarray]:
    """Of the slices read, the one nearest the middle that holds bone; the middle one when none does."""
    order = sorted(range(len(one.indices)), key=lambda place: abs(place - one.middle))
    for place in order:
        labels = np.asarray(bone.data[one.indices[place]])
        if (labels == BONE).any():
            return place, labels
    return one.middle, np.asarray(bone.data[one.indices[one.middle]])


def _interesting(labels: np.ndarray, edge_px: int) -> tuple[slice, slice]:
    lacunae = labels == LACUNA
    target = lacunae if lacunae.any() else labels >= BONE
    return busiest(target.astype(np.float64), edge_px)


def _area_fraction(results: Results) -> list[Block]:
    found, label = {}, "slice"
    for name, rows in results.slices.items():
        position, value = column(rows, "z_mm", "z"), column(rows, "BA_TA", "BA/TA")
        if position is not None and value is not None:
            found[display_name(name)] = (np.array(position[1]), np.array(value[1]))
            label = "z (mm)" if position[0] == "z_mm" else "slice"
    title = "Bone area fraction along the axis"
    if not found:
        return [NotRun(title, "no table of slices was written")]
    figure = plots.slice_profiles(found, position_label=label, value_label="BA/TA")
    return [Plot(title, svg(figure), "bone area over tissue area of each slice")]


def _thickness(results: Results) -> list[Block]:
    """Mean and spread of thickness and separation, for each volume."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    units = set()
    for name, rows in results.metrics.items():
        values = {row["symbol"]: parse(row["value"]) for row in rows}
        units |= {row["unit"] for row in rows if row["symbol"] in LENGTHS and parse(row["value"]) is not None}
        for symbol in LENGTHS:
            mean, spread = values.get(symbol), values.get(f"{symbol}.SD")
            if mean is not None and spread is not None:
                found.setdefault(symbol, {})[display_name(name)] = (mean, spread)
    if not found or len(units) != 1:
        reasons = [row["note"] for rows in results.metrics.values() for row in rows if row["symbol"] in LENGTHS]
        reason = next((r.rpartition("skipped: ")[2] for r in reasons if r), "no thickness was measured")
        return [NotRun("Thickness and separation", reason)]
    figure = plots.spreads(found, value_label=f"length ({units.pop()})")
    note = "Dot: mean over the volume; line: ± one standard deviation of the local thickness."
    return [Plot("Thickness and separation", svg(figure), "mean and spread of thickness and separation", note)]


def _lacunae(results: Results) -> list[Block]:
    found, label = {}, "µm³"
    for name, rows in results.lacunae.items():
        whole = [row for row in rows if passed(row.get("touching_border", "")) != "pass"]
        values = column(whole, "volume_um3", "volume_voxels")
        if values is not None:
            found[display_name(name)] = np.array([v for v in values[1] if math.isfinite(v)])
            label = "µm³" if values[0] == "volume_um3" else "voxels, uncalibrated"
    if not found:
        return [NotRun("Lacuna volumes", "no lacuna was measured")]
    figure = plots.distributions(found, value_label=f"lacuna volume ({label})", count_label="lacunae")
    words = ", ".join(f"{name}: {values.size}" for name, values in found.items())
    note = f"Lacunae that lie whole in the volume of interest — {words}."
    return [Plot("Lacuna volumes", svg(figure), "histogram of the volumes of lacunae", note)]
