"""Bone in the slices: where it is, how deep a voxel lies below its surface, and in which sector of the specimen.

Found in the uncorrected reconstruction by thresholds from its own histogram, so that no mask is drawn by hand.
"""

import numpy as np
import scipy.ndimage
from skimage.filters import threshold_otsu

from xrmflow.calibration.basis import Slab
from xrmflow.calibration.fan import field_of_view
from xrmflow.calibration.homogeneity import MOST_DEPTH, SECTORS

# Voxels less deep than this below the surface of bone are not looked at.
LEAST_DEPTH = 2
# Bone is what is brighter than this share of the way from its surroundings to it.
BONE_SHARE = 0.65
# Fewer voxels of it are too few to fit a correction to.
LEAST_VOXELS = 3000
# Bone is looked for in this share of the field of view, and goes on beyond it where this share of its rim is bone.
SEGMENTED_SHARE, RIM_SHARE = 0.95, 0.02
# Smoothing for the segmentation grows until noise is this fraction of the contrast of bone.
NOISE_SHARE = 0.09
SMOOTHINGS_PX = (1.0, 1.5, 2.0, 3.0)
# What is above Otsu's threshold is nothing like bone if it is less than so many voxels, or its contrast is less than so
# many standard deviations of the rest; its core is looked at closer from so many voxels on.
LEAST_BRIGHT, LEAST_CONTRAST, LEAST_CORE = 100, 4.0, 1000
# Values that differ by less than this share are uniform.
UNIFORM_SHARE = 1e-4
# Less than this share of the attenuation of bone is air.
AIR_SHARE = 0.05
# Two kinds of bright material are told apart where the valley between their peaks is below this share of the lower
# peak, and that above this share of the higher.
VALLEY_SHARE, PEAK_SHARE = 0.5, 0.1


def segment_bone(volume: np.ndarray, *, smoothing_px: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Bone by Otsu's threshold on the smoothed volume; of two kinds of bright material (enamel, dentine) the brighter.

    Args:
        volume: (z, y, x) attenuation.
        smoothing_px: sigma, voxels.

    Returns:
        The mask and the smoothed volume, (z, y, x) each; None where bone is not clearly brighter than the rest.
    """
    smooth = _smooth(volume, smoothing_px)
    inside = np.broadcast_to(field_of_view(volume.shape[2], SEGMENTED_SHARE), volume.shape)
    values = smooth[inside]
    limit = _threshold(values, 500_000)
    bright, dark = values[values > limit], values[values <= limit]
    if bright.size < LEAST_BRIGHT or not bright.mean() - dark.mean() > LEAST_CONTRAST * dark.std():
        return None
    core = np.asarray(scipy.ndimage.binary_erosion((smooth > limit) & inside, iterations=2), bool)
    if core.sum() < LEAST_CORE:
        return (smooth > limit) & inside, smooth
    split = _valley(smooth[core])
    if split is not None:
        return (smooth > split) & inside, smooth
    # Otsu's threshold is low where there is much air. Small pores must not count as bone: they are many in its inner
    # parts.
    level = float(np.median(smooth[core]))
    tissue = dark[dark > AIR_SHARE * level]
    around = float(np.median(tissue)) if tissue.size else 0.0
    return (smooth > around + BONE_SHARE * (level - around)) & inside, smooth


def _threshold(values: np.ndarray, most: int) -> float:
    """Otsu's, of about so many of the values; above all of them where they are (nearly) the same."""
    some = values[:: max(1, values.size // most)]
    low, high = float(some.min()), float(some.max())
    return threshold_otsu(some) if high - low > UNIFORM_SHARE * max(abs(low), abs(high)) else float(values.max())


def _valley(values: np.ndarray) -> float | None:
    """The deepest point between two distinct peaks of a histogram; None when there is one peak."""
    counts, edges = np.histogram(values, bins=100, range=tuple(np.quantile(values, (0.005, 0.995))))
    counts = scipy.ndimage.gaussian_filter1d(counts.astype(float), 2.0)
    limit = _threshold(values, 200_000)
    at = int(np.clip(np.searchsorted(edges, limit), 5, 95))
    low, high = int(counts[:at].argmax()), at + int(counts[at:].argmax())
    bottom = low + int(counts[low : high + 1].argmin())
    peak = min(counts[low], counts[high])
    return float(edges[bottom]) if counts[bottom] < VALLEY_SHARE * peak and peak > PEAK_SHARE * counts.max() else None


def _smooth(volume: np.ndarray, sigma_px: float) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(volume, sigma_px, mode="nearest") if sigma_px > 0 else volume


def smoothing_for(slab: Slab) -> float:
    """The least smoothing that brings noise (half the difference of two half scans) well below the contrast."""
    even, odd = slab.halves().cpu().numpy()
    inside = np.broadcast_to(field_of_view(slab.grid.shape[2], SEGMENTED_SHARE), even.shape)
    for sigma in SMOOTHINGS_PX:
        mean, rest = _smooth(0.5 * (even + odd), sigma)[inside], _smooth(0.5 * (even - odd), sigma)[inside]
        limit = _threshold(mean, 200_000)
        bright = mean > limit
        contrast = mean[bright].mean() - mean[~bright].mean() if bright.any() else 0.0
        if rest.std() < NOISE_SHARE * contrast:
            return sigma
    return SMOOTHINGS_PX[-1]


def bone_depth(bone: np.ndarray) -> np.ndarray:
    """Distance of each bone voxel to the nearest voxel that is none, rounded, at most `MOST_DEPTH`; 0 outside."""
    reach = MOST_DEPTH + 2
    padded = np.pad(bone, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    distance = scipy.ndimage.distance_transform_edt(padded)
    return np.minimum(np.round(np.asarray(distance)[reach:-reach]), MOST_DEPTH).astype(np.int64)


def goes_on_beyond(bone: np.ndarray) -> bool:
    """Whether bone (z, y, x) reaches the rim of what was segmented."""
    size = bone.shape[2]
    rim = field_of_view(size, SEGMENTED_SHARE) & ~field_of_view(size, SEGMENTED_SHARE - 4 / size)
    return bool(bone[:, rim].mean() > RIM_SHARE)


def sectors_of(bone: np.ndarray) -> np.ndarray:
    """(y, x) number of the sector, seen from the centre of the bone, in which a voxel lies."""
    rows, cols = np.indices(bone.shape[1:])
    weight = bone.sum(axis=0)
    y, x = np.average(rows, weights=weight), np.average(cols, weights=weight)
    turn = np.arctan2(rows - y, cols - x) / (2 * np.pi) + 0.5
    return np.minimum((turn * SECTORS).astype(int), SECTORS - 1)
