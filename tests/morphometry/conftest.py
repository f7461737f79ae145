"""Shapes of known thickness and volume as grey volumes with partial voxels."""

from collections.abc import Callable

import numpy as np
import pytest

Depth = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def lattice(shape):
    """z, y, x of the voxel centres, 0 in the middle."""
    return np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")


def rendered(depth: Depth, shape, samples: int = 4) -> np.ndarray:
    """Share of each voxel with depth > 0 (a signed distance to the surface, voxels), float32."""
    z, y, x = lattice(shape)
    distance = depth(z, y, x)
    share = (distance > 0).astype(np.float32)
    edge = np.abs(distance) < 1
    offsets = (np.arange(samples) + 0.5) / samples - 0.5
    total = np.zeros(np.count_nonzero(edge), np.float32)
    for dz in offsets:
        for dy in offsets:
            for dx in offsets:
                total += depth(z[edge] + dz, y[edge] + dy, x[edge] + dx) > 0
    share[edge] = total / samples**3
    return share


def along(axis, centre):
    """(height along a unit axis, distance from it) of points."""
    n = np.asarray(axis, float) / np.linalg.norm(axis)

    def split(z, y, x):
        p = (z - centre[0], y - centre[1], x - centre[2])
        height = sum(a * b for a, b in zip(p, n, strict=True))
        return height, np.sqrt(np.maximum(sum(a * a for a in p) - height**2, 0))

    return split


def plate(thickness, axis=(1, 0, 0), centre=(0, 0, 0)) -> Depth:
    split = along(axis, centre)
    return lambda z, y, x: thickness / 2 - np.abs(split(z, y, x)[0])


def rod(thickness, axis=(1, 0, 0), centre=(0, 0, 0)) -> Depth:
    split = along(axis, centre)
    return lambda z, y, x: thickness / 2 - split(z, y, x)[1]


def tube(thickness, axis=(1, 0, 0), centre=(0, 0, 0), radius=10) -> Depth:
    split = along(axis, centre)
    return lambda z, y, x: thickness / 2 - np.abs(split(z, y, x)[1] - radius)


def ball(thickness, axis=(1, 0, 0), centre=(0, 0, 0)) -> Depth:
    del axis
    return lambda z, y, x: thickness / 2 - np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)


def ellipsoid(semi_axes, centre=(0, 0, 0), turn=None) -> Depth:
    """Not a distance, but zero at the surface with unit slope there on average; `turn` is a rotation matrix."""
    turn = np.eye(3) if turn is None else turn

    def depth(z, y, x):
        p = np.stack([z - centre[0], y - centre[1], x - centre[2]], axis=-1) @ turn
        r = np.sqrt(sum((p[..., k] / semi_axes[k]) ** 2 for k in range(3)))
        return (1 - r) * min(semi_axes)

    return depth


@pytest.fixture(scope="session")
def shapes():
    """The functions of this file, for test modules (which cannot import it by name)."""
    from types import SimpleNamespace

    return SimpleNamespace(**{f.__name__: f for f in (lattice, rendered, along, plate, rod, tube, ball, ellipsoid)})
