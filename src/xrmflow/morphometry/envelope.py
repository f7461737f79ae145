"""The periosteal envelope: everything inside the outer surface of a bone."""

import cc3d
import edt
import numpy as np
from scipy import ndimage

LEAST_PART = 0.1
"""A component smaller than this fraction of the largest is another object, or noise."""


def main_bone(bone: np.ndarray) -> np.ndarray:
    """The largest component of a mask (26-connected), with those that hold at least a tenth of its voxels: bool."""
    components, count = cc3d.connected_components(bone, connectivity=26, return_N=True)
    if count == 0:
        return np.zeros(bone.shape, bool)
    sizes = cc3d.statistics(components)["voxel_counts"].astype(np.int64)
    sizes[0] = 0
    return (sizes >= LEAST_PART * sizes.max())[components]


def periosteal_envelope(bone: np.ndarray, *, closing_voxels: float) -> np.ndarray:
    """Region inside the periosteal surface, slice by slice: cortex, trabeculae, marrow and pores.

    Each slice of the bone is dilated by a disc, its holes are filled, and it is eroded by the same disc (as Buie 2007
    does): gaps in the cortex narrower than the disc do not open the marrow to the outside.

    Args:
        bone: (z, y, x) bool.
        closing_voxels: radius of the disc.
    """
    main = main_bone(bone)
    return np.stack([_closed(section, closing_voxels) for section in main]) | main


def _closed(section: np.ndarray, radius: float) -> np.ndarray:
    """Dilate, fill, erode; the slice is padded so that the disc is not cut off."""
    if not section.any():
        return section
    pad = int(np.ceil(radius)) + 1
    padded = np.pad(section, pad)
    wide = ndimage.binary_fill_holes(edt.edt(~padded) <= radius)
    return (edt.edt(wide) > radius)[pad:-pad, pad:-pad]


def keep_slices(shape: tuple[int, int, int], start: int, stop: int) -> np.ndarray:
    """Mask of the slices start <= z < stop; raises ValueError when they are not in the volume."""
    if not 0 <= start < stop <= shape[0]:
        raise ValueError(f"slices: expected 0 <= start < stop <= {shape[0]}, got start {start}, stop {stop}")
    kept = np.zeros(shape, bool)
    kept[start:stop] = True
    return kept
