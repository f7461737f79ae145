"""Each correction before and after: detector, centre of rotation, beam hardening, networks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xrmflow.config.report import ReportSection
from xrmflow.report import plots
from xrmflow.report.blocks import Block, Cell, Facts, Gallery, NotRun, Picture, Plot, Table, Text
from xrmflow.report.images import picture, window
from xrmflow.report.numbers import number, sentence
from xrmflow.report.results import Results
from xrmflow.report.style import svg
from xrmflow.report.volumes import display_unit, window_text

FEW_ROWS = 8
MONTAGE = 5
LARGE_MISMATCH_PX = 0.5
LOSS_NOTE = "Against noisy targets the lowest possible loss is the noise of the target, not zero."


def detector(results: Results, params: ReportSection) -> list[Block]:
    """Raw counts and line integrals of one view and of one detector row, and what was taken away between them."""
    blocks: list[Block] = [_statistics(results.corrections)] if results.corrections else []
    if not {"plain_sinogram", "corrected_sinogram"} <= results.views.keys():
        return [*blocks, NotRun("Detector correction, before and after", "no pictures of it were given")]
    seen = results.flatfield.get("views") or {}
    before, after = (results.views[name].astype(np.float64) for name in ("plain_sinogram", "corrected_sinogram"))
    limits = window(after, 0.5, 99.9)
    removed = before - after - np.median(before - after)
    span = float(np.percentile(np.abs(removed), 99.0)) or 1e-6
    sinograms = [
        _sinogram(before, limits, f"Row {seen.get('row')}, {seen.get('plain')}", params),
        _sinogram(after, limits, f"Row {seen.get('row')}, all corrections", params),
        _sinogram(removed, (-span, span), f"Taken away (mid grey: nothing; white +{span:.2g})", params),
    ]
    note = (
        f"Grey window of the line integrals {number(limits[0], 3)} to {number(limits[1], 3)}. "
        "In the last picture vertical lines are rings, horizontal ones changes of the beam, dots outliers."
    )
    radiographs = _radiographs(results, params)
    blocks += [Gallery("One view", radiographs, _reduced(seen))] if radiographs else []
    return [*blocks, Gallery("Sinogram: views downwards, detector columns across", sinograms, note)]


def centre(results: Results, params: ReportSection) -> list[Block]:
    """The sweep of trial centres: its curve, and slices that a person can judge."""
    fit = results.geometry.get("fit") or {}
    if fit.get("method", "none") == "none":
        return [NotRun("Centre of rotation", str(fit.get("message") or "the nominal geometry was used"))]
    blocks: list[Block] = [Text(_centre_words(fit), "pass" if fit.get("trusted") else "look"), _found(fit)]
    for name, title in (("coarse_sweep", "Coarse sweep of the centre"), ("sweep", "Fine sweep of the centre")):
        sweep, best = fit.get(name) or {}, float(fit["centre_px"])
        if sweep.get("centre_px"):
            figure = plots.sweep_curve(sweep["centre_px"], sweep["score"], best, fit.get("uncertainty_px"))
            blocks.append(Plot(title, svg(figure), f"score against trial centre, chosen {best:.2f} px"))
    if len(results.sweep.get("slices", ())):
        blocks.append(_montage(results.sweep["centre_px"], results.sweep["slices"], float(fit["centre_px"]), params))
    return blocks


def pose(results: Results) -> list[Block]:
    """The joint fit of the detector's pose, drift and jitter, with intervals; the alignment score without a fit."""
    fit, score = results.geometry.get("joint"), (results.geometry.get("score") or {}).get("mismatch_px")
    words = f"Views are displaced by {number(score, 2)} px rms against their volume." if score is not None else ""
    if not fit:
        return [Text(words, "pass" if score < LARGE_MISMATCH_PX else "look")] if score is not None else []
    message = sentence(fit.get("message"))
    rows = [
        [
            Cell(one["name"].rpartition("_")[0].replace("_", " ")),
            Cell(number(one["value"], 4), repr(one["value"])),
            _interval(one),
        ]
        for one in fit.get("parameters", [])
    ]
    for name in ("drift", "jitter"):
        value = float(fit.get(f"{name}_rms_px", 0.0))
        rows.append([Cell(f"{name}, rms"), Cell(f"{number(value, 3)} px", repr(value)), Cell("")])
    note = "Half width of the 95 % interval. What data do not hold stays as recorded."
    table = Table("Pose of the detector", ["parameter", "value", "±"], rows, frozenset({1, 2}), note)
    return [Text(f"{message} {words}".strip(), "pass" if fit.get("trusted") else "look"), table, *_steps(fit)]


def motion(results: Results) -> list[Block]:
    """The fitted motion of the object: six trajectories with their 95 % bands."""
    fit = results.geometry.get("motion")
    if not fit:
        return []
    label = f"shift of the object ({'mm' if results.calibrated else 'px'})"
    figure = plots.trajectories(fit["trajectories"], shift_label=label)
    words = "shift and turn of the object along and about x, y and z in each view"
    note = "Along and about x, y, z of the object, less the mean; with 95 % bands."
    return [
        Text(sentence(fit["message"]), "pass" if fit["trusted"] else "look"),
        Plot("Motion of the object", svg(figure), words, note),
        *_steps(fit),
    ]


def _steps(fit: Mapping[str, Any]) -> list[Block]:
    """What each step of a fit of the geometry left unexplained; a fit by sharpness looks at something else."""
    history = [one for one in fit.get("history") or [] if "residual" in one]
    if len(history) < 2:
        return []
    note = "What the reconstruction does not show of the images; finer images have more of it."
    return [Plot("Steps of the fit", svg(plots.residuals(history)), "residual against step of the fit", note)]


def _interval(one: Mapping[str, Any]) -> Cell:
    if not one.get("observable"):
        return Cell("not observable", state="look")
    unit = "°" if one["unit"] == "deg" else one["unit"]
    return Cell(f"{number(one['interval'], 2)} {unit}", repr(one["interval"]))


def hardening(results: Results, params: ReportSection) -> list[Block]:
    """A slice and its radial profile before and after the beam hardening correction."""
    document = results.cupping
    if document is None:
        return [NotRun("Beam hardening (cupping)", "not asked for in the settings")]
    blocks: list[Block] = [Text(_hardening_words(document), "pass" if document.get("trusted") else "look")]
    # A step wedge gives a curve of many coefficients, none of which means anything by itself.
    blocks += [_coefficients(document)] if document.get("found", [0])[0] == 1 else []
    arrays = _corrected(results.cupping_slices, document)
    unit = display_unit("attenuation_per_mm" if results.calibrated else "attenuation_per_voxel")
    scale = 10.0 if results.calibrated else 1.0
    if {"before", "after"} <= arrays.keys():
        limits = window(arrays["after"] * scale, params.window_low_percentile, params.window_high_percentile)
        shown = [
            picture(
                arrays[name] * scale,
                grey_window=limits,
                alt=f"axial slice {name} the beam hardening correction",
                caption=f"{name.capitalize()} the correction",
                longest_px=params.picture_px,
                quality=params.jpeg_quality,
            )
            for name in ("before", "after")
        ]
        blocks.append(Gallery("Axial slice", shown, window_text(limits, unit)))
    if {"radius_mm", "profile_before", "profile_after"} <= arrays.keys():
        figure = plots.radial_profiles(
            arrays["radius_mm"],
            arrays["profile_before"] * scale,
            arrays["profile_after"] * scale,
            radius_label="distance from the axis (mm)" if results.calibrated else "distance from the axis (voxels)",
            value_label=f"mean attenuation ({unit})",
        )
        blocks.append(
            Plot("Radial profile", svg(figure), "mean attenuation against radius, before and after the correction")
        )
    losses = _losses((document.get("loss") or {}).get("evaluations", []))
    if len(losses) > 2:  # a fit solved in one step has a before and an after, which is no curve
        blocks.append(Plot("Fit", svg(plots.descent(losses, label="loss")), "loss against evaluation"))
    return blocks


def network(name: str, title: str, volume: str, results: Results) -> list[Block]:
    """Training of a network, or why there is none."""
    card = results.models.get(name)
    if card is None:
        reason = "no model" if volume not in results.volumes else "its model card was not given"
        return [NotRun(title, reason)]
    blocks: list[Block] = [Facts(title, _card(card))]
    loss = card.get("loss") or {}
    if loss.get("step"):
        missing = [None] * len(loss["step"])
        figure = plots.training(loss["step"], loss.get("train") or missing, loss.get("validation") or missing)
        blocks.append(Plot("Training", svg(figure), "training and validation loss against optimiser step", LOSS_NOTE))
    if volume not in results.volumes:
        blocks.append(NotRun(f"{title}: volume", "the model was not applied to this scan"))
    return blocks


def _radiographs(results: Results, params: ReportSection) -> list[Picture]:
    """The view before and after; a detector of a few rows shows nothing in one view."""
    if results.acquisition is None or results.acquisition.rows < FEW_ROWS:
        return []
    view = (results.flatfield.get("views") or {}).get("view")
    recorded = str(results.raw.get("already", "counts")).replace("_", " ")
    found = []
    for key, name, unit in (("raw_view", "Raw", recorded), ("corrected_view", "Corrected", "line integrals")):
        image = results.views[key].astype(np.float64)
        limits = window(image, 0.5, 99.5)
        found.append(
            picture(
                image,
                grey_window=limits,
                alt=f"{name.lower()} radiograph, view {view}",
                caption=f"{name}, view {view}: {unit}, {number(limits[0], 3)} to {number(limits[1], 3)}",
                longest_px=params.picture_px,
                quality=params.jpeg_quality,
            )
        )
    return found


def _reduced(seen: Mapping[str, Any]) -> str:
    edge = seen.get("averaged_px", 1)
    return f"Averaged over squares of {edge} × {edge} detector pixels." if edge > 1 else ""


def _sinogram(image: np.ndarray, limits: tuple[float, float], caption: str, params: ReportSection) -> Picture:
    return picture(
        image,
        grey_window=limits,
        alt=f"sinogram: {caption}",
        caption=caption,
        longest_px=params.picture_px,
        quality=params.jpeg_quality,
        rows_upwards=False,
    )


def _statistics(statistics: Mapping[str, Any]) -> Facts:
    items = []
    for name, value in statistics.items():
        if name.endswith("_fraction") and isinstance(value, int | float):
            items.append((name.removesuffix("_fraction").replace("_", " "), f"{number(100 * value, 3)} %"))
        elif isinstance(value, int | float | str):
            items.append((name.replace("_", " "), number(value)))
    return Facts("", items)


def _centre_words(fit: Mapping[str, Any]) -> str:
    uncertainty = f" ± {number(fit['uncertainty_px'], 2)}" if fit.get("uncertainty_px") is not None else ""
    words = (
        f"Centre {fit['centre_px']:.2f}{uncertainty} px{_roll_words(fit)}, by {fit.get('method', 'no stated method')}."
    )
    message = sentence(fit.get("message"))
    return message if message.startswith("Centre ") else f"{words} {message}".strip()


def _found(fit: Mapping[str, Any]) -> Table:
    rows = [[Cell("centre"), *_measured(fit["centre_px"], fit.get("uncertainty_px"), " px")]]
    if fit.get("roll_deg") is not None:
        rows.append([Cell("roll"), *_measured(fit["roll_deg"], fit.get("roll_uncertainty_deg"), "°")])
    note = "One standard deviation, from the difference of even and odd views."
    return Table("Fitted", ["parameter", "value", "±"], rows, frozenset({1, 2}), note)


def _coefficients(document: Mapping[str, Any]) -> Table:
    """The coefficients that the scan's own fit found, used or not."""
    spreads = [document.get(name) or [] for name in ("uncertainty", "statistical_uncertainty")]
    rows = [
        [Cell(f"c{power}"), *_measured(value, _at(spreads[0], k)), _measured(value, _at(spreads[1], k))[1]]
        for k, (power, value) in enumerate(enumerate(document["found"][1:], start=2))
    ]
    note = "p + c2 p² + …, p the line integral. One standard deviation; noise alone, which more views would lessen."
    return Table("Coefficients", ["coefficient", "value", "±", "± noise"], rows, frozenset({1, 2, 3}), note)


def _at(values: Sequence[float], place: int) -> float | None:
    return values[place] if place < len(values) else None


def _measured(value: float, uncertainty: float | None, unit: str = "") -> list[Cell]:
    """A value and its uncertainty, to two digits of this."""
    if not uncertainty:
        return [Cell(f"{number(value)}{unit}", repr(value)), Cell("unknown")]
    decimals = max(0, 1 - math.floor(math.log10(uncertainty)))
    texts = [f"{one:.{decimals}f}{unit}".replace("-", "−") for one in (value, uncertainty)]
    return [Cell(texts[0], repr(value)), Cell(texts[1], repr(uncertainty))]


def _roll_words(fit: Mapping[str, Any]) -> str:
    if fit.get("roll_deg") is None:
        return ""
    uncertainty = fit.get("roll_uncertainty_deg")
    return f", roll {number(fit['roll_deg'], 3)}°" + (
        f" ± {number(uncertainty, 2)}°" if uncertainty is not None else ""
    )


def _hardening_words(document: Mapping[str, Any]) -> str:
    coefficients = ", ".join(number(c) for c in document.get("coefficients", []))
    words = [
        f"Coefficients of the polynomial: {coefficients}; {'applied' if document.get('applied') else 'not applied'}."
    ]
    if document.get("protocol"):
        words.append(f"One correction for all scans of protocol {document['protocol']}.")
    before, after = document.get("grey_difference_before"), document.get("grey_difference_after")
    if before is not None and after is not None:
        words.append(
            f"Grey difference between rim and core of bone: {number(before, 3)} before, {number(after, 3)} after."
        )
    words += [sentence(document["message"])] if document.get("message") else []
    return " ".join(words)


def _corrected(arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Pictures with the coefficients in use, which may be those of the scan's protocol and not its own."""
    coefficients = np.asarray(document.get("coefficients") or [1.0])
    found = dict(arrays)
    for powers, after in (("powers", "after"), ("profile_powers", "profile_after")):
        if len(found.get(powers, ())) == len(coefficients):
            found[after] = np.tensordot(coefficients, found[powers], axes=1)
    return found


def _losses(evaluations: list[Any]) -> list[float]:
    """Losses of a fit in the order they were evaluated, whether listed alone or with what they belong to."""
    values = [one.get("loss") if isinstance(one, dict) else one for one in evaluations]
    return [float(value) for value in values if isinstance(value, int | float)]


def _montage(centres: np.ndarray, slices: np.ndarray, best: float, params: ReportSection) -> Gallery:
    order = np.argsort(centres)
    middle = int(np.argmin(np.abs(centres[order] - best)))
    wanted = np.unique(np.clip(np.round(np.linspace(0, len(order) - 1, MONTAGE)).astype(int), 0, len(order) - 1))
    nearest = int(np.argmin(np.abs(wanted - middle)))
    wanted[nearest] = middle
    limits = window(slices[order[middle]], 0.5, 99.8)
    shown = []
    for place in wanted:
        here = float(centres[order[place]])
        caption = f"{here:.2f} px" + (" — nearest to the chosen one" if place == middle else "")
        shown.append(
            picture(
                slices[order[place]],
                grey_window=limits,
                alt=f"slice reconstructed with the centre at {here:.2f} px",
                caption=caption,
                longest_px=min(320, params.picture_px),
                quality=params.jpeg_quality,
            )
        )
    return Gallery(
        "The same slice with trial centres", shown, "A wrong centre doubles edges or draws tails (half moons)."
    )


def _card(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    items = [("architecture", str(card.get("architecture", "not stated")))]
    arguments = card.get("arguments") or {}
    items += [("arguments", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in arguments.items()))] if arguments else []
    scans = card.get("scans") or []
    items += [("trained on", ", ".join(_scan_words(scan) for scan in scans))] if scans else []
    held_out = card.get("validation_scans") or []
    items += [("validated on", ", ".join(_scan_words(scan) for scan in held_out))] if held_out else []
    items += [(name, number(card[name])) for name in ("parameters", "steps") if name in card]
    items += [("seed", str(card["seed"]))] if "seed" in card else []
    items += [("weights sha256", str(card["sha256"]))] if card.get("sha256") else []
    return items


def _scan_words(scan: Any) -> str:
    return " ".join(str(v) for v in scan.values()) if isinstance(scan, dict) else str(scan)
