"""Masks made smaller and larger by whole voxels."""

import numpy as np


def eroded(mask: np.ndarray, voxels: int) -> np.ndarray:
    """What lies more than `voxels` face steps inside a mask; the ends of the volume do not count as its edge."""
    for _ in range(voxels):
        inner = mask.copy()
        for to, source in _face_steps(mask.ndim):
            inner[to] &= mask[source]
        mask = inner
    return mask


def dilated(mask: np.ndarray, voxels: int) -> np.ndarray:
    """What lies within `voxels` face steps of a mask."""
    for _ in range(voxels):
        wider = mask.copy()
        for to, source in _face_steps(mask.ndim):
            wider[to] |= mask[source]
        mask = wider
    return mask


def beside_in_slice(mask: np.ndarray) -> np.ndarray:
    """What has a face neighbour in its slice that is in a mask or outside the volume: (z, y, x) bool."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    return padded[:, :-2, 1:-1] | padded[:, 2:, 1:-1] | padded[:, 1:-1, :-2] | padded[:, 1:-1, 2:]


def _face_steps(axes: int) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """For each face of a voxel: where to look from, and at what."""
    steps = []
    for axis in range(axes):
        ahead, behind = [slice(None)] * axes, [slice(None)] * axes
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        steps += [(tuple(ahead), tuple(behind)), (tuple(behind), tuple(ahead))]
    return steps
