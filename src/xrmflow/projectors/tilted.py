"""Kernels for detectors in any orientation (rolled, tilted, slanted) where the processor has AVX-512, for float32.

A voxel moving along z is seen moving along the detector in perspective: column (c + k cz) / (w + k wz), row
(r + k rz) / (w + k wz). Sixteen steps at a time touch few columns (two, and one more for each that is crossed), so that
each of them is read with permutes and weighted lane by lane: nothing is resampled, the result is that of
`xrmflow.projectors.pixelwise`, which also does what does not fit. Layouts and margins are those of
`xrmflow.projectors.columns`.
"""

import numpy as np
from numba import njit

from xrmflow.projectors.columns import MARGIN
from xrmflow.projectors.pixelwise import _read, _seen
from xrmflow.projectors.resample import BLOCK, FAST, MIN_LENGTH, PERMUTE, TILE, add_bent


def can(data: np.ndarray) -> bool:
    """Whether data of this type can be transformed here."""
    return PERMUTE and data.dtype == np.float32


@njit(nogil=True, cache=True, inline="always")
def _all_seen(c, cz, r, rz, w, wz, cols, rows, nz):
    """`_seen`, without its divisions where both ends are seen: so is then what lies between them."""
    n = nz - 1.0
    a, b, d = c + n * cz, r + n * rz, w + n * wz
    if w > 0 and d > 0 and -w < c < cols * w and -d < a < cols * d and -w < r < rows * w and -d < b < rows * d:
        return 0, nz
    return _seen(c, cz, r, rz, w, wz, cols, rows, nz)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def backproject(columns, matrices, distances, volume, row_first, row_last):
    """Add to volume (y, x, z, unpadded) the samples of `columns` (padded) at each voxel's pixel, over U^2."""
    views, width, height = columns.shape
    cols, rows = width - 2 * MARGIN, height - 2 * MARGIN
    nx, nz = volume.shape[1], volume.shape[2]
    flat, out = columns.reshape(columns.size), volume.reshape(volume.size)
    data, to, permute = columns.ctypes.data, volume.ctypes.data, height >= MIN_LENGTH
    for tile in range(0, nx, TILE):
        for low in range(0, nz, BLOCK):
            size = min(BLOCK, nz - low)
            for view in range(views):
                m, view_at = matrices[view], view * width * height
                cz, rz, wz = m[0, 2], m[1, 2], m[2, 2]
                for j in range(row_first, row_last):
                    for i in range(tile, min(tile + TILE, nx)):
                        c = m[0, 0] * i + m[0, 1] * j + m[0, 2] * low + m[0, 3]
                        r = m[1, 0] * i + m[1, 1] * j + m[1, 2] * low + m[1, 3]
                        w = m[2, 0] * i + m[2, 1] * j + m[2, 2] * low + m[2, 3]
                        first, last = _all_seen(c, cz, r, rz, w, wz, cols, rows, size)
                        if first >= last:
                            continue
                        distance = distances[view, 0] * i + distances[view, 1] * j + distances[view, 2]
                        weight = np.float32(1.0 / distance**2)
                        at = (j * nx + i) * nz + low
                        if permute:
                            w_first = w + first * wz
                            first += add_bent(
                                to + 4 * (at + first),
                                last - first,
                                data + 4 * view_at,
                                height,
                                weight,
                                c + first * cz + MARGIN * w_first,
                                cz + MARGIN * wz,
                                r + first * rz + MARGIN * w_first,
                                rz + MARGIN * wz,
                                w_first,
                                wz,
                            )
                        for k in range(first, last):
                            out[at + k] += weight * _read(flat[view_at:], height, c + k * cz, r + k * rz, w + k * wz)
