"""How close results come to the known answer, and to what a tuned conventional filter would have given."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from xrmflow.metrics.detection import match_points
from xrmflow.metrics.images import psnr

GAUSSIAN_SIGMAS = np.arange(0.4, 2.61, 0.2)
FINER = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])
# Patch edge, voxels, and ascending strengths in units of the noise: the best lies well inside (tried on noise of
# 30 to 60 % of the contrast); the search stops where the score falls.
NLM_PATCHES = (5, 7)
NLM_STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
NLM_DISTANCE = 3
FULL = 0.999


@dataclass(frozen=True)
class Filtered:
    """A filter at its best setting.

    Attributes:
        psnr_db: against the reference, dB.
        setting: what it was, for people.
    """

    psnr_db: float
    setting: str


@dataclass(frozen=True)
class Detected:
    """How many lacunae were found where the truth is known.

    Attributes:
        found, true: how many of each lie in the region.
        precision, recall: 0 to 1.
    """

    found: int
    true: int
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 when nothing fits."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else 0.0


def best_gaussian(noisy: np.ndarray, reference: np.ndarray, *, data_range: float, mask: np.ndarray) -> Filtered:
    """The Gaussian filter whose width suits the truth best: what no Gaussian smoothing can surpass.

    Args:
        noisy: (z, y, x) volume.
        reference: the same without noise.
        data_range: for the PSNR, in the volumes' unit.
        mask: (z, y, x) bool, where the PSNR counts.
    """

    def score(sigma: float) -> float:
        return psnr(ndimage.gaussian_filter(noisy, sigma), reference, data_range=data_range, mask=mask)

    coarse, _ = _best(GAUSSIAN_SIGMAS, score)
    sigma, decibels = _best(coarse + FINER, score)
    return Filtered(decibels, f"sigma {sigma:.2f} voxels")


def best_non_local_means(noisy: np.ndarray, reference: np.ndarray, *, data_range: float, mask: np.ndarray) -> Filtered:
    """Three-dimensional non-local means at the strength and patch size that suit the truth best.

    The filter is told the true noise level and searches 7^3 voxels around each.
    Source: Buades, Coll & Morel, CVPR 2005; fast form of Darbon et al., ISBI 2008, as in scikit-image.

    Args:
        noisy: (z, y, x) volume.
        reference: the same without noise.
        data_range: for the PSNR, in the volumes' unit.
        mask: (z, y, x) bool, where the PSNR counts.
    """
    noise = float((noisy - reference)[mask].std())
    best = Filtered(-np.inf, "")
    for patch in NLM_PATCHES:

        def score(strength: float, patch: int = patch) -> float:
            image = _non_local_means(noisy, patch=patch, strength=strength, noise=noise)
            return psnr(image, reference, data_range=data_range, mask=mask)

        strength, decibels = _climb(NLM_STRENGTHS, score)
        if decibels > best.psnr_db:
            best = Filtered(decibels, f"patch {patch}^3 voxels, h {strength:g} x noise")
    return best


def cubic_upsampled(volume: np.ndarray, factor: int) -> np.ndarray:
    """The volume on a grid `factor` times finer that covers the same space, by cubic splines."""
    return np.asarray(ndimage.zoom(volume, factor, order=3, mode="grid-mirror", grid_mode=True))


def solid(labels: np.ndarray, label: int, *, factor: int, erosion: int) -> np.ndarray:
    """Coarse voxels well inside a phase: those it fills, eroded, (z, y, x) bool.

    Args:
        labels: (z, y, x) on a grid `factor` times finer.
        label: of the phase.
        factor: fine voxels along the edge of a coarse one.
        erosion: coarse voxels.
    """
    full = share(labels == label, factor=factor) > FULL
    return ndimage.binary_erosion(full, iterations=erosion) if erosion else full


def share(mask: np.ndarray, *, factor: int) -> np.ndarray:
    """Share of each coarse voxel that a mask on a grid `factor` times finer fills, (z, y, x) float32."""
    nz, ny, nx = (size // factor for size in mask.shape)
    return mask.reshape(nz, factor, ny, factor, nx, factor).mean(axis=(1, 3, 5), dtype=np.float32)


def detected(
    found_mm: np.ndarray, lacunae: list[dict[str, Any]], *, z_range_mm: tuple[float, float], reach: float
) -> Detected:
    """Match centroids found with the list of lacunae of the truth.

    All are matched, but only those within the heights count, so that a lacuna at the border is neither a success nor a
    failure.

    Args:
        found_mm: (n, 3) centroids (x, y, z), mm.
        lacunae: of the truth, with `centroid_mm` and `volume_um3`.
        z_range_mm: heights that count, mm.
        reach: largest distance of a match in radii of a ball of the lacuna's volume.
    """
    true_mm = np.array([one["centroid_mm"] for one in lacunae], dtype=float).reshape(-1, 3)
    radius_mm = np.cbrt(np.array([one["volume_um3"] for one in lacunae]) * 3 / (4 * np.pi)) * 1e-3
    pairs = match_points(found_mm, true_mm, tolerance=reach * radius_mm).pairs
    hits = _matched(found_mm, pairs[:, 0], z_range_mm)
    known = _matched(true_mm, pairs[:, 1], z_range_mm)
    return Detected(
        found=hits.size,
        true=known.size,
        precision=float(hits.mean()) if hits.size else 0.0,
        recall=float(known.mean()) if known.size else 0.0,
    )


def _matched(points_mm: np.ndarray, matched: np.ndarray, z_range_mm: tuple[float, float]) -> np.ndarray:
    """For each point within the heights, whether it is among the matched ones, (k,) bool."""
    inside = (points_mm[:, 2] > z_range_mm[0]) & (points_mm[:, 2] < z_range_mm[1])
    return np.isin(np.flatnonzero(inside), matched)


def _non_local_means(volume: np.ndarray, *, patch: int, strength: float, noise: float) -> np.ndarray:
    from skimage.restoration import denoise_nl_means

    settings = {"patch_size": patch, "patch_distance": NLM_DISTANCE, "fast_mode": True, "preserve_range": True}
    return denoise_nl_means(volume, h=strength * noise, sigma=noise, **settings)


def _best(settings: Iterable[float], score: Callable[[float], float]) -> tuple[float, float]:
    """The setting with the highest score, and the score."""
    scores = {float(value): score(float(value)) for value in settings}
    return max(scores.items(), key=lambda item: item[1])


def _climb(settings: Iterable[float], score: Callable[[float], float]) -> tuple[float, float]:
    """The setting at which the score, followed in the given order, is highest before it falls."""
    best = (0.0, -np.inf)
    for value in settings:
        reached = score(value)
        if reached < best[1]:
            break
        best = (value, reached)
    return best
