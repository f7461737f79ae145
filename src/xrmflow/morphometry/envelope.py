"""The periosteal envelope: everything inside the outer surface of a bone."""

import cc3d
import edt
import numpy as np
from scipy import ndimage


def main_bone(bone: np.ndarray, least_part: float) -> np.ndarray:
    """The largest component of a mask (26-connected), with those of at least the fraction `least_part` of it: bool."""
    components, count = cc3d.connected_components(bone, connectivity=26, return_N=True)
    if count == 0:
        return np.zeros(bone.shape, bool)
    sizes = cc3d.statistics(components)["voxel_counts"].astype(np.int64)
    sizes[0] = 0
    return (sizes >= least_part * sizes.max())[components]


def periosteal_envelope(bone: np.ndarray, *, closing_voxels: float, least_part: float) -> np.ndarray:
    """Region inside the periosteal surface, slice by slice: cortex, trabeculae, marrow and pores.

    Each slice of the bone is dilated by a disc, its holes are filled, and it is eroded by the same disc (as Buie 2007
    does): gaps in the cortex narrower than the disc do not open the marrow to the outside.

    Args:
        bone: (z, y, x) bool.
        closing_voxels: radius of the disc.
        least_part: parts with less than this fraction of the largest part's voxels are left out.
    """
    main = main_bone(bone, least_part)
    return np.stack([_closed(section, closing_voxels) for section in main]) | main


def _closed(section: np.ndarray, radius: float) -> np.ndarray:
    """Dilate, fill, erode; the slice is padded so that the disc is not cut off."""
    if not section.any():
        return section
    pad = int(np.ceil(radius)) + 1
    padded = np.pad(section, pad)
    wide = ndimage.binary_fill_holes(edt.edt(~padded) <= radius)
    return (edt.edt(wide) > radius)[pad:-pad, pad:-pad]


def cortex_of(marrow: np.ndarray, envelope: np.ndarray, *, trabecula_voxels: float) -> np.ndarray:
    """The cortex with its pores: bool, what is left of the envelope when marrow has swallowed all thinner bone inside.

    The marrow is closed by a ball (dilated and eroded): bone between marrow and marrow that is thinner than
    `trabecula_voxels` goes to the medullary cavity, and so do islands of bone that do not reach the outside. The wall
    to the outside stays, however thin.

    Args:
        marrow: (z, y, x) bool.
        envelope: (z, y, x) bool, inside of the periosteal surface.
        trabecula_voxels: diameter of the ball.
    """
    if not marrow.any():
        return envelope.copy()
    radius = trabecula_voxels / 2
    closed = edt.edt(edt.edt(~marrow) <= radius) > radius
    parts = cc3d.connected_components(envelope & ~(closed | marrow), connectivity=6)
    padded = np.pad(~envelope, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    beside = padded[:, :-2, 1:-1] | padded[:, 2:, 1:-1] | padded[:, 1:-1, :-2] | padded[:, 1:-1, 2:]
    outer = np.zeros(int(parts.max()) + 1, bool)
    outer[parts[beside]] = True
    outer[0] = False
    return outer[parts]


def keep_slices(shape: tuple[int, int, int], start: int, stop: int) -> np.ndarray:
    """Mask of the slices start <= z < stop; raises ValueError when they are not in the volume."""
    if not 0 <= start < stop <= shape[0]:
        raise ValueError(f"slices: expected 0 <= start < stop <= {shape[0]}, got start {start}, stop {stop}")
    kept = np.zeros(shape, bool)
    kept[start:stop] = True
    return kept
