"""The summary at the top of the page: what was looked at, and how it came out."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from xrmflow.config.report import ReportSection
from xrmflow.report.blocks import Check, State
from xrmflow.report.methods import recorded
from xrmflow.report.numbers import compare, difference_cell, number, parse, passed, plain
from xrmflow.report.results import Results, Row, display_name

GRAVEST_FIRST: tuple[State, ...] = ("fail", "look", "pass", "info")
SEVERITIES = ("missing", "warning", "assumption", "info")
PARTS_LOOK, PARTS_FAIL = 0.01, 0.10
"""Parts of the pixels replaced or too dark: beyond these, someone should look, or the counts are not to be trusted."""
VOXEL_TOLERANCE = 0.05
THICKNESS_VOXELS = 3.0
"""Structures thinner than this many voxels are not measured reliably."""


def checks(results: Results, params: ReportSection) -> list[Check]:
    """Every check that the results allow, in the order of the workflow."""
    found = [
        _units(results),
        _own_settings(results),
        _notes(results),
        *_corrections(results.corrections),
        None if results.imported else _trusted("Centre of rotation", results.geometry.get("fit") or {}),
        _cupping(results.cupping),
        _density(results),
        _thickness(results),
        _trained_elsewhere(results),
        _bias(results, params.bias_percent),
        _truth(results.validation),
    ]
    return [check for check in found if check is not None]


def worst(items: Iterable[Check]) -> State:
    """The state of the whole: that of its worst check."""
    states = {item.state for item in items}
    return next(state for state in GRAVEST_FIRST if state in states) if states else "info"


def notes(results: Results) -> list[tuple[str, str, str]]:
    """Every note of the stores and documents as (severity, where, text): the gravest first, each once."""
    found: dict[tuple[str, str], str] = {}
    for part, record in results.parts.items():
        for severity, text in _notes_of(record):
            found.setdefault((severity, text), part)
    rank = {severity: place for place, severity in enumerate(SEVERITIES)}
    listed = [(severity, part, text) for (severity, text), part in found.items()]
    return sorted(listed, key=lambda note: rank.get(note[0], len(rank)))


def _notes_of(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The notes of a record and of the records within it; a plain text counts as information."""
    for note in record.get("notes") or []:
        yield (
            (str(note.get("severity", "info")), str(note.get("text", "")))
            if isinstance(note, dict)
            else ("info", str(note))
        )
    for name, inner in record.items():
        if isinstance(inner, dict) and name != "provenance":
            yield from _notes_of(inner)


def _units(results: Results) -> Check:
    if results.calibrated:
        return Check("Voxel size", "pass", "known; lengths are in millimetres and micrometres")
    return Check(
        "Voxel size", "look", "not known: all lengths are in voxels and attenuation is per voxel (uncalibrated)"
    )


def _own_settings(results: Results) -> Check | None:
    """What was set for this scan alone: a comparison with the others needs a reason for it."""
    keys = [
        f"{section}.{key}: {json.dumps(value)}" for section, part in results.own.items() for key, value in part.items()
    ]
    return Check("Settings of this scan alone", "info", f"{', '.join(keys)} ({results.own_file})") if keys else None


def _notes(results: Results) -> Check | None:
    severities = [severity for severity, _, _ in notes(results)]
    grave = [s for s in severities if s in ("warning", "missing")]
    assumed = severities.count("assumption")
    words = [f"{len(grave)} warning{'s' if len(grave) != 1 else ''} or missing item{'s' if len(grave) != 1 else ''}"]
    words += [f"{assumed} assumption{'s' if assumed != 1 else ''}"]
    return Check(
        "Notes of the stages", "look" if grave else "pass", f"{', '.join(words)}; listed under “Notes and assumptions”"
    )


def _corrections(statistics: dict[str, Any]) -> list[Check]:
    found = []
    for key, name in (("outliers_fraction", "Outliers replaced"), ("low_count_fraction", "Pixels with too few counts")):
        part = statistics.get(key)
        if part is not None:
            state: State = "fail" if part > PARTS_FAIL else "look" if part > PARTS_LOOK else "pass"
            found.append(Check(name, state, f"{number(100 * part, 3)} % of the pixels"))
    for key in ("flat", "dark"):
        how = str(statistics.get(key, ""))
        if how and how != "measured":
            found.append(Check(f"{key.capitalize()} field", "look", f"not measured: {how}"))
    return found


def _trusted(name: str, fit: dict[str, Any]) -> Check:
    if fit.get("method", "none") == "none":
        return Check(name, "look", "nominal; not fitted from the scan")
    value = f"{number(fit.get('centre_px'), 6)} px"
    if fit.get("uncertainty_px") is not None:
        value += f" ± {number(fit['uncertainty_px'], 2)} px"
    state: State = "pass" if fit.get("trusted") else "look"
    message = plain(fit.get("message"))
    if message.startswith("centre "):
        return Check(name, state, message)
    return Check(name, state, f"{value} ({fit['method']}){f' — {message}' if message else ''}")


def _cupping(document: dict[str, Any] | None) -> Check | None:
    if document is None:
        return None
    before, after = document.get("grey_difference_before"), document.get("grey_difference_after")
    change = (
        f"grey difference {number(before, 3)} → {number(after, 3)}" if before is not None and after is not None else ""
    )
    applied = "applied" if document.get("applied") else "not applied"
    words = "; ".join(word for word in (applied, change, plain(document.get("message"))) if word)
    return Check("Beam hardening (cupping)", "pass" if document.get("trusted") else "look", words)


def _thickness(results: Results) -> Check | None:
    """Mean thickness of the plain reconstruction against its voxel size."""
    for name, rows in results.metrics.items():
        row = next(
            (row for row in rows if row["symbol"] in ("Tb.Th", "Ct.Th") and parse(row["value"]) is not None), None
        )
        if row is None or name not in results.volumes:
            continue
        voxel = results.volumes[name].grid.voxel_mm
        scale = {"mm": 1 / voxel, "um": 1e-3 / voxel, "µm": 1e-3 / voxel}.get(row["unit"], 1.0)
        voxels = float(row["value"]) * scale
        state: State = "look" if voxels < THICKNESS_VOXELS else "pass"
        return Check(
            "Thickness against voxel size",
            state,
            f"mean {row['symbol']} is {number(voxels, 3)} voxels wide ({display_name(name)})",
        )
    return None


def _trained_elsewhere(results: Results) -> Check | None:
    """Whether the networks were trained at the voxel size they are applied at."""
    voxel = results.volumes["volume"].grid.voxel_mm if "volume" in results.volumes else None
    trained = {name: card["voxel_mm"] for name, card in results.models.items() if card.get("voxel_mm")}
    if voxel is None or not trained:
        return None
    other = [name for name, size in trained.items() if abs(size / voxel - 1) > VOXEL_TOLERANCE]
    if not other:
        return Check("Networks and voxel size", "pass", "trained at the voxel size of this scan")
    words = ", ".join(f"{name} at {number(trained[name] / voxel, 3)} times" for name in other)
    return Check("Networks and voxel size", "look", f"trained {words} the voxel size of this scan")


def _density(results: Results) -> Check | None:
    """Whether attenuation is converted to mineral density."""
    masks = results.bones.values()
    if not masks or any(recorded(bone.record, "density_calibration") for bone in masks):
        return None
    return Check("Mineral density", "info", "uncalibrated: no calibration line is given, so no density is reported")


def _bias(results: Results, limit_percent: float) -> Check | None:
    """Whether a network moved a metric by more than the limit."""
    if len(results.metrics) < 2:
        return None
    moved = [
        f"{c.symbol} {difference_cell(difference, limit_percent).text} ({display_name(volume)})"
        for c in compare(results.metrics)
        if not c.symbol.endswith(".SD")
        for volume, difference in c.difference_percent.items()
        if abs(difference) > limit_percent
    ]
    if not moved:
        return Check("Metrics moved by networks", "pass", f"none by more than {limit_percent:g} %")
    shown = ", ".join(moved[:4]) + (f" and {len(moved) - 4} more" if len(moved) > 4 else "")
    return Check("Metrics moved by networks", "look", f"more than {limit_percent:g} %: {shown}")


def _truth(rows: list[Row]) -> Check | None:
    states = [passed(row.get("passed", "")) for row in rows]
    limited = [state for state in states if state != "info"]
    if not limited:
        return None
    good = limited.count("pass")
    return Check("Simulated truth", "pass" if good == len(limited) else "fail", f"{good} of {len(limited)} limits held")
