"""Dead and defective pixels: found in the flats and in the scan itself, filled from their neighbours."""

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

# Rows around a block that finding and filling defects look at.
ROWS_AROUND = 4
_WEIGHTS = torch.tensor([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]])


def defects_in_flat(beam: Tensor, *, tolerance: float) -> Tensor:
    """Pixels whose open-beam signal differs from the median of the 5 x 5 around it by more than a factor.

    Args:
        beam: (row, col) open-beam signal, grey levels.
        tolerance: relative difference allowed, in (0, 1); 0.5 marks signals below 1/2 or above 3/2 of the median.

    Returns:
        (row, col) bool; pixels without any signal or not finite are always marked.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: expected a fraction in (0, 1), got {tolerance}")
    signal = beam.detach()
    smooth = _median(torch.nan_to_num(signal), 5)
    return ~torch.isfinite(signal) | (signal <= 0) | ((signal - smooth).abs() > tolerance * smooth.abs())


def mean_step(transmitted: Tensor) -> Tensor:
    """Mean absolute step of each pixel from view to view, (row, col): what `defects_in_scan` compares."""
    values = transmitted.detach()
    return (values[1:] - values[:-1]).abs().mean(dim=0)


def usual_step(steps: Tensor) -> float:
    """The level of steps below which a pixel is too quiet to be judged: half of the upper quartile."""
    return 0.5 * float(np.quantile(torch.nan_to_num(steps).cpu().numpy(), 0.75))


def defects_in_scan(steps: Tensor, *, factor: float = 4.0, usual: float | None = None) -> Tensor:
    """Pixels that flicker or are stuck: their step from view to view is `factor` times off that of the pixels around.

    Args:
        steps: (row, col) from `mean_step`.
        factor: ratio of steps above which, or below the inverse of which, a pixel is defective.
        usual: from `usual_step`; quieter surroundings count as this level when looking for flicker, and are not
            searched for
            stuck pixels, so that the rim of a noise-free object is not taken for a defect.

    Returns:
        (row, col) bool.
    """
    if factor <= 1:
        raise ValueError(f"factor: expected more than 1, got {factor}")
    usual = usual_step(steps) if usual is None else usual
    around = _median(torch.nan_to_num(steps), 5)
    flicker = steps > factor * around.clamp_min(usual)
    stuck = (steps < around / factor) & (around >= usual)
    return ~torch.isfinite(steps) | flicker | stuck


def fill(images: Tensor, defects: Tensor) -> Tensor:
    """Fill marked pixels with the weighted mean of their good neighbours, working inwards from the rim of a cluster.

    Linear in `images`, hence differentiable.

    Args:
        images: (view, row, col).
        defects: (row, col) bool.

    Returns:
        (view, row, col). Where nothing good is left to fill from, zero.
    """
    if defects.shape != images.shape[1:]:
        raise ValueError(f"defects: expected shape (row, col) = {tuple(images.shape[1:])}, got {tuple(defects.shape)}")
    if not defects.any():
        return images
    filled, good = torch.where(defects, 0.0, images), ~defects
    for _ in range(max(images.shape[1:])):
        if good.all() or not good.any():
            break
        filled, good = _grow(filled, good)
    return filled


def _grow(images: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
    """Fill the bad pixels that touch a good one."""
    weights = _neighbour_sum(good.to(images)[None])[0]
    rim = ~good & (weights > 0)
    rows, cols = torch.nonzero(rim, as_tuple=True)
    if rim.float().mean() > 0.1:
        mean = _neighbour_sum(images) / weights.clamp_min(1e-9)
        return torch.where(rim, mean, images), good | rim
    # Defects are rare: gather their neighbours instead of filtering every view.
    padded = pad(images[:, None], (1, 1, 1, 1))[:, 0]
    total = sum(_WEIGHTS[i, j].item() * padded[:, rows + i, cols + j] for i in range(3) for j in range(3))
    return images.index_put((slice_all(images), rows, cols), total / weights[rows, cols]), good | rim


def slice_all(images: Tensor) -> Tensor:
    """Index of all views that broadcasts against a list of pixels."""
    return torch.arange(images.shape[0], device=images.device)[:, None]


def _neighbour_sum(images: Tensor) -> Tensor:
    return conv2d(images[:, None], _WEIGHTS.to(images)[None, None], padding=1)[:, 0]


def _median(image: Tensor, size: int) -> Tensor:
    filtered = scipy.ndimage.median_filter(image.cpu().numpy().astype(np.float32), size=size, mode="nearest")
    return torch.from_numpy(filtered).to(image)
