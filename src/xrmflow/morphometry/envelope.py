"""The periosteal envelope: everything inside the outer surface of a bone."""

from itertools import product

import edt
import numpy as np
from scipy import ndimage

from xrmflow.arrays import blocks
from xrmflow.morphometry.components import Mask, find_components
from xrmflow.morphometry.masks import beside_in_slice
from xrmflow.morphometry.slabs import WHOLE, Workspace

TILE = 128
"""Voxels: edge of the cubes in which the marrow is closed."""


def main_bone(bone: np.ndarray, least_part: float, *, work: Workspace = WHOLE) -> np.ndarray:
    """The largest component of a mask (26-connected), with those of at least the fraction `least_part` of it: bool."""
    parts = find_components(lambda z: bone[z], bone.shape, connectivity=26, work=work)
    sizes = parts.sizes.copy()
    sizes[0] = 0
    main, kept = work.array(bone.shape, np.bool_), (sizes >= least_part * sizes.max()) & (sizes > 0)
    for slab in work.slabs(bone.shape):
        main[slab.core] = parts.having(kept, slab.core)
    return main


def periosteal_envelope(
    bone: np.ndarray, *, closing_voxels: float, least_part: float, work: Workspace = WHOLE
) -> np.ndarray:
    """Region inside the periosteal surface, slice by slice: cortex, trabeculae, marrow and pores.

    Each slice of the bone is dilated by a disc, its holes are filled, and it is eroded by the same disc (as Buie 2007
    does): gaps in the cortex narrower than the disc do not open the marrow to the outside.

    Args:
        bone: (z, y, x) bool.
        closing_voxels: radius of the disc.
        least_part: parts with less than this fraction of the largest part's voxels are left out.
        work: how much to look at at a time.
    """
    envelope = main_bone(bone, least_part, work=work)
    for slab in work.slabs(bone.shape):
        for section in envelope[slab.core]:
            section |= _closed(section, closing_voxels)
    return envelope


def _closed(section: np.ndarray, radius: float) -> np.ndarray:
    """Dilate, fill, erode; the slice is padded so that the disc is not cut off."""
    if not section.any():
        return section
    pad = int(np.ceil(radius)) + 1
    padded = np.pad(section, pad)
    wide = ndimage.binary_fill_holes(edt.edt(~padded) <= radius)
    return (edt.edt(wide) > radius)[pad:-pad, pad:-pad]


def cortex_of(
    marrow: Mask, envelope: Mask, shape: tuple[int, ...], *, trabecula_voxels: float, work: Workspace = WHOLE
) -> np.ndarray:
    """The cortex with its pores: bool, what is left of the envelope when marrow has swallowed all thinner bone inside.

    The marrow is closed by a ball (dilated and eroded): bone between marrow and marrow that is thinner than
    `trabecula_voxels` goes to the medullary cavity, and so do islands of bone that do not reach the outside. The wall
    to the outside stays, however thin.

    Args:
        marrow: gives slices of it, (z, y, x) bool.
        envelope: gives slices of what is inside of the periosteal surface.
        shape: of the volume.
        trabecula_voxels: diameter of the ball.
        work: how much to look at at a time.
    """
    closed = _closed_by_ball(marrow, shape, trabecula_voxels / 2, work)
    parts = find_components(lambda z: envelope(z) & ~closed[z], shape, connectivity=6, work=work)
    outer = np.zeros(parts.sizes.size, bool)
    for slab in work.slabs(shape):
        outer[parts[slab.core][beside_in_slice(~envelope(slab.core))]] = True
    outer[0] = False
    for slab in work.slabs(shape):
        closed[slab.core] = parts.having(outer, slab.core)
    return closed


def _closed_by_ball(mask: Mask, shape: tuple[int, ...], radius: float, work: Workspace) -> np.ndarray:
    """A mask dilated and eroded by a ball, tile by tile: bool."""
    whole, closed = work.array(shape, np.bool_), work.array(shape, np.bool_)
    for slab in work.slabs(shape):
        whole[slab.core] = mask(slab.core)
    halo = 2 * (int(np.ceil(radius)) + 1)
    for tile in product(*(blocks(size, TILE) for size in shape)):
        around = tuple(slice(max(t.start - halo, 0), t.stop + halo) for t in tile)
        inner = tuple(slice(t.start - a.start, t.stop - a.start) for t, a in zip(tile, around, strict=True))
        here = whole[around]
        wide = edt.edt(~here) <= radius if here.any() else here
        closed[tile] = (edt.edt(wide) > radius)[inner] if not wide.all() else True
        closed[tile] |= whole[tile]
        work.scratch.release()
    return closed


def keep_slices(slices: int, start: int, stop: int) -> np.ndarray:
    """Which slices are start <= z < stop, (z,) bool; raises ValueError when they are not in the volume."""
    if not 0 <= start < stop <= slices:
        raise ValueError(f"slices: expected 0 <= start < stop <= {slices}, got start {start}, stop {stop}")
    kept = np.zeros(slices, bool)
    kept[start:stop] = True
    return kept
