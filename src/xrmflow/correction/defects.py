"""Dead and defective pixels: found in the flats and in the scan itself, filled from their neighbours."""

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

# How far defects are filled from all around; what lies deeper in a cluster is filled along its row.
DEPTH = 2
# Rows around a block that finding and filling defects look at: one for outliers, two for medians, and the depth.
ROWS_AROUND = 1 + 2 + DEPTH
_AROUND = torch.tensor([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]])
_BESIDE = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])


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
            searched for stuck pixels, so that the rim of a noise-free object is not taken for a defect.

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

    From the third pixel of a cluster on these are the neighbours in the row: so a pixel is filled from `DEPTH` rows
    around it and no more, and is the same in every block of rows. Linear in `images`, hence differentiable.

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
    for weights in (*[_AROUND] * DEPTH, *[_BESIDE] * images.shape[2]):
        sums = _neighbour_sum(good.to(images), weights)
        rim = ~good & (sums > 0)
        if not rim.any():
            break
        filled, good = _filled_at(rim, filled, weights, sums), good | rim
    return filled


def _filled_at(rim: Tensor, images: Tensor, weights: Tensor, sums: Tensor) -> Tensor:
    """Fill the pixels of a rim: their neighbours are gathered, because they are few."""
    rows, cols = torch.nonzero(rim, as_tuple=True)
    padded = pad(images[:, None], (1, 1, 1, 1))[:, 0]
    places = [(i, j) for i in range(3) for j in range(3) if weights[i, j] > 0]
    total = sum(weights[i, j].item() * padded[:, rows + i, cols + j] for i, j in places)
    return images.index_put((slice_all(images), rows, cols), total / sums[rows, cols])


def slice_all(images: Tensor) -> Tensor:
    """Index of all views that broadcasts against a list of pixels."""
    return torch.arange(images.shape[0], device=images.device)[:, None]


def _neighbour_sum(image: Tensor, weights: Tensor) -> Tensor:
    return conv2d(image[None, None], weights.to(image)[None, None], padding=1)[0, 0]


def _median(image: Tensor, size: int) -> Tensor:
    filtered = scipy.ndimage.median_filter(image.cpu().numpy().astype(np.float32), size=size, mode="nearest")
    return torch.from_numpy(filtered).to(image)
