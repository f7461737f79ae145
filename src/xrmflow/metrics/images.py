"""How close an image or volume is to a reference: PSNR and SSIM.

Both take the data range explicitly. A range guessed from the noisy image would reward noise, and one guessed from each
reference would make figures of different scans incomparable.
"""

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

SIGMA_PX = 1.5
TRUNCATE = 3.5


def psnr(image: Any, reference: Any, *, data_range: float, mask: Any = None) -> float:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / mean (image - reference)^2), dB.

    Args:
        image: array of any shape, in some unit.
        reference: array of the same shape and unit.
        data_range: what counts as full scale, in the unit of the arrays.
        mask: boolean array; where given only its True voxels count.

    Returns:
        Decibels; infinity where both are equal.

    Raises:
        ValueError: shapes differ, the range is not positive, or the mask is empty.
    """
    image, reference, inside = _checked(image, reference, data_range, mask)
    error = np.square(image - reference)
    mean = float(error.mean() if inside is None else error[inside].mean())
    return float("inf") if mean == 0 else float(10 * np.log10(data_range**2 / mean))


def ssim(image: Any, reference: Any, *, data_range: float, mask: Any = None) -> float:
    """Mean structural similarity with the Gaussian window (sigma 1.5 px) of the original paper.

    Local means, variances and the covariance are Gaussian-weighted without the sample correction; constants are
    (0.01 range)^2 and (0.03 range)^2. Along each axis the outermost 5 voxels (where the window leaves the array) do not
    count. The number of axes of the window is that of the arrays.
    Source: Wang et al., IEEE TIP 13:600 (2004); equals scikit-image with `gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False`.

    Args:
        image: array of at least 11 voxels along each axis, in some unit.
        reference: array of the same shape and unit.
        data_range: what counts as full scale, in the unit of the arrays.
        mask: boolean array; where given only windows centred on its True voxels count.

    Returns:
        Between -1 and 1; 1 where both are equal.

    Raises:
        ValueError: shapes differ, an axis is shorter than the window, the range is not positive, or the mask is empty.
    """
    image, reference, inside = _checked(image, reference, data_range, mask)
    radius = int(TRUNCATE * SIGMA_PX + 0.5)
    if min(image.shape) <= 2 * radius:
        raise ValueError(f"image: expected at least {2 * radius + 1} voxels along each axis, got shape {image.shape}")
    core = tuple(slice(radius, -radius) for _ in image.shape)
    local = _similarity(image, reference, data_range)[core]
    if inside is None:
        return float(local.mean())
    if not inside[core].any():
        raise ValueError(f"mask: expected some True voxels {radius} or more from every face, got none")
    return float(local[inside[core]].mean())


def _similarity(image: np.ndarray, reference: np.ndarray, data_range: float) -> np.ndarray:
    """The SSIM of the window around each voxel."""

    def local(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, SIGMA_PX, truncate=TRUNCATE)

    mean_a, mean_b = local(image), local(reference)
    variance_a = local(image * image) - mean_a**2
    variance_b = local(reference * reference) - mean_b**2
    covariance = local(image * reference) - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)


def _checked(
    image: Any, reference: Any, data_range: float, mask: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The arguments as float64 (and boolean) arrays of one shape."""
    image, reference = np.asarray(image, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if image.shape != reference.shape or image.size == 0:
        raise ValueError(f"image: expected the shape of reference, {reference.shape}, not empty, got {image.shape}")
    if not (np.isfinite(data_range) and data_range > 0):
        raise ValueError(f"data_range: expected a positive number, got {data_range}")
    if mask is None:
        return image, reference, None
    inside = np.asarray(mask)
    if inside.dtype != bool or inside.shape != image.shape:
        raise ValueError(f"mask: expected booleans of shape {image.shape}, got {inside.dtype} of shape {inside.shape}")
    if not inside.any():
        raise ValueError("mask: expected some True voxels, got none")
    return image, reference, inside
