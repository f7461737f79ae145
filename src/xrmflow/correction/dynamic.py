"""Dynamic flat field: flats whose pattern changes between frames, as a mean and a few components with weights a view.

The open beam of view j is f_j = f_0 + sum_k w_jk u_k, where f_0 is the mean of the flats and u_k are their principal
components. How many components stand out of the noise is found by parallel analysis; the weights of a view are those
for which the corrected view, of which nobody knows what it shows, varies least: its total variation is minimal.

Source:
    Van Nieuwenhove, De Beenhouwer, De Carlo, Mancini, Marone, Sijbers, Opt. Express 23, 27975 (2015). Here the total
    variation is that of the logarithm, which knows no overall scale: brightness is left to the air beside the object
    (`xrmflow.correction.air`), and flats are brought to one brightness first.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, as_float32, blocks, untracked

FEWEST_FLATS = 5
REPEATS, STANDARD_DEVIATIONS = 10, 3.0
ANALYSED_PIXELS = 1 << 16
OUTLIER_SIGMAS = 8.0
# Weights are found on frames averaged down to at most this many pixels a side.
LONGEST_PX = 256
VIEWS_AT_ONCE = 16
# Newton steps with the weights of the absolute value held, and the gradient (of the logarithm, a pixel) at which it
# is rounded, in usual gradients.
STEPS, ROUNDED = 20, 0.1
# Weights farther out than this many times the largest among the flats themselves are not believed.
FARTHEST = 3.0
LEAST_TRANSMISSION = 1e-3


@dataclass(frozen=True)
class Components:
    """Mean and principal components of flats, dark subtracted.

    Attributes:
        mean: (row, col) f_0, grey levels.
        parts: (k, row, col) u_k, grey levels: scaled so that the weights of the flats have unit variance.
        scores: (n, k) weights of the flats themselves.
        scales: (n,) brightness of each flat relative to their mean.
        noise: variance of a component's noise over the mean flat, grey levels.
    """

    mean: Tensor
    parts: Tensor
    scores: Tensor
    scales: Tensor
    noise: float

    def of_flats(self) -> Tensor:
        """(n, row, col) the flats without their noise, grey levels."""
        shapes = self.mean + torch.tensordot(self.scores, self.parts, dims=1)
        return shapes * self.scales[:, None, None]


@dataclass(frozen=True)
class DynamicFlats:
    """A flat for each view.

    Attributes:
        frames: (1, row, col) mean flat, grey levels, dark included.
        parts: (k, row, col) components, grey levels.
        weights: (view, k) dimensionless.
        views: for the interface of flats that are not dynamic.
    """

    frames: Tensor
    parts: Tensor
    weights: Tensor
    views: tuple[float, ...] = field(default=(0.0,))

    def at(self, views: Tensor) -> Tensor:
        """The flat at given view indices, (view, row, col)."""
        chosen = self.weights[views.to(self.weights.device, torch.long)]
        return self.frames + torch.tensordot(chosen, self.parts, dims=1)

    def rows(self, rows: slice) -> "DynamicFlats":
        """The same for a window of detector rows."""
        return DynamicFlats(self.frames[:, rows], self.parts[:, rows], self.weights, self.views)


def components_of(flats: Tensor, *, most: int = 8, seed: int = 0) -> Components | None:
    """Mean and principal components of flats.

    Args:
        flats: (n, row, col) grey levels, dark subtracted.
        most: components at most.
        seed: of the permutations.

    Returns:
        None where no component stands out of the noise, or with fewer than five flats.

    Raises:
        ValueError: not three axes, or flats without signal.
    """
    if flats.ndim != 3:
        raise ValueError(f"flats: expected shape (n, row, col), got {tuple(flats.shape)}")
    least = float(flats.mean(dim=(1, 2)).min())
    if not least > 0:
        raise ValueError(f"flats: expected a positive mean in each, got {least:g}")
    if flats.shape[0] < FEWEST_FLATS:
        return None
    scales = _brightness(flats)
    mean, away = _mean_and_rest(flats / scales[:, None, None])
    count = min(most, flats.shape[0] - 2, components_beyond_noise(away.flatten(1), seed=seed))
    if count == 0:
        return None
    gram = torch.einsum("nrc,mrc->nm", away, away).double()
    _, vectors = torch.linalg.eigh(gram)
    scores = (vectors[:, -count:].flip(1) * flats.shape[0] ** 0.5).to(flats)
    parts = torch.tensordot(scores.T, away, dims=1) / flats.shape[0]
    left = (away - torch.tensordot(scores, parts, dims=1)).square().mean() / mean.mean()
    return Components(mean, parts, scores, scales, float(left) / (flats.shape[0] - count - 1))


def components_beyond_noise(away: Tensor, *, seed: int = 0) -> int:
    """How many principal components are larger than those of the same values in random order (parallel analysis).

    The values of each pixel are put in an order of its own, which keeps every pixel's variance and leaves nothing in
    common between pixels. A component counts while its eigenvalue is above the largest such ones by three standard
    deviations.

    Args:
        away: (n, pixel) what is left of each frame when the mean is taken away; some of many pixels are looked at.
        seed: of the permutations.

    Source:
        Horn, Psychometrika 30, 179 (1965).
    """
    away = away[:, :: max(1, away.shape[1] // ANALYSED_PIXELS)]
    # Every pixel counts alike: where the beam is bright there is more noise, not more to learn.
    spread = away.std(dim=0)
    away = (away / torch.where(spread > 0, spread, 1.0)).double()
    found = torch.linalg.eigvalsh(away @ away.T).flip(0)
    random = torch.Generator(device="cpu").manual_seed(seed)
    chance = []
    for _ in range(REPEATS):
        order = torch.rand(away.shape, generator=random).to(away.device).argsort(dim=0)
        mixed = away.gather(0, order)
        chance.append(torch.linalg.eigvalsh(mixed @ mixed.T).flip(0))
    null = torch.stack(chance)
    above = found > null.mean(dim=0) + STANDARD_DEVIATIONS * null.std(dim=0) + 1e-9 * found[0]
    return int(torch.cumprod(above.long(), dim=0).sum())


def weights_of_views(
    raw: Reader, components: Components, *, dark: Tensor, exposure_ratio: float = 1.0, track: Track = untracked
) -> Tensor:
    """Weights of every view of a scan, by total variation: (view, k).

    Args:
        raw: (view, row, col) grey levels, read some views at a time.
        components: of the flats, dark subtracted.
        dark: (row, col) grey levels.
        exposure_ratio: exposure of a projection over that of a flat.
        track: shows progress.
    """
    edge = -(-max(components.mean.shape) // LONGEST_PX)
    mean, parts = averaged(components.mean[None], edge)[0], averaged(components.parts, edge)
    largest = FARTHEST * components.scores.abs().amax(dim=0)
    found = []
    for block in track(blocks(raw.shape[0], VIEWS_AT_ONCE), label="dynamic flats"):
        counts = torch.from_numpy(as_float32(raw[block])).to(dark)
        signal = averaged(counts - dark, edge) / exposure_ratio
        found.append(flattest_weights(signal, mean, parts, largest=largest, noise=components.noise / edge**2))
    return torch.cat(found)


def flattest_weights(signal: Tensor, mean: Tensor, parts: Tensor, *, largest: Tensor, noise: float = 0.0) -> Tensor:
    """The weights w for which ln((f_0 + sum_k w_k u_k) / signal) has the least total variation.

    The absolute value of the gradient g is rounded, sqrt(|g|^2 + e^2), and minimised by weighted least squares with
    the logarithm linearised, which takes a few steps for all views at once. The components' own noise would draw the
    weights towards zero; what it adds to the squares of their gradients is taken away (errors in variables).

    Args:
        signal: (view, row, col) grey levels, dark subtracted, at the flats' exposure.
        mean: (row, col) f_0. parts: (k, row, col) u_k.
        largest: (k,) how large the weights may become.
        noise: variance of the components' noise over f_0, grey levels.

    Returns:
        (view, k).
    """
    floor = LEAST_TRANSMISSION * mean.median()
    weights = signal.new_zeros(signal.shape[0], parts.shape[0])
    logarithm = torch.log(signal.clamp_min(floor))
    rounded = None
    for _ in range(STEPS):
        flat = (mean + torch.tensordot(weights, parts, dims=1)).clamp_min(floor)
        slope = gradient(torch.log(flat) - logarithm)
        size = slope.square().sum(dim=1)
        if rounded is None:
            rounded = (ROUNDED**2 * size.flatten(1).median(dim=1).values).clamp_min(1e-16)[:, None, None]
        trust = 1 / (size + rounded).sqrt()
        change = gradient(parts[None] / flat[:, None])
        normal = torch.einsum("vrc,vkgrc,vlgrc->vkl", trust, change, change).double()
        right = torch.einsum("vrc,vkgrc,vgrc->vk", trust, change, slope).double()
        # Two directions, each a difference of two pixels; and of a noise across the gradient only, which is half of it,
        # does a length know to first order.
        by_noise = (2 * noise * trust * (mean / flat.square())[:, :-1, :-1]).sum(dim=(1, 2)).double()
        weights = _solved(normal, by_noise, right, weights).clamp(-largest, largest)
    return weights


def _solved(normal: Tensor, by_noise: Tensor, right: Tensor, weights: Tensor) -> Tensor:
    """Weights that solve (N - B) w = N w_0 - r, where B is what noise adds to N, at most half of it."""
    diagonal = normal.diagonal(dim1=1, dim2=2)
    taken = torch.minimum(by_noise, 0.5 * diagonal.amin(dim=1)) - 1e-9 * diagonal.amax(dim=1).clamp_min(1e-30)
    eye = torch.eye(normal.shape[1], dtype=normal.dtype, device=normal.device)
    wanted = torch.einsum("vkl,vl->vk", normal, weights.double()) - right
    return torch.linalg.solve(normal - taken[:, None, None] * eye, wanted).to(weights)


def gradient(images: Tensor) -> Tensor:
    """Differences to the next row and column: (..., row, col) to (..., 2, row - 1, col - 1)."""
    here = images[..., :-1, :-1]
    return torch.stack([images[..., 1:, :-1] - here, images[..., :-1, 1:] - here], dim=-3)


def averaged(images: Tensor, edge: int) -> Tensor:
    """Means over squares of `edge` pixels of (n, row, col); what fills no square is left out."""
    if edge == 1:
        return images
    return torch.nn.functional.avg_pool2d(images[:, None], edge)[:, 0]


def _brightness(flats: Tensor) -> Tensor:
    """(n,) brightness relative to the flats' mean: medians, which a few zingers do not move."""
    some = flats.flatten(1)[:, :: max(1, flats[0].numel() // ANALYSED_PIXELS)]
    middle = some.median(dim=0).values
    lit = middle > 0.5 * middle.median()
    brightness = (some[:, lit] / middle[lit]).median(dim=1).values
    return brightness / brightness.mean()


def _mean_and_rest(shapes: Tensor) -> tuple[Tensor, Tensor]:
    """(row, col) mean, and (n, row, col) what is left of each flat; zingers count for neither."""
    middle = shapes.median(dim=0).values
    away = (shapes - middle).abs()
    some = away.flatten(1)[:, :: max(1, away[0].numel() // ANALYSED_PIXELS)]
    limit = OUTLIER_SIGMAS * 1.4826 * some.median(dim=1).values[:, None, None]
    kept = (away <= limit) | (limit == 0)
    mean = torch.where(kept, shapes, 0.0).sum(dim=0) / kept.sum(dim=0).clamp_min(1)
    return mean, torch.where(kept, shapes - mean, 0.0)
