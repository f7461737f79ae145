"""Where the surface between two phases lies, to a fraction of a voxel, from the grey values.

A mask knows its surface to half a voxel; the grey values on both sides of it know more. On each lattice edge that
leaves the domain the surface crosses where the grey, interpolated linearly, equals the threshold. Each crossing
becomes a small disc: a point on the surface with its normal.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from xrmflow.morphometry.slabs import WHOLE, Workspace

SMOOTHINGS = 2
REACH = 2
"""Voxels around a disc whose discs help to place it."""
SIGMA = 1.0
"""Voxels: standard deviation of their weights."""
SAME_SIDE = 0.5
"""Cosine between normals below which discs belong to different sides of a structure."""
LARGEST_SHIFT = 1.0
"""Voxels: what would move a disc further is noise; less than `REACH`, so that it stays in reach of its own cell."""


@dataclass(frozen=True)
class Surface:
    """Discs that tile a surface.

    Attributes:
        position: (disc, 3) float32, (z, y, x) of a point on the surface, voxels.
        normal: (disc, 3) float32, unit normal (z, y, x) pointing into the domain.
        voxel: (disc,) int64, flat index of the voxel of the domain beside the disc.
        starts: (slice + 1,) int64, index of the first disc of each slice; discs are in raster order.
    """

    position: np.ndarray
    normal: np.ndarray
    voxel: np.ndarray
    starts: np.ndarray


def find_surface(
    grey: np.ndarray, domain: np.ndarray, level: float, *, blur_voxels: float = 0.0, work: Workspace = WHOLE
) -> Surface:
    """Discs where the grey crosses `level` between a voxel of the domain and a voxel that is not.

    The end of the array is no surface: what lies beyond is unknown, not the other phase. Where the mask ends without a
    crossing of the grey (a filled hole, the edge of a region) the surface is put halfway.

    Noise is averaged along the surface, allowing for its curvature. Blur of standard deviation s moves a curved
    surface to its hollow side by s^2 H, H the mean curvature (half of the sum; s^2/R for a ball); `blur_voxels` moves
    it back.

    Args:
        grey: (z, y, x) float32, the smoothed volume the mask was thresholded from.
        domain: (z, y, x) bool, the phase whose surface is wanted.
        level: the threshold, in the units of `grey`.
        blur_voxels: standard deviation of all the blur in `grey`, voxels; 0 leaves the surface where it is seen.
        work: how much to look at at a time; the surface does not depend on it.
    """
    if grey.shape != domain.shape or grey.ndim != 3:
        raise ValueError(f"grey, domain: expected two volumes of one shape, got {grey.shape} and {domain.shape}")
    grey = np.ascontiguousarray(grey, dtype=np.float32)
    domain = np.ascontiguousarray(domain, dtype=np.bool_)
    starts = _starts(domain, work)
    count = int(starts[-1])
    position, normal = (work.array((count, 3), np.float32) for _ in range(2))
    voxel, first = work.array((count,), np.int64), work.array((domain.size + 1,), np.int32)
    first[-1] = count
    for slab in work.slabs(domain.shape):
        z = slab.core
        _fill(grey, domain, np.float32(level), position, normal, voxel, first, z.start, z.stop, starts[z.start])
    for n in range(SMOOTHINGS):
        moved, turned = (work.array((count, 3), np.float32) for _ in range(2))
        displaced = blur_voxels**2 if n == 0 else 0.0
        for slab in work.slabs(domain.shape):
            discs = starts[slab.core.start], starts[slab.core.stop]
            _smooth(position, normal, first, domain.shape, displaced, *discs, moved, turned)
        position, normal = moved, turned
    return Surface(position, normal, voxel, starts)


def _starts(domain: np.ndarray, work: Workspace) -> np.ndarray:
    """Index of the first disc of each slice, and the number of all: lattice edges with one end in the domain."""
    counts = np.zeros(domain.shape[0] + 1, np.int64)
    for slab in work.slabs(domain.shape):
        _count(domain, slab.core.start, slab.core.stop, counts)
    return np.cumsum(counts)


@njit(cache=True, nogil=True)
def _count(domain, start, stop, counts):
    nz, ny, nx = domain.shape
    for z in range(start, stop):
        for y in range(ny):
            for x in range(nx):
                here = domain[z, y, x]
                counts[z + 1] += (
                    int(z + 1 < nz and domain[min(z + 1, nz - 1), y, x] != here)
                    + int(y + 1 < ny and domain[z, min(y + 1, ny - 1), x] != here)
                    + int(x + 1 < nx and domain[z, y, min(x + 1, nx - 1)] != here)
                )


@njit(cache=True)
def _gradient(grey, z, y, x):
    """Gradient by the 3 x 3 x 3 Sobel operator with clamped edges (only its direction is used)."""
    nz, ny, nx = grey.shape
    gz = gy = gx = 0.0
    for k in range(-1, 2):
        for j in range(-1, 2):
            for i in range(-1, 2):
                value = grey[min(max(z + k, 0), nz - 1), min(max(y + j, 0), ny - 1), min(max(x + i, 0), nx - 1)]
                gz += k * (2 - abs(j)) * (2 - abs(i)) * value
                gy += j * (2 - abs(k)) * (2 - abs(i)) * value
                gx += i * (2 - abs(k)) * (2 - abs(j)) * value
    return gz, gy, gx


@njit(cache=True, nogil=True)
def _fill(grey, domain, level, position, normal, voxel, first, start, stop, n):
    """Write one disc a lattice edge that leaves the domain, in raster order, from disc `n` on."""
    nz, ny, nx = grey.shape
    for z in range(start, stop):
        for y in range(ny):
            for x in range(nx):
                first[(z * ny + y) * nx + x] = n
                for axis in range(3):
                    dz, dy, dx = int(axis == 0), int(axis == 1), int(axis == 2)
                    if (
                        z + dz >= nz
                        or y + dy >= ny
                        or x + dx >= nx
                        or domain[z, y, x] == domain[z + dz, y + dy, x + dx]
                    ):
                        continue
                    here, there = grey[z, y, x], grey[z + dz, y + dy, x + dx]
                    inward = -1.0 if domain[z, y, x] else 1.0
                    crosses = (here >= level) != (there >= level)
                    s = (here - level) / (here - there) if crosses else 0.5
                    position[n] = (z + s * dz, y + s * dy, x + s * dx)
                    normal[n] = (inward * dz, inward * dy, inward * dx)
                    if crosses:
                        _tilt(grey, z, y, x, axis, s, normal[n])
                    voxel[n] = ((z * ny + y) * nx + x) if domain[z, y, x] else (((z + dz) * ny + y + dy) * nx + x + dx)
                    n += 1


@njit(cache=True)
def _tilt(grey, z, y, x, axis, s, normal):
    """Turn the normal of a crossing from its lattice edge to the gradient interpolated between the edge's ends."""
    az, ay, ax = _gradient(grey, z, y, x)
    bz, by, bx = _gradient(grey, z + int(axis == 0), y + int(axis == 1), x + int(axis == 2))
    gz, gy, gx = az + s * (bz - az), ay + s * (by - ay), ax + s * (bx - ax)
    size = np.sqrt(gz * gz + gy * gy + gx * gx)
    along = (gz, gy, gx)[axis]
    rise = grey[z + int(axis == 0), y + int(axis == 1), x + int(axis == 2)] - grey[z, y, x]
    if along * rise <= 0:
        return
    sign = 1.0 if along * normal[axis] > 0 else -1.0
    normal[0], normal[1], normal[2] = sign * gz / size, sign * gy / size, sign * gx / size


@njit(cache=True, nogil=True)
def _smooth(position, normal, first, shape, displaced, start, stop, moved, turned):
    """Move each of some discs along its normal to where its neighbours say the surface is, and average the normals.

    Disc j, if both lie on one sphere, says that disc i is off by (p_j - p_i).(n_i + n_j) / (1 + n_i.n_j): no bias where
    the surface curves. Its mean curvature is -(n_j - n_i).(p_j - p_i) / |p_j - p_i|^2 on average.
    """
    nz, ny, nx = shape
    for i in range(start, stop):
        pz, py, px = position[i]
        az, ay, ax = normal[i]
        total = shift = sz = sy = sx = bend = spread = 0.0
        for z in range(max(int(pz) - REACH, 0), min(int(pz) + REACH + 1, nz)):
            for y in range(max(int(py) - REACH, 0), min(int(py) + REACH + 1, ny)):
                row = (z * ny + y) * nx
                for j in range(first[row + max(int(px) - REACH, 0)], first[row + min(int(px) + REACH + 1, nx)]):
                    bz, by, bx = normal[j]
                    cosine = az * bz + ay * by + ax * bx
                    if cosine < SAME_SIDE:
                        continue
                    dz, dy, dx = position[j, 0] - pz, position[j, 1] - py, position[j, 2] - px
                    weight = np.exp(-(dz * dz + dy * dy + dx * dx) / (2 * SIGMA * SIGMA))
                    total += weight
                    shift += weight * (dz * (az + bz) + dy * (ay + by) + dx * (ax + bx)) / (1 + cosine)
                    bend -= weight * (dz * (bz - az) + dy * (by - ay) + dx * (bx - ax))
                    spread += weight * (dz * dz + dy * dy + dx * dx)
                    sz, sy, sx = sz + weight * bz, sy + weight * by, sx + weight * bx
        shift /= total
        if spread > 0:
            shift -= displaced * bend / spread
        shift = min(max(shift, -LARGEST_SHIFT), LARGEST_SHIFT)
        size = np.sqrt(sz * sz + sy * sy + sx * sx)
        moved[i] = (pz + shift * az, py + shift * ay, px + shift * ax)
        turned[i] = (sz / size, sy / size, sx / size)
