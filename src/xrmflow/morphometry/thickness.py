"""Local thickness (Hildebrand and Ruegsegger 1997) with the surface located inside the voxels.

The local thickness of a point is the diameter of the largest ball that contains it and fits into the phase. Done on a
mask it is wrong by half a voxel or more in a way that depends on shape and on odd or even thickness. Here

1. the surface is tiled with discs found in the grey values (`surface.py`);
2. each voxel is given its distance to the nearest disc (a vector distance transform by raster sweeps);
3. where two neighbouring voxels lean on opposite parts of the surface, the medial axis runs between them: the centre
   and the radius of the medial ball follow from the two tangent planes, between the lattice points;
4. every ball is painted exactly onto the voxel centres it contains, the largest radius wins.

T. Hildebrand, P. Ruegsegger, "A new method for the model-independent assessment of thickness in three-dimensional
images", J. Microscopy 185 (1997) 67-75.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from xrmflow.morphometry.components import Mask
from xrmflow.morphometry.slabs import WHOLE, Workspace
from xrmflow.morphometry.surface import Surface, find_surface

DISC_RADIUS = 0.5
"""Voxels: the discs stand one lattice edge apart."""
MAX_COSINE = 0.5
"""Neighbours whose directions to the surface differ by less than 60 degrees lie on one side of the medial axis."""
MAX_SWEEPS = 50
GAIN = 1e-3
"""Voxels: a disc must be nearer by this to take over."""
SKIN = 1.0
"""Voxels: so far behind a disc noise may put a voxel of the domain; farther behind, the disc is another wall's."""
NEAR = 1.5
"""Voxels: this close to a disc its normal, not the direction from its rim, tells which way the surface lies."""
TOLERANCE = 0.5
"""Voxels: a ball also paints the skin between itself and the surface it should touch, where noise made it too small."""
SPACING = 6.0
"""Radii: centres of balls need not be closer than this part of them."""
FAR = np.float32(1e30)


@dataclass(frozen=True)
class ThicknessMap:
    """Local thickness in the part of a volume that holds the phase.

    Attributes:
        box: where that part lies.
        values: (z, y, x) float32 of it, voxels; 0 outside the phase, infinite where the phase has no surface at all.
    """

    box: tuple[slice, slice, slice]
    values: np.ndarray


def local_thickness(grey: np.ndarray, domain: np.ndarray, level: float, *, blur_voxels: float = 0.0) -> np.ndarray:
    """Local thickness of `domain`, in voxels: the diameter of the largest inscribed ball that covers each voxel.

    Compute it with all the context there is and sample the region of interest afterwards: the end of the array counts
    as unknown (the phase goes on), the edge of a region must not count as a surface.

    Args:
        grey: (z, y, x) float32, smoothed volume.
        domain: (z, y, x) bool, the phase.
        level: threshold between the phases, in the units of `grey`.
        blur_voxels: standard deviation of the blur in `grey`, to correct curved surfaces for; 0 for none.

    Returns:
        (z, y, x) float32, thickness in voxels, 0 outside the domain; infinite where the phase has no surface at all.
    """
    thickness = np.zeros(domain.shape, np.float32)
    found = thickness_map(grey, lambda z: domain[z], level, blur_voxels=blur_voxels)
    if found is not None:
        thickness[found.box] = found.values
    return thickness


def thickness_map(
    grey: np.ndarray, phase: Mask, level: float, *, blur_voxels: float = 0.0, work: Workspace = WHOLE
) -> ThicknessMap | None:
    """The same of a volume that may be larger than memory; None where there is nothing of the phase.

    Args:
        grey, level, blur_voxels: as for `local_thickness`.
        phase: gives slices of the domain.
        work: how much to look at at a time; the thickness does not depend on it.
    """
    box = _box(phase, grey.shape, work)
    if box is None:
        return None
    grey, domain = _cropped(grey, phase, box, work)
    surface = find_surface(grey, domain, level, blur_voxels=blur_voxels, work=work)
    del grey
    distance, owner = distance_to(surface, domain, work=work)
    balls = _ball_pieces(distance, owner, surface, domain, work)
    del surface, owner
    radius = paint(balls, distance, work=work)
    _cover(radius, distance, domain, work)
    for slab in work.slabs(radius.shape):
        radius[slab.core] *= 2
    return ThicknessMap(box, radius)


def _box(phase: Mask, shape: tuple[int, ...], work: Workspace) -> tuple[slice, slice, slice] | None:
    """The smallest box that holds the domain and the voxels around it."""
    held = [np.zeros(size, bool) for size in shape]
    for slab in work.slabs(shape):
        here = phase(slab.core)
        held[0][slab.core] = here.any(axis=(1, 2))
        held[1] |= here.any(axis=(0, 2))
        held[2] |= here.any(axis=(0, 1))
    if not held[0].any():
        return None
    places = (np.flatnonzero(one) for one in held)
    z, y, x = (slice(max(int(p[0]) - 2, 0), min(int(p[-1]) + 3, n)) for p, n in zip(places, shape, strict=True))
    return z, y, x


def _cropped(
    grey: np.ndarray, phase: Mask, box: tuple[slice, slice, slice], work: Workspace
) -> tuple[np.ndarray, np.ndarray]:
    """Grey and domain in a box."""
    shape = tuple(part.stop - part.start for part in box)
    crop, domain = work.array(shape, np.float32), work.array(shape, np.bool_)
    for slab in work.slabs(shape):
        z = slice(box[0].start + slab.core.start, box[0].start + slab.core.stop)
        crop[slab.core], domain[slab.core] = grey[z][:, box[1], box[2]], phase(z)[:, box[1], box[2]]
    return crop, domain


def distance_to(surface: Surface, domain: np.ndarray, *, work: Workspace = WHOLE) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each voxel of the domain to the nearest disc, and which disc that is.

    Returns:
        distance: (z, y, x) float32, voxels; 0 outside the domain, `FAR` where there is no surface.
        owner: (z, y, x) int32, index of the disc, -1 for none.
    """
    distance, owner = work.array(domain.shape, np.float32), work.array(domain.shape, np.int32)
    for slab in work.slabs(domain.shape):
        distance[slab.core] = np.where(domain[slab.core], FAR, np.float32(0))
        owner[slab.core] = -1
    for slab in work.slabs(domain.shape):
        discs = surface.starts[slab.core.start], surface.starts[slab.core.stop]
        _seed(distance, owner, surface.position, surface.normal, surface.voxel, *discs)
    changed = work.array(domain.shape, np.uint8)
    for slab in work.slabs(domain.shape):
        changed[slab.core] = owner[slab.core] >= 0
    _propagate(distance, owner, changed, surface, work)
    return distance, owner


def _propagate(distance: np.ndarray, owner: np.ndarray, changed: np.ndarray, surface: Surface, work: Workspace) -> None:
    """Sweep up and down until both ways change nothing."""
    quiet = 0
    news = np.ones((distance.shape[0] + 2, distance.shape[1] + 2), np.uint8)
    cores = work.cores(distance.shape)
    for now in range(1, MAX_SWEEPS):
        count = 0
        for z in cores if now % 2 else cores[::-1]:
            if news[z.start : z.stop + 2].max() + 1 >= now:
                count += _sweep(distance, owner, changed, news, now, surface.position, surface.normal, z.start, z.stop)
                work.scratch.release()
        quiet = quiet + 1 if count == 0 else 0
        if quiet == 2:
            break


def medial_balls(
    distance: np.ndarray, owner: np.ndarray, surface: Surface, domain: np.ndarray, slices: slice
) -> np.ndarray:
    """Balls on the medial axis of some slices, (ball, 4) float32 rows of (z, y, x, radius), voxels.

    Each voxel contributes the largest of the balls found on the lattice edges to its neighbours, or, at a maximum of
    the distance, the ball around itself.
    """
    balls = np.empty((int(np.count_nonzero(domain[slices])), 4), np.float32)
    found = _medial(distance, owner, domain, surface.position, surface.normal, balls, slices.start, slices.stop)
    return balls[:found].copy()


def _ball_pieces(
    distance: np.ndarray, owner: np.ndarray, surface: Surface, domain: np.ndarray, work: Workspace
) -> list[np.ndarray]:
    """The thinned balls of the whole domain, in pieces.

    What shares a cell with balls of slices further up waits for them, so that thinning sees each cell as a whole.
    """
    pieces, waiting = [], np.empty((0, 4), np.float32)
    for slab in work.slabs(domain.shape):
        balls = thinned(np.concatenate([waiting, medial_balls(distance, owner, surface, domain, slab.core)]))
        edge = cell_edge(balls[:, 3])
        top = (np.floor(balls[:, 0] / edge) + 1) * edge
        whole = (edge == 1) | (top <= slab.core.stop)
        waiting = balls[~whole]
        pieces.append(work.array((int(np.count_nonzero(whole)), 4), np.float32))
        pieces[-1][:] = balls[whole]
    return [*pieces, waiting]


def paint(balls: Sequence[np.ndarray], distance: np.ndarray, *, work: Workspace = WHOLE) -> np.ndarray:
    """Largest radius among the balls that contain each voxel centre: (z, y, x) float32, voxels, 0 where none does.

    Args:
        balls: pieces of (ball, 4) float32, (z, y, x, radius).
        distance: (z, y, x) float32, to the surface; 0 outside the phase.
        work: how much to look at at a time.
    """
    radius = work.array(distance.shape, np.float32)
    reach = [_z_range(piece) for piece in balls]
    for slab in work.slabs(distance.shape):
        for piece, (low, high) in zip(balls, reach, strict=True):
            if low < slab.core.stop and high >= slab.core.start:
                _paint(piece, distance, radius, slab.core.start, slab.core.stop)
                work.scratch.release()
    return radius


def _z_range(balls: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest slice that some balls may reach."""
    if not len(balls):
        return np.inf, -np.inf
    far = balls[:, 3] + TOLERANCE
    return float((balls[:, 0] - far).min()), float((balls[:, 0] + far).max())


def _cover(radius: np.ndarray, distance: np.ndarray, domain: np.ndarray, work: Workspace) -> None:
    """Give voxels that lie between the surface and the discrete balls the largest radius among their neighbours."""
    cores = work.cores(radius.shape)
    while cores:
        cores = _cover_once(radius, domain, cores, work)
    for slab in work.slabs(radius.shape):
        z, y, x = np.nonzero(domain[slab.core] & (radius[slab.core] == 0))
        alone = distance[slab.core][z, y, x]
        radius[slab.core][z, y, x] = np.where(alone < FAR, alone, np.inf)


def _cover_once(radius: np.ndarray, domain: np.ndarray, cores: list[slice], work: Workspace) -> list[slice]:
    """One round; returns the slabs where there is more to do: none when nothing changed."""
    left, changed, held = [], False, None
    for z in cores:
        bare = np.argwhere(domain[z] & (radius[z] == 0))
        bare[:, 0] += z.start
        grown = _largest_beside(radius, bare)
        # The next slab looks at this one as it was before the round.
        if held is not None:
            radius[held[0]] = held[1]
        held = tuple(bare.T), grown
        changed = changed or bool(grown.any())
        if len(bare):
            left.append(z)
        work.scratch.release()
    if held is not None:
        radius[held[0]] = held[1]
    return left if changed else []


def cell_edge(radius: np.ndarray) -> np.ndarray:
    """Edge of the cells in which balls are thinned, voxels: a power of two, at most a sixth of the radius, or 1."""
    return np.exp2(np.floor(np.log2(np.maximum(radius / SPACING, 1)))).astype(np.int64)


def thinned(balls: np.ndarray) -> np.ndarray:
    """Of large balls whose centres share a small cell only the largest.

    The cell's edge is a power of two, at most a sixth of the radius: the union of the balls hardly changes, and what it
    costs to paint them no longer grows with the fifth power of their size.
    """
    edge = cell_edge(balls[:, 3])
    cells = np.column_stack([edge, (balls[:, :3] / edge[:, None]).astype(np.int64)])
    large = np.flatnonzero(edge > 1)
    order = large[np.argsort(-balls[large, 3], kind="stable")]
    _, first = np.unique(cells[order], axis=0, return_index=True)
    return balls[np.sort(np.concatenate([np.flatnonzero(edge == 1), order[first]]))]


@njit(cache=True, nogil=True)
def _largest_beside(radius, places):
    """Largest radius among the 26 neighbours of each place."""
    nz, ny, nx = radius.shape
    found = np.zeros(places.shape[0], np.float32)
    for n in range(places.shape[0]):
        z, y, x = places[n]
        for k in range(max(z - 1, 0), min(z + 2, nz)):
            for j in range(max(y - 1, 0), min(y + 2, ny)):
                for i in range(max(x - 1, 0), min(x + 2, nx)):
                    found[n] = max(found[n], radius[k, j, i])
    return found


@njit(cache=True)
def _lean(z, y, x, position, normal):
    """Distance from a point to a disc (`FAR` behind it) and the unit vector from the disc's nearest point to it."""
    rz, ry, rx = z - position[0], y - position[1], x - position[2]
    h = rz * normal[0] + ry * normal[1] + rx * normal[2]
    if h < -SKIN:
        return FAR, normal[0], normal[1], normal[2]
    lz, ly, lx = rz - h * normal[0], ry - h * normal[1], rx - h * normal[2]
    lateral = np.sqrt(lz * lz + ly * ly + lx * lx)
    if lateral <= DISC_RADIUS:
        return max(h, 0.0), normal[0], normal[1], normal[2]
    keep = (lateral - DISC_RADIUS) / lateral
    vz, vy, vx = h * normal[0] + keep * lz, h * normal[1] + keep * ly, h * normal[2] + keep * lx
    d = np.sqrt(vz * vz + vy * vy + vx * vx)
    if d < NEAR:
        return d, normal[0], normal[1], normal[2]
    return d, vz / d, vy / d, vx / d


@njit(cache=True, nogil=True)
def _seed(distance, owner, position, normal, voxel, start, stop):
    """Give each voxel beside some discs the nearest of its own."""
    _, ny, nx = distance.shape
    for k in range(start, stop):
        z, y, x = voxel[k] // (ny * nx), voxel[k] // nx % ny, voxel[k] % nx
        d = _lean(z, y, x, position[k], normal[k])[0]
        if d < distance[z, y, x]:
            distance[z, y, x] = d
            owner[z, y, x] = k


@njit(cache=True, nogil=True)
def _sweep(distance, owner, changed, news, now, position, normal, start, stop):
    """A forward (odd `now`) or backward raster sweep through some slices.

    Each voxel tries the discs of the 13 neighbours before it.

    Only what a neighbour learned in this sweep or the one before is news; `news` (z + 1, y + 1) says when a row last
    learned something, so that quiet rows are passed over. Returns the number of voxels that changed.
    """
    nz, ny, nx = distance.shape
    count = 0
    sense = 1 if now % 2 else -1
    for row in range(start * ny, stop * ny):
        line = row if sense > 0 else (start + stop) * ny - 1 - row
        z, y = line // ny, line % ny
        if news[z : z + 3, y : y + 3].max() + 1 < now:
            continue
        for step in range(nx):
            x = step if sense > 0 else nx - 1 - step
            if distance[z, y, x] <= 0:
                continue
            best, mine = distance[z, y, x], owner[z, y, x]
            for neighbour in range(13):
                k = z - sense * (1 - neighbour // 9)
                j = y - sense * (1 - neighbour // 3 % 3)
                i = x - sense * (1 - neighbour % 3)
                if k < 0 or j < 0 or i < 0 or k >= nz or j >= ny or i >= nx or changed[k, j, i] + 1 < now:
                    continue
                other = owner[k, j, i]
                if other < 0 or other == mine:
                    continue
                d = np.float32(_lean(z, y, x, position[other], normal[other])[0])
                if d < best - GAIN:
                    best, mine = d, other
            if mine != owner[z, y, x]:
                distance[z, y, x], owner[z, y, x], changed[z, y, x] = best, mine, now
                news[z + 1, y + 1] = now
                count += 1
    return count


@njit(cache=True, nogil=True)
def _medial(distance, owner, domain, position, normal, balls, start, stop):
    """Fill `balls` with those of some slices and return how many there are."""
    nz, ny, nx = distance.shape
    n = 0
    for z in range(start, stop):
        for y in range(ny):
            for x in range(nx):
                if not domain[z, y, x] or owner[z, y, x] < 0:
                    continue
                mine = owner[z, y, x]
                d, az, ay, ax = _lean(z, y, x, position[mine], normal[mine])
                best, peak, where = 0.0, True, (0.0, 0.0, 0.0)
                for dz in range(-1, 2):
                    for dy in range(-1, 2):
                        for dx in range(-1, 2):
                            k, j, i = z + dz, y + dy, x + dx
                            if k < 0 or j < 0 or i < 0 or k >= nz or j >= ny or i >= nx or owner[k, j, i] < 0:
                                continue
                            if distance[k, j, i] > d:
                                peak = False
                            if (dz, dy, dx) <= (0, 0, 0):
                                continue
                            other = owner[k, j, i]
                            e, bz, by, bx = _lean(k, j, i, position[other], normal[other])
                            if az * bz + ay * by + ax * bx > MAX_COSINE:
                                continue
                            a, b = az * dz + ay * dy + ax * dx, -(bz * dz + by * dy + bx * dx)
                            if a + b < 1e-3:
                                continue
                            s = min(max((e - d + b) / (a + b), 0.0), 1.0)
                            r = min(d + s * a, e + (1 - s) * b)
                            if r > best:
                                best, where = r, (s * dz, s * dy, s * dx)
                if best == 0.0 and peak:
                    best = d
                if best > 0.0:
                    balls[n] = (z + where[0], y + where[1], x + where[2], best)
                    n += 1
    return n


@njit(cache=True, nogil=True)
def _paint(balls, distance, radius, start, stop):
    """Largest radius wins, voxel by voxel, row by row of each ball, in some slices."""
    _, ny, nx = distance.shape
    for n in range(balls.shape[0]):
        cz, cy, cx, r = balls[n]
        far = r + TOLERANCE
        for z in range(max(int(np.ceil(cz - far)), start), min(int(np.floor(cz + far)), stop - 1) + 1):
            chord2 = far * far - (z - cz) ** 2
            chord = np.sqrt(max(chord2, 0.0))
            for y in range(max(int(np.ceil(cy - chord)), 0), min(int(np.floor(cy + chord)), ny - 1) + 1):
                rest2 = chord2 - (y - cy) ** 2
                half = np.sqrt(max(rest2, 0.0))
                for x in range(max(int(np.ceil(cx - half)), 0), min(int(np.floor(cx + half)), nx - 1) + 1):
                    if radius[z, y, x] >= r or distance[z, y, x] <= 0:
                        continue
                    reach = far - min(distance[z, y, x], TOLERANCE)
                    if (x - cx) ** 2 - rest2 <= reach * reach - far * far:
                        radius[z, y, x] = r
