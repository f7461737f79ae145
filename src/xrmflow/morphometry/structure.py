"""Thickness and separation, of all bone and, told apart, of its cortex and trabeculae."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from xrmflow.arrays import InMemory
from xrmflow.metrics.labels import BONE, CANAL, LACUNA, MARROW, OUTSIDE
from xrmflow.morphometry.components import Mask
from xrmflow.morphometry.envelope import cortex_of
from xrmflow.morphometry.rows import Row, noted, row, uncalibrated
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.segmented import Options, Segmented
from xrmflow.morphometry.slabs import Workspace, summed
from xrmflow.morphometry.thickness import ThicknessMap, thickness_map

FILLED = (BONE, LACUNA, CANAL)
Phase = Literal["bone", "marrow"]
PHASES: dict[Phase, tuple[int, ...]] = {"bone": FILLED, "marrow": (MARROW,)}
"""Those whose thickness is measured, each by itself, and the labels they have."""
Regions = dict[str, tuple[float, float]]
"""Mean and standard deviation of a phase's local thickness, voxels (NaN without any): in the volume of interest ("all")
and, where the cortex is told apart, in it ("cortex") and inside ("medulla")."""
THIN = 3.0
"""Voxels: structures thinner than this are resolved too poorly to be measured."""


def thickness_of(data: Segmented, options: Options, phase: Phase) -> Regions:
    """Thickness of one phase, the piece of `structure_rows` that takes long: it may be done elsewhere."""
    return _regions(data, options, _cortex(data, options), phase)


def structure_rows(
    data: Segmented, options: Options, reason: str, known: Mapping[Phase, Regions] | None = None
) -> list[Row]:
    """Thickness and separation, computed with all context and sampled in the volume of interest.

    Args:
        data: volume and labels.
        options: what to measure.
        reason: why there are no three dimensions to measure in; empty when there are.
        known: what `thickness_of` found of each phase, where it was asked before.
    """
    reason = reason or ("" if options.thickness else "skipped: switched off in the settings")
    if reason:
        unit, note = data.scale.unit(1), noted(data.scale, reason)
        return [
            row("Tb.Th", "thickness of bone", None, unit, "", note),
            row("Tb.Sp", "separation of bone", None, unit, "", note),
        ]
    cortex = _cortex(data, options)
    regions = known or _all_regions(data, options, cortex)
    blur = _blur(data, options)
    bone, marrow = (
        {name: Distribution(*found, data.scale, blur) for name, found in regions[phase].items()} for phase in PHASES
    )
    rows = [*bone["all"].rows("Tb.Th", "thickness of bone"), *marrow["all"].rows("Tb.Sp", "separation of bone")]
    if cortex is not None:
        rows += cortical_rows(data, cortex, bone) + trabecular_rows(data, cortex, bone, marrow)
    return rows


@dataclass(frozen=True)
class Distribution:
    """Local thickness over some voxels of a phase (volume-weighted).

    Attributes:
        mean, spread: voxels; NaN without any.
        scale: voxel size.
        blur: that surfaces were corrected for, voxels.
    """

    mean: float
    spread: float
    scale: Scale
    blur: float

    def rows(self, symbol: str, name: str) -> list[Row]:
        """Mean and standard deviation."""
        method = "largest balls (Hildebrand 1997), surface from grey values"
        method += f", corrected for a blur of {self.blur:.2f} voxels" if self.blur else ""
        method += "" if symbol == "Tb.Sp" else ", lacunae and canals filled"
        unit, note = self.scale.unit(1), noted(self.scale, _thin(self.mean))
        return [
            row(symbol, f"{name}, mean", self.mean * self.scale.edge, unit, method, note),
            row(f"{symbol}.SD", f"{name}, spread", self.spread * self.scale.edge, unit, method, note),
        ]


def _all_regions(data: Segmented, options: Options, cortex: np.ndarray | None) -> dict[Phase, Regions]:
    """Thickness of each phase."""
    with ThreadPoolExecutor(len(PHASES)) as pool:
        # The kernels release the interpreter: the two phases take two cores, where there is memory for both.
        run = pool.map if isinstance(data.work.scratch, InMemory) else map
        return dict(zip(PHASES, run(partial(_regions, data, options, cortex), PHASES), strict=True))


def _regions(data: Segmented, options: Options, cortex: np.ndarray | None, phase: Phase) -> Regions:
    mask, blur = partial(data.phase, PHASES[phase]), _blur(data, options)
    found = thickness_map(data.smoothed, mask, data.grey("threshold"), blur_voxels=blur, work=data.work)
    regions: dict[str, Mask] = {"all": data.inside}
    if cortex is not None:
        regions["cortex"] = lambda z: cortex[z] & data.inside(z)
        regions["medulla"] = lambda z: ~cortex[z] & data.inside(z)
    return {name: _mean_and_spread(found, region, data.work) for name, region in regions.items()}


def _blur(data: Segmented, options: Options) -> float:
    """What surfaces are corrected for, voxels."""
    return data.record["edge_blur_voxels"] if options.correct_blur else 0.0


def _mean_and_spread(local: ThicknessMap | None, region: Mask, work: Workspace) -> tuple[float, float]:
    """Mean and standard deviation of a local thickness over a region, voxels."""
    if local is None:
        return np.nan, np.nan

    def parts(centre: float, power: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for slab in work.slabs(local.values.shape):
            values = local.values[slab.core]
            z = slice(local.box[0].start + slab.core.start, local.box[0].start + slab.core.stop)
            known = region(z)[:, local.box[1], local.box[2]] & np.isfinite(values) & (values > 0)
            yield np.where(known, values.astype(np.float64) - centre, 0.0) ** power, known

    total, count = summed(parts(0.0, 1))
    if not count:
        return np.nan, np.nan
    mean = total / count
    return mean, float(np.sqrt(summed(parts(mean, 2))[0] / count))


def _cortex(data: Segmented, options: Options) -> np.ndarray | None:
    """Where the cortex is, (z, y, x) bool; None where it is not told apart."""
    width = data.scale.voxels(options.trabecula_um or 0, options.trabecula_voxels or 0)
    if not width:
        return None
    marrow, everything = partial(data.phase, (MARROW,)), partial(data.phase, (MARROW, *FILLED))
    return cortex_of(marrow, everything, data.context.shape, trabecula_voxels=width, work=data.work)


def _count(data: Segmented, mask: Mask) -> int:
    return sum(int(np.count_nonzero(mask(slab.core))) for slab in data.work.slabs(data.labels.shape))


def cortical_rows(data: Segmented, cortex: np.ndarray, local: dict[str, Distribution]) -> list[Row]:
    """Areas, thickness and porosity of the cortex."""
    scale = data.scale
    wall = _count(data, lambda z: cortex[z] & data.inside(z))
    pores = _count(data, lambda z: cortex[z] & data.within((LACUNA, CANAL), z))
    bone = _count(data, lambda z: cortex[z] & data.within((BONE,), z))
    slices = np.count_nonzero(data.counts[:, OUTSIDE + 1 :].any(axis=1))
    total, area = (voxels * scale.edge**2 / slices for voxels in (data.total, bone))
    method, note = "mean of slices, voxel count", uncalibrated(scale)
    rows = [
        row("Tt.Ar", "total cross-sectional area", total, scale.unit(2), method, note),
        row("Ct.Ar", "cortical bone area", area, scale.unit(2), method, note),
        row("Ct.Ar/Tt.Ar", "cortical area fraction", area / total, "1", method, note),
        row(
            "Ct.Po", "cortical porosity", pores / max(wall, 1), "1", "lacunae and canals over cortex, voxel count", note
        ),
        *local["cortex"].rows("Ct.Th", "cortical thickness"),
    ]
    return [{"compartment": "cortical"} | one for one in rows]


def trabecular_rows(
    data: Segmented, cortex: np.ndarray, bone: dict[str, Distribution], marrow: dict[str, Distribution]
) -> list[Row]:
    """Bone fraction, thickness and separation inside the cortex."""
    scale, note = data.scale, uncalibrated(data.scale)
    total = _count(data, lambda z: ~cortex[z] & data.inside(z))
    count = _count(data, lambda z: ~cortex[z] & data.within((BONE,), z))
    rows = [
        row("TV", "medullary volume", total * scale.edge**3, scale.unit(3), "voxel count", note),
        row("BV/TV", "trabecular bone volume fraction", count / total if total else None, "1", "voxel count", note),
        *bone["medulla"].rows("Tb.Th", "trabecular thickness"),
        *marrow["medulla"].rows("Tb.Sp", "trabecular separation"),
    ]
    return [{"compartment": "trabecular"} | one for one in rows]


def _thin(mean: float) -> str:
    return f"warning: {mean:.2g} voxels on average, fewer than {THIN:g}: poorly resolved" if mean < THIN else ""
