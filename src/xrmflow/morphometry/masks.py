"""Masks made smaller and larger by whole voxels."""

import numpy as np
from scipy import ndimage


def eroded(mask: np.ndarray, voxels: int) -> np.ndarray:
    """What lies more than `voxels` face steps inside a mask; the ends of the volume do not count as its edge."""
    return np.asarray(ndimage.binary_erosion(mask, iterations=voxels, border_value=1)) if voxels else mask


def dilated(mask: np.ndarray, voxels: int) -> np.ndarray:
    """What lies within `voxels` face steps of a mask."""
    return np.asarray(ndimage.binary_dilation(mask, iterations=voxels)) if voxels else mask
