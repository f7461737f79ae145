"""Line drawings of the report: numbers in, matplotlib figures out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xrmflow.report.style import INK, SERIES, drawing, plain_powers


def sweep_curve(
    centre_px: Sequence[float], score: Sequence[float], best_px: float, uncertainty_px: float | None
) -> Figure:
    """Score against trial centre, the chosen centre as a line with its uncertainty."""
    with drawing() as figure:
        axes = figure.add_subplot(xlabel="centre of rotation (px)", ylabel="score (arbitrary)")
        order = np.argsort(centre_px)
        axes.plot(np.asarray(centre_px)[order], np.asarray(score)[order], "o-", markersize=3)
        axes.axvline(best_px, color=INK, linewidth=1, linestyle="--")
        if uncertainty_px:
            axes.axvspan(best_px - uncertainty_px, best_px + uncertainty_px, color=SERIES[0], alpha=0.15, linewidth=0)
        at = axes.get_xaxis_transform()
        axes.annotate(f"{best_px:.2f} px", (best_px, 1), (4, -2), xycoords=at, textcoords="offset points", va="top")
    return figure


def radial_profiles(
    radius: np.ndarray, before: np.ndarray, after: np.ndarray, *, radius_label: str, value_label: str
) -> Figure:
    """Mean grey value against radius, before and after the cupping correction."""
    with drawing() as figure:
        axes = figure.add_subplot(xlabel=radius_label, ylabel=value_label)
        axes.plot(radius, before, color=SERIES[1], label="before")
        axes.plot(radius, after, color=SERIES[0], label="after")
        _legend(figure)
    return figure


def trajectories(found: Sequence[Mapping[str, Any]], *, shift_label: str) -> Figure:
    """Shift and turn of the object along and about three axes over the views, with their bands."""
    with drawing(7.4, 2.8) as figure:
        shifts, turns = figure.subplots(1, 2)
        shifts.set(xlabel="view", ylabel=shift_label)
        turns.set(xlabel="view", ylabel="turn of the object (°)")
        for place, one in enumerate(found):
            axes, colour = (shifts, turns)[place // 3], _colours(3)[place % 3]
            values, band = np.asarray(one["values"]), np.asarray(one["band"])
            axes.plot(values, color=colour, label=one["name"][-1] if place < 3 else None)
            axes.fill_between(
                np.arange(len(values)), values - band, values + band, color=colour, alpha=0.15, linewidth=0
            )
        _legend(figure)
    return figure


def descent(values: Sequence[float], *, label: str) -> Figure:
    """A loss against the evaluations of an optimiser."""
    with drawing() as figure:
        axes = figure.add_subplot(xlabel="evaluation", ylabel=label)
        axes.plot(np.arange(1, len(values) + 1), values, "o-", markersize=3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def residuals(history: Sequence[Mapping[str, float]]) -> Figure:
    """Residual before each step of a fit, one line for each resolution of the images (`binning`)."""
    with drawing() as figure:
        axes = figure.add_subplot(xlabel="step", ylabel="residual (rms)")
        levels = list(dict.fromkeys(one["binning"] for one in history))
        for binning, colour in zip(levels, _colours(len(levels)), strict=True):
            shown = [(n, one["residual"]) for n, one in enumerate(history, start=1) if one["binning"] == binning]
            label = f"averages of {binning:.0f} px"
            axes.plot(*zip(*shown, strict=True), "o-", color=colour, label=label, markersize=3)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure)
    return figure


def training(step: Sequence[float], train: Sequence[float | None], validation: Sequence[float | None]) -> Figure:
    """Training and validation loss against optimiser step, logarithmic where they fall by more than a decade."""
    with drawing() as figure:
        axes = figure.add_subplot(xlabel="optimiser step", ylabel="loss")
        _curve(axes, step, train, "training", SERIES[0])
        _curve(axes, step, validation, "validation", SERIES[1])
        losses = [loss for loss in (*train, *validation) if loss is not None]
        if min(losses) > 0 and max(losses) > 10 * min(losses):
            axes.set_yscale("log")
            plain_powers(axes.yaxis)
        _legend(figure)
    return figure


def histograms(
    samples: Mapping[str, np.ndarray], thresholds: Mapping[str, float], *, value_label: str, limits: tuple[float, float]
) -> Figure:
    """Part of the voxels per grey value for each volume, with each volume's threshold as a dashed line."""
    with drawing(7.4, 3.0) as figure:
        axes = figure.add_subplot(xlabel=value_label, ylabel="part of voxels")
        edges = np.linspace(*limits, 161)
        for (name, sample), colour in zip(samples.items(), _colours(len(samples)), strict=True):
            counts, _ = np.histogram(sample[np.isfinite(sample)], bins=edges)
            axes.stairs(counts / max(counts.sum(), 1), edges, color=colour, label=name, linewidth=1.2)
            if name in thresholds:
                axes.axvline(thresholds[name], color=colour, linewidth=1, linestyle="--")
        axes.set_yscale("log")
        plain_powers(axes.yaxis)
        axes.set_xlim(*limits)
        _legend(figure)
    return figure


def slice_profiles(
    profiles: Mapping[str, tuple[np.ndarray, np.ndarray]], *, position_label: str, value_label: str
) -> Figure:
    """A value per slice (for example BA/TA) against the slice's height, one line a volume."""
    with drawing(7.4, 2.8) as figure:
        axes = figure.add_subplot(xlabel=position_label, ylabel=value_label)
        for (name, (position, value)), colour in zip(profiles.items(), _colours(len(profiles)), strict=True):
            axes.plot(position, value, color=colour, label=name, marker="o" if len(position) < 12 else None)
        axes.set_ylim(0, 1.08 * max((float(np.nanmax(value)) for _, value in profiles.values()), default=1.0) or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=position_label == "slice"))
        _legend(figure)
    return figure


def distributions(samples: Mapping[str, np.ndarray], *, value_label: str, count_label: str, bins: int = 24) -> Figure:
    """Histograms of a value per object or voxel (for example lacuna volume), one line a volume."""
    with drawing() as figure:
        axes = figure.add_subplot(xlabel=value_label, ylabel=count_label)
        everything = np.concatenate(list(samples.values()))
        edges = np.histogram_bin_edges(everything, bins=bins)
        for (name, sample), colour in zip(samples.items(), _colours(len(samples)), strict=True):
            axes.hist(sample, bins=list(edges), histtype="step", color=colour, label=name, linewidth=1.3)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure)
    return figure


def spreads(values: Mapping[str, Mapping[str, tuple[float, float]]], *, value_label: str) -> Figure:
    """Mean and standard deviation of quantities (outer names), one mark a volume (inner names)."""
    volumes = list(dict.fromkeys(name for found in values.values() for name in found))
    with drawing() as figure:
        axes = figure.add_subplot(ylabel=value_label, xlim=(-0.6, len(values) - 0.4))
        for place, (name, colour) in enumerate(zip(volumes, _colours(len(volumes)), strict=True)):
            offset = (place - (len(volumes) - 1) / 2) * 0.16
            shown = [(x + offset, *found[name]) for x, found in enumerate(values.values()) if name in found]
            x, mean, spread = zip(*shown, strict=True)
            axes.errorbar(x, mean, yerr=spread, fmt="o", color=colour, label=name, capsize=3, elinewidth=1.2)
        axes.set_xticks(range(len(values)), list(values))
        axes.set_ylim(bottom=0)
        _legend(figure)
    return figure


def _curve(axes: Axes, step: Sequence[float], values: Sequence[float | None], label: str, colour: str) -> None:
    """Draw the points that exist."""
    pairs = [(s, v) for s, v in zip(step, values, strict=False) if v is not None]
    if pairs:
        axes.plot(*zip(*pairs, strict=True), color=colour, label=label)


def _legend(figure: Figure) -> None:
    """Names of the lines above the plot, out of the way of the lines."""
    figure.legend(loc="outside upper left", ncols=4, handlelength=1.4, columnspacing=1.6)


def _colours(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]
