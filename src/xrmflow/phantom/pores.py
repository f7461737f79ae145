"""Pores in the cortex: osteocyte lacunae, each a known ellipsoid, and vascular canals."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.phantom.shaft import Shaft, covered

ATTEMPTS_PER_LACUNA = 60


@dataclass(frozen=True)
class Lacuna:
    """An ellipsoidal lacuna.

    Attributes:
        centre_mm: (x, y, z), mm.
        axes: (3, 3) unit vectors in rows, of the shortest to the longest semi-axis.
        semi_axes_mm: (3,) ascending, mm.
    """

    centre_mm: np.ndarray
    axes: np.ndarray
    semi_axes_mm: np.ndarray

    @property
    def volume_mm3(self) -> float:
        """4/3 pi a b c, mm3."""
        return float(4 / 3 * np.pi * np.prod(self.semi_axes_mm))

    def reach_mm(self, direction: np.ndarray) -> float:
        """How far the ellipsoid extends from its centre along a unit vector, mm."""
        return float(np.linalg.norm(self.semi_axes_mm * (self.axes @ direction)))

    def depth_mm(self, points: np.ndarray) -> np.ndarray:
        """Approximate distance inwards from the surface at points (..., 3), mm; exact on the surface."""
        offset = (points - self.centre_mm) @ self.axes.T
        level = np.linalg.norm(offset / self.semi_axes_mm, axis=-1)
        slope = np.linalg.norm(offset / self.semi_axes_mm**2, axis=-1)
        return level * (1 - level) / np.maximum(slope, 1e-12)

    def to_dict(self) -> dict[str, Any]:
        """The record of the truth: millimetres for where, micrometres for how large."""
        return {
            "centroid_mm": self.centre_mm.tolist(),
            "volume_um3": self.volume_mm3 * 1e9,
            "semi_axes_um": (self.semi_axes_mm * 1e3).tolist(),
            "long_axis": self.axes[2].tolist(),
        }


@dataclass(frozen=True)
class Canal:
    """A vascular canal: a tube along a polyline.

    Attributes:
        path_mm: (n, 3) points, mm.
        radius_mm: mm.
    """

    path_mm: np.ndarray
    radius_mm: float

    def distance_mm(self, points: np.ndarray) -> np.ndarray:
        """Distance of points (..., 3) from the polyline, mm."""
        nearest = np.full(points.shape[:-1], np.inf)
        for a, b in zip(self.path_mm[:-1], self.path_mm[1:], strict=True):
            along = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            nearest = np.minimum(nearest, np.linalg.norm(points - a - along[..., None] * (b - a), axis=-1))
        return nearest


def random_canals(
    rng: np.random.Generator, shaft: Shaft, z_range_mm: tuple[float, float], radius_mm: float
) -> list[Canal]:
    """One canal along the bone in the middle of the cortex, and a thinner one from it into the marrow."""
    angle, sway = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.12)
    heights = np.linspace(*z_range_mm, 25)
    swaying = angle + sway * np.sin(2 * np.pi * (heights - heights[0]) / np.ptp(heights) * 0.7)
    main = np.array([shaft.point_mm(a, 0.5, z) for a, z in zip(swaying, heights, strict=True)])
    start = main[rng.integers(10, 15)]
    turned = np.arctan2(start[1], start[0]) + rng.uniform(-0.15, 0.15)
    end = shaft.point_mm(turned, 1.4, start[2] + rng.uniform(-1, 1) * radius_mm)
    return [Canal(main, radius_mm), Canal(np.array([start, end]), 0.7 * radius_mm)]


def random_lacunae(
    rng: np.random.Generator,
    shaft: Shaft,
    canals: list[Canal],
    *,
    count: int,
    z_range_mm: tuple[float, float],
    semi_axes_mm: tuple[float, float, float],
    variation: float,
    clearance_mm: float,
) -> list[Lacuna]:
    """Place ellipsoids in the cortex that touch neither each other, nor a wall, nor a canal.

    The long axis lies along the bone within some 20 degrees, the short axis points roughly outwards, as lamellae lie.

    Args:
        rng: where they come from.
        shaft: whose cortex they lie in.
        canals: to keep clear of.
        count: how many to try to place; fewer when the cortex is full.
        z_range_mm: heights of their centres, mm.
        semi_axes_mm: typical semi-axes, ascending, mm.
        variation: relative spread of the size.
        clearance_mm: bone left between a lacuna and anything else, mm.
    """
    placed: list[Lacuna] = []
    centres = np.empty((count, 3))
    for _ in range(count * ATTEMPTS_PER_LACUNA):
        if len(placed) == count:
            break
        lacuna = _candidate(rng, shaft, z_range_mm, np.asarray(semi_axes_mm), variation)
        near = _near(lacuna, placed, centres[: len(placed)])
        if _fits(lacuna, shaft, canals, near, clearance_mm):
            centres[len(placed)] = lacuna.centre_mm
            placed.append(lacuna)
    return placed


def stamp(depth_mm: Any, box: tuple[slice, slice, slice], grid: VolumeGrid) -> np.ndarray:
    """Share of each voxel of a box of the grid inside a surface given by its depth function, (z, y, x)."""
    axes = [grid.first_voxel_mm[2 - axis] + grid.voxel_mm * np.arange(s.start, s.stop) for axis, s in enumerate(box)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return covered(depth_mm(np.stack([x, y, z], axis=-1)), grid.voxel_mm).astype(np.float32)


def box_around(lower_mm: np.ndarray, upper_mm: np.ndarray, grid: VolumeGrid) -> tuple[slice, slice, slice] | None:
    """The voxels (z, y, x) that a region between two corners (x, y, z) may touch; None when it misses the grid."""
    first = np.asarray(grid.first_voxel_mm)
    low = np.floor((lower_mm - first) / grid.voxel_mm).astype(int)[::-1]
    high = np.ceil((upper_mm - first) / grid.voxel_mm).astype(int)[::-1] + 1
    box = tuple(slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, grid.shape, strict=True))
    return None if any(s.start >= s.stop for s in box) else box  # type: ignore[return-value]


def _candidate(
    rng: np.random.Generator, shaft: Shaft, z_range_mm: tuple[float, float], semi_axes_mm: np.ndarray, variation: float
) -> Lacuna:
    angle, z = rng.uniform(0, 2 * np.pi), rng.uniform(*z_range_mm)
    centre = shaft.point_mm(angle, rng.uniform(0.1, 0.9), z)
    outward = np.array([np.cos(angle), np.sin(angle), 0.0])
    long = np.array([0.0, 0.0, 1.0]) + rng.normal(0, 0.35, 3) * [1, 1, 0]
    long /= np.linalg.norm(long)
    short = outward + 0.3 * rng.normal(size=3)
    short -= (short @ long) * long
    short /= np.linalg.norm(short)
    # The shortest semi-axis only grows, so that each lacuna keeps the resolution that was asked for.
    scale = 1 + variation * np.array([abs(rng.normal()), rng.normal(), rng.normal()]).clip(-2, 2)
    return Lacuna(centre, np.array([short, np.cross(long, short), long]), np.sort(semi_axes_mm * scale))


def _near(lacuna: Lacuna, placed: list[Lacuna], centres: np.ndarray) -> list[Lacuna]:
    """Those placed within four long semi-axes."""
    distance = np.linalg.norm(centres - lacuna.centre_mm, axis=1)
    return [placed[i] for i in np.flatnonzero(distance < 4 * lacuna.semi_axes_mm[2])]


def _fits(lacuna: Lacuna, shaft: Shaft, canals: list[Canal], near: list[Lacuna], clearance_mm: float) -> bool:
    x, y, z = lacuna.centre_mm
    angle = float(np.arctan2(y, x))
    outer, inner = shaft.walls_at_mm(angle, z)
    reach = lacuna.reach_mm(np.array([np.cos(angle), np.sin(angle), 0.0])) + clearance_mm
    if not inner + reach < np.hypot(x, y) < outer - reach:
        return False
    if any(c.distance_mm(lacuna.centre_mm) < c.radius_mm + lacuna.semi_axes_mm[2] + clearance_mm for c in canals):
        return False
    return all(_apart(lacuna, other, clearance_mm) for other in near)


def _apart(a: Lacuna, b: Lacuna, clearance_mm: float) -> bool:
    """Whether the slabs perpendicular to the line of centres that hold the two ellipsoids are clear of each other."""
    line = b.centre_mm - a.centre_mm
    distance = float(np.linalg.norm(line))
    direction = line / max(distance, 1e-12)
    return distance > a.reach_mm(direction) + b.reach_mm(direction) + clearance_mm
