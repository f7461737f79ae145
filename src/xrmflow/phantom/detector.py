"""What the detector makes of the transmitted beam: blur, uneven and drifting beam, photon noise, faults, integers.

Counts are photons: a frame of an open beam of `counts` photons per pixel has that mean and, up to the read-out noise,
that variance.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
FULL_WELL = 65535


@dataclass(frozen=True)
class DetectorRecipe:
    """What the detector and the beam on it are like.

    Attributes:
        counts: open-beam photons per pixel per view, mean over the detector.
        readout_counts: standard deviation of the read-out noise, counts.
        dark_counts: mean signal without beam, counts.
        vignetting: relative loss of beam at the corners.
        pattern: relative standard deviation of the pixels' sensitivity.
        drift: relative amplitude of the slow change of the beam over the scan.
        dead_fraction: share of the pixels that are stuck, half of them at zero, half at a high value.
        unstable_fraction: share of the pixels whose sensitivity changes between flats and scan; they give rings.
        unstable_change: standard deviation of that relative change.
        outlier_fraction: share of all samples that a stray photon hits.
        flats, darks: number of frames; half of the flats before the scan and half after it.
    """

    counts: float
    readout_counts: float = 2.0
    dark_counts: float = 100.0
    vignetting: float = 0.15
    pattern: float = 0.02
    drift: float = 0.004
    dead_fraction: float = 5e-4
    unstable_fraction: float = 5e-3
    unstable_change: float = 0.02
    outlier_fraction: float = 2e-5
    flats: int = 40
    darks: int = 10


@dataclass(frozen=True)
class Detector:
    """One detector under one beam, with its own faults.

    Attributes:
        recipe: what was asked for.
        beam: (row, col) mean open-beam counts.
        tilt: (row, col) the pattern that grows into the beam as it drifts.
        drift_phase: of the slow change, rad.
        dark: (row, col) mean counts without beam.
        stuck: (row, col) NaN, or the value at which a dead pixel is stuck, counts.
        unstable: (row, col) factor on the sensitivity during the scan, 1 for a stable pixel.
    """

    recipe: DetectorRecipe
    beam: np.ndarray
    tilt: np.ndarray
    drift_phase: float
    dark: np.ndarray
    stuck: np.ndarray
    unstable: np.ndarray

    def open_beam(self, time: float) -> np.ndarray:
        """Mean open-beam counts at a time between 0 (begin of the scan) and 1 (its end)."""
        swing = np.sin(2 * np.pi * time + self.drift_phase) - np.sin(self.drift_phase)
        return self.beam * (1 + self.recipe.drift * (swing + self.tilt * time))

    def expose(self, mean_counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A frame (row, col) uint16: photon noise, dark signal, read-out noise, stuck pixels."""
        signal = (
            rng.poisson(mean_counts) + self.dark + self.recipe.readout_counts * rng.standard_normal(mean_counts.shape)
        )
        return _integers(np.where(np.isnan(self.stuck), signal, self.stuck))

    def view(self, transmission: np.ndarray, time: float, rng: np.random.Generator) -> np.ndarray:
        """A frame of the scan (row, col) uint16, stray photons included."""
        frame = self.expose(self.open_beam(time) * self.unstable * transmission, rng)
        hits = rng.random(frame.shape) < self.recipe.outlier_fraction
        return _integers(frame + hits * rng.uniform(1, 10, frame.shape) * self.recipe.counts)

    def flats(self, rng: np.random.Generator) -> np.ndarray:
        """Open-beam frames (n, row, col) uint16, half of them before the scan and half after it."""
        n = self.recipe.flats
        return np.stack([self.expose(self.open_beam(float(i >= (n + 1) // 2)), rng) for i in range(n)])

    def darks(self, rng: np.random.Generator) -> np.ndarray:
        """Frames without beam (n, row, col) uint16."""
        return np.stack([self.expose(np.zeros(self.beam.shape), rng) for _ in range(self.recipe.darks)])


def make_detector(recipe: DetectorRecipe, shape: tuple[int, int], rng: np.random.Generator) -> Detector:
    """Draw a detector of (row, col) pixels."""
    v, u = (np.linspace(-1, 1, n)[:, None] for n in shape)
    u = u.T
    profile = 1 - recipe.vignetting * ((u - 0.1) ** 2 + (v + 0.05) ** 2) / 2
    sensitivity = 1 + recipe.pattern * rng.standard_normal(shape).clip(-4, 4)
    beam = profile * sensitivity
    dead = rng.random(shape) < recipe.dead_fraction
    high = np.where(rng.random(shape) < 0.5, 0.0, min(4 * recipe.counts, FULL_WELL))
    unstable = (
        (rng.random(shape) < recipe.unstable_fraction) * recipe.unstable_change * rng.standard_normal(shape).clip(-3, 3)
    )
    return Detector(
        recipe,
        beam=beam * recipe.counts / beam.mean(),
        tilt=np.broadcast_to(u, shape),
        drift_phase=rng.uniform(0, 2 * np.pi),
        dark=recipe.dark_counts * (1 + 0.02 * rng.standard_normal(shape)),
        stuck=np.where(dead, high, np.nan),
        unstable=1 + unstable,
    )


def blur(transmission: np.ndarray, fwhm_px: float) -> np.ndarray:
    """Gaussian blur of frames (view, row, col); the border is continued."""
    if fwhm_px <= 0:
        return transmission
    return gaussian_filter(transmission, fwhm_px * SIGMA_PER_FWHM, axes=(1, 2), mode="nearest", truncate=3.0)


def binned(frames: np.ndarray, factor: int) -> np.ndarray:
    """Mean over squares of `factor` x `factor` sub-pixels: (view, row, col)."""
    views, rows, cols = frames.shape
    return frames.reshape(views, rows // factor, factor, cols // factor, factor).mean(axis=(2, 4))


def dark_subtracted(frames: np.ndarray, darks: np.ndarray) -> np.ndarray:
    """Frames as a microscope stores them that subtracts the mean dark itself: uint16, never negative."""
    return _integers(frames - darks.mean(axis=0))


def _integers(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, FULL_WELL).astype(np.uint16)
