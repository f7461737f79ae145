"""Outliers (zingers) of both signs: pixels that disagree with their neighbours in space and in time.

Not differentiable where a value is replaced: the gradient goes to the neighbours that replace it.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from xrmflow.arrays import blocks

# Medians are taken of so many pixels at a time: their two dozen copies then stay small, and in the cache.
PIXELS_AT_ONCE = 2**20

# Exchanges that leave the median of nine values in place 4 (Smith 1996; as in Devillard's collection of fast medians).
_EXCHANGES = (
    (1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3),
    (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2),
)  # fmt: skip


def median_of_neighbours(images: Tensor) -> Tensor:
    """Median over 3 x 3 pixels in each view, edges repeated.

    Args:
        images: (view, row, col).
    """
    return by_views(_median_of_neighbours, images, around=0)


def _median_of_neighbours(images: Tensor) -> Tensor:
    padded = pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    rows, cols = images.shape[1:]
    values = [padded[:, i : i + rows, j : j + cols] for i in range(3) for j in range(3)]
    for low, high in _EXCHANGES:
        values[low], values[high] = torch.minimum(values[low], values[high]), torch.maximum(values[low], values[high])
    return values[4]


def median_in_time(images: Tensor) -> Tensor:
    """Median of each pixel over three consecutive views; the first and last view use the two next to them.

    Args:
        images: (view, row, col).
    """
    if images.shape[0] < 3:
        return images
    before = torch.cat([images[2:3], images[:-1]])
    after = torch.cat([images[1:], images[-3:-2]])
    low, high = torch.minimum(before, after), torch.maximum(before, after)
    return torch.minimum(torch.maximum(images, low), high)


def scatter(transmitted: Tensor) -> tuple[float, float]:
    """Robust standard deviation of sqrt(t) about its median in space and about its median in time."""
    in_space, in_time = _differences(transmitted)
    return _sigma(in_space), _sigma(in_time)


def find_outliers(transmitted: Tensor, *, sigmas: float, noise: tuple[float, float] | None = None) -> Tensor:
    """Where sqrt(t) is off from its spatial and from its temporal median by more than `sigmas` robust sigmas.

    The square root makes Poisson noise the same at every level. Asking both medians spares edges of the object (seen in
    the neighbouring views) and fast turning parts (seen in the neighbouring pixels).

    Args:
        transmitted: (view, row, col) transmitted fraction.
        sigmas: threshold in robust standard deviations.
        noise: from `scatter`; measured on `transmitted` itself when not given.

    Returns:
        (view, row, col) bool.
    """
    if not sigmas > 0:
        raise ValueError(f"sigmas: expected a positive number, got {sigmas}")
    limit_space, limit_time = (sigmas * s for s in noise or scatter(transmitted))

    def beyond_limits(images: Tensor) -> Tensor:
        in_space, in_time = _differences(images)
        high = (in_space > limit_space) & (in_time > limit_time)
        low = (in_space < -limit_space) & (in_time < -limit_time)
        return high | low

    # The first and the last view of a part are compared with the two next to them, as those of the scan are.
    return by_views(beyond_limits, transmitted, around=2)


def by_views(operation: Callable[[Tensor], Tensor], images: Tensor, *, around: int) -> Tensor:
    """What an operation makes of images, some views at a time.

    Args:
        operation: from views to as many; a view's result follows from itself and those next to it.
        images: (view, row, col).
        around: views that are given to it on either side of those that are kept.
    """
    views = images.shape[0]
    parts = []
    for part in blocks(views, max(2, PIXELS_AT_ONCE // max(1, images[0].numel()))):
        first = max(0, part.start - around)
        made = operation(images[first : part.stop + around])
        parts.append(made[part.start - first : part.stop - first])
    return torch.cat(parts)


def replace_outliers(transmitted: Tensor, outliers: Tensor) -> Tensor:
    """Put the spatial median in place of the marked values.

    Args:
        transmitted: (view, row, col).
        outliers: (view, row, col) bool.
    """
    if not outliers.any():
        return transmitted
    return torch.where(outliers, median_of_neighbours(transmitted), transmitted)


def _differences(transmitted: Tensor) -> tuple[Tensor, Tensor]:
    stable = transmitted.detach().clamp_min(0).sqrt()
    in_space = stable - median_of_neighbours(stable)
    return in_space, stable - median_in_time(stable) if stable.shape[0] >= 3 else in_space


def _sigma(difference: Tensor) -> float:
    """Robust standard deviation of differences, leaving out those that are zero because the value is the median."""
    sampled = difference.flatten()[:: max(1, difference.numel() // 1_000_000)].abs()
    sampled = sampled[sampled > 0]
    return 1.4826 * float(sampled.median()) if sampled.numel() else 0.0
