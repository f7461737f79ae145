"""Thickness and separation, of all bone and, told apart, of its cortex and trabeculae."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from xrmflow.metrics.labels import BONE, CANAL, LACUNA, MARROW, OUTSIDE
from xrmflow.morphometry.envelope import cortex_of
from xrmflow.morphometry.rows import Row, noted, row, uncalibrated
from xrmflow.morphometry.segmented import Options, Segmented
from xrmflow.morphometry.thickness import local_thickness

FILLED = (BONE, LACUNA, CANAL)
THIN = 3.0
"""Voxels: structures thinner than this are resolved too poorly to be measured."""


def structure_rows(data: Segmented, options: Options, reason: str) -> list[Row]:
    """Thickness and separation, computed with all context and sampled in the volume of interest.

    Args:
        data: volume and labels.
        options: what to measure.
        reason: why there are no three dimensions to measure in; empty when there are.
    """
    reason = reason or ("" if options.thickness else "skipped: switched off in the settings")
    if reason:
        unit, note = data.scale.unit(1), noted(data.scale, reason)
        return [
            row("Tb.Th", "thickness of bone", None, unit, "", note),
            row("Tb.Sp", "separation of bone", None, unit, "", note),
        ]
    # The kernels release the interpreter: the two phases take two cores.
    with ThreadPoolExecutor(2) as pool:
        bone, marrow = pool.map(partial(_local, data, options), (FILLED, (MARROW,)))
    everything = data.labels > OUTSIDE
    rows = [
        *_distribution("Tb.Th", "thickness of bone", bone[everything], data, options),
        *_distribution("Tb.Sp", "separation of bone", marrow[everything], data, options),
    ]
    width = data.scale.voxels(options.trabecula_um or 0, options.trabecula_voxels or 0)
    if width:
        cortex = cortex_of(data.context == MARROW, data.context > OUTSIDE, trabecula_voxels=width)
        rows += cortical_rows(data, cortex, bone, options) + trabecular_rows(data, ~cortex, bone, marrow, options)
    return rows


def cortical_rows(data: Segmented, cortex: np.ndarray, local: np.ndarray, options: Options) -> list[Row]:
    """Areas, thickness and porosity of the cortex."""
    scale, inside = data.scale, data.labels > OUTSIDE
    wall, bone = cortex & inside, cortex & (data.labels == BONE)
    pores = wall & ((data.labels == LACUNA) | (data.labels == CANAL))
    slices = np.count_nonzero(inside.any(axis=(1, 2)))
    total, area = (np.count_nonzero(part) * scale.edge**2 / slices for part in (inside, bone))
    method, note = "mean of slices, voxel count", uncalibrated(scale)
    porosity = np.count_nonzero(pores) / max(np.count_nonzero(wall), 1)
    rows = [
        row("Tt.Ar", "total cross-sectional area", total, scale.unit(2), method, note),
        row("Ct.Ar", "cortical bone area", area, scale.unit(2), method, note),
        row("Ct.Ar/Tt.Ar", "cortical area fraction", area / total, "1", method, note),
        row("Ct.Po", "cortical porosity", porosity, "1", "lacunae and canals over cortex, voxel count", note),
        *_distribution("Ct.Th", "cortical thickness", local[wall], data, options),
    ]
    return [{"compartment": "cortical"} | one for one in rows]


def trabecular_rows(
    data: Segmented, medulla: np.ndarray, bone: np.ndarray, marrow: np.ndarray, options: Options
) -> list[Row]:
    """Bone fraction, thickness and separation inside the cortex."""
    inside, scale = medulla & (data.labels > OUTSIDE), data.scale
    total, count = np.count_nonzero(inside), np.count_nonzero(inside & (data.labels == BONE))
    note = uncalibrated(scale)
    rows = [
        row("TV", "medullary volume", total * scale.edge**3, scale.unit(3), "voxel count", note),
        row("BV/TV", "trabecular bone volume fraction", count / total if total else None, "1", "voxel count", note),
        *_distribution("Tb.Th", "trabecular thickness", bone[inside], data, options),
        *_distribution("Tb.Sp", "trabecular separation", marrow[inside], data, options),
    ]
    return [{"compartment": "trabecular"} | one for one in rows]


def _blur(data: Segmented, options: Options) -> float:
    return data.record["edge_blur_voxels"] if options.correct_blur else 0.0


def _local(data: Segmented, options: Options, kinds: tuple[int, ...]) -> np.ndarray:
    """Local thickness of what has one of the labels, voxels; 0 elsewhere."""
    domain = np.isin(data.context, kinds)
    return local_thickness(data.smoothed, domain, data.grey("threshold"), blur_voxels=_blur(data, options))


def _distribution(symbol: str, name: str, local: np.ndarray, data: Segmented, options: Options) -> list[Row]:
    """Mean and standard deviation over the voxels of a phase (volume-weighted)."""
    voxels, scale, blur = local[np.isfinite(local) & (local > 0)].astype(np.float64), data.scale, _blur(data, options)
    known = voxels.size > 0
    mean, spread = (float(voxels.mean()), float(voxels.std())) if known else (np.nan, np.nan)
    method = "largest balls (Hildebrand 1997), surface from grey values"
    method += f", corrected for a blur of {blur:.2f} voxels" if blur else ""
    method += "" if symbol == "Tb.Sp" else ", lacunae and canals filled"
    note = noted(scale, _thin(mean))
    return [
        row(symbol, f"{name}, mean", mean * scale.edge, scale.unit(1), method, note),
        row(f"{symbol}.SD", f"{name}, spread", spread * scale.edge, scale.unit(1), method, note),
    ]


def _thin(mean: float) -> str:
    return f"warning: {mean:.2g} voxels on average, fewer than {THIN:g}: poorly resolved" if mean < THIN else ""
