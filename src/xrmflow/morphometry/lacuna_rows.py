"""Lines of the tables on lacunae."""

import numpy as np

from xrmflow.metrics.labels import BONE, CANAL, LACUNA
from xrmflow.morphometry.lacunae import Lacuna
from xrmflow.morphometry.rows import LACUNA_COLUMNS, Row, noted, row, uncalibrated
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.segmented import Options, Segmented


def lacuna_rows(data: Segmented, options: Options, lacunae: list[Lacuna], reason: str) -> list[Row]:
    """Number, density, volumes and shape of the lacunae that lie whole in the volume of interest; volume of canals."""
    scale, unit = data.scale, data.scale.um_unit(3)
    searched = options.lacunae and data.record["gates_voxels"] is not None
    reason = reason or ("" if searched else "skipped: switched off in the settings")
    if reason:
        return [row("Lc.N", "number of lacunae", None, "1", "", noted(scale, reason))]
    whole = [one for one in lacunae if not one.cut]
    bone = data.count(BONE) * scale.edge**3
    note = noted(scale, f"cut by the edge of the volume and left out: {len(lacunae) - len(whole)}")
    volumes = np.array([one.voxels for one in whole]) * scale.um**3
    grey = np.array([one.grey_voxels for one in whole]) * scale.um**3
    canals = data.count(CANAL) * scale.edge**3
    inside = data.count(LACUNA) * scale.edge**3
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
        row(
            "Lc.TV/BV",
            "lacunar porosity",
            inside / bone if bone else None,
            "1",
            "voxel count, cut lacunae included",
            uncalibrated(scale),
        ),
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
