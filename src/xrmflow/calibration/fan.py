"""One slice for many trial centres at once: fan-beam backprojection with the trials side by side in memory.

The place of a voxel in a sinogram and the interpolation there are computed once and serve all trials, so that fifty
trial centres cost little more than one. A trial centre is a shift of the filtered sinogram, done in Fourier space
(exact, so that no trial is blurred more than another); so are the shifts of single views. A slice off the midplane
is taken for a fan of its own row: good enough to judge sharpness, not a reconstruction to measure in.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import fft

from xrmflow.arrays import Reader, as_finite_float32
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.threads import in_pieces
from xrmflow.reconstruction.filters import ramp_spectrum
from xrmflow.reconstruction.weights import cosine_weights, view_weights

# Sharpness is judged within this share of the field of view, whose rim is often cut off or streaked.
JUDGED_SHARE = 0.92


@dataclass(frozen=True)
class Sinogram:
    """One detector row of a scan, binned, weighted and in Fourier space, ready to be shifted.

    Attributes:
        spectrum: (view, frequency) complex64 of the weighted row, zero-padded to `length`.
        length: samples of the padded row.
        cols: columns of the binned row.
        angles_rad: (view,).
        source_px: source-to-axis distance in binned pixels seen at the axis; None for a parallel beam.
        centre_px: nominal centre, binned pixels.
        binning: columns averaged into one.
    """

    spectrum: np.ndarray
    length: int
    cols: int
    angles_rad: np.ndarray
    source_px: float | None
    centre_px: float
    binning: int


def sinogram(
    projections: Reader, acquisition: Acquisition, *, row: float, binning: int = 1, view_step: int = 1
) -> Sinogram:
    """Read the row at which the axis is seen `row - midplane_px` rows above the midplane, in every view.

    Args:
        projections: (view, row, col) line integrals.
        acquisition: nominal geometry; its per-view shifts are taken out.
        row: detector row; views shifted along rows are interpolated there.
        binning: columns averaged into one.
        view_step: every how manieth view is read.

    Raises:
        ValueError: values that are no finite numbers.
    """
    kept = acquisition.with_views(slice(None, None, view_step))
    shifts = kept.shifts_px
    wanted = np.clip(row + shifts[:, 1], 0, acquisition.rows - 1)
    first, last = int(wanted.min()), min(int(wanted.max()) + 2, acquisition.rows)
    data = as_finite_float32(projections[:, first:last][::view_step])
    below = np.minimum((wanted - first).astype(int), data.shape[1] - 1)
    above = np.minimum(below + 1, data.shape[1] - 1)
    share = (wanted - first - below).astype(np.float32)[:, None]
    views = np.arange(len(data))
    lines = data[views, below] * (1 - share) + data[views, above] * share
    nearest = round(row)
    geometry = scan_geometry(kept).with_rows(slice(nearest, nearest + 1))
    weights = (cosine_weights(geometry)[:, 0] * view_weights(geometry)).numpy()
    size = acquisition.cols // binning
    binned = (lines * weights)[:, : size * binning].reshape(len(lines), size, binning).mean(axis=2)
    length = int(fft.next_fast_len(2 * size, real=True))  # type: ignore[arg-type]
    spectrum = np.asarray(fft.rfft(binned.astype(np.float32), length))
    frequency = fft.rfftfreq(length)
    spectrum = spectrum * np.exp(2j * math.pi * frequency * (shifts[:, :1] / binning))
    source = None if acquisition.beam == "parallel" else float(acquisition.source_to_axis_mm or 0)
    return Sinogram(
        spectrum=spectrum.astype(np.complex64),
        length=length,
        cols=size,
        angles_rad=np.radians(np.asarray(kept.angles_deg)),
        source_px=None if source is None else source / (acquisition.voxel_mm * binning),
        centre_px=(acquisition.centre_px - (binning - 1) / 2) / binning,
        binning=binning,
    )


def slices(lines: Sinogram, centres_px: np.ndarray, *, smoothing_px: float) -> np.ndarray:
    """Reconstruct the slice for each trial centre, from the even and from the odd views.

    Args:
        lines: from `sinogram`.
        centres_px: (n,) trial centres in unbinned pixels.
        smoothing_px: sigma of a Gaussian smoothing in the plane, binned pixels; done with the filter.

    Returns:
        (2, n, y, x) float32, attenuation per mm shared between the halves: their sum is the reconstruction.
    """
    shifts = np.asarray(centres_px, dtype=float) / lines.binning - (lines.binning - 1) / (2 * lines.binning)
    shifts = shifts - lines.centre_px
    frequency = fft.rfftfreq(lines.length)
    response = ramp_spectrum(lines.cols, window="hann") / lines.binning
    response = response * np.exp(-2 * (math.pi * smoothing_px * frequency) ** 2)
    turn = np.exp(2j * math.pi * frequency * shifts[:, None]) * response
    filtered = np.empty((len(lines.spectrum), lines.cols, len(shifts)), np.float32)
    for view, spectrum in enumerate(lines.spectrum):
        shifted = np.asarray(fft.irfft(spectrum * turn.astype(np.complex64), lines.length))
        filtered[view] = shifted[:, : lines.cols].T
    result = np.zeros((2, lines.cols, lines.cols, len(shifts)), np.float32)
    cosine, sine = np.cos(lines.angles_rad), np.sin(lines.angles_rad)
    middle, inverse = (lines.cols - 1) / 2, 0.0 if lines.source_px is None else 1 / lines.source_px

    def work(start: int, stop: int) -> None:
        _backproject(filtered, cosine, sine, lines.centre_px, middle, inverse, result, start, stop)

    in_pieces(work, lines.cols, size=16)
    return np.ascontiguousarray(np.moveaxis(result, 3, 1))


@njit(nogil=True, cache=True, error_model="numpy")
def _backproject(filtered, cosine, sine, centre, middle, inverse, result, first, last):
    """Add every view's samples, trials in the last axis, to rows first to last of `result` (2, y, x, trial)."""
    views, cols, trials = filtered.shape
    for j in range(first, last):
        y = j - middle
        for i in range(cols):
            x = i - middle
            for view in range(views):
                depth = 1.0 + (y * cosine[view] - x * sine[view]) * inverse
                if depth <= 0.0:
                    continue
                column = centre + (x * cosine[view] + y * sine[view]) / depth
                if not 0.0 <= column < cols - 1:
                    continue
                left = np.int64(column)
                weight = 1.0 / (depth * depth)
                right_share = np.float32((column - left) * weight)
                left_share = np.float32(weight) - right_share
                out = result[view & 1, j, i]
                for k in range(trials):
                    out[k] += left_share * filtered[view, left, k] + right_share * filtered[view, left + 1, k]


def field_of_view(cols: int, share: float) -> np.ndarray:
    """(y, x) bool: the disc around the axis with `share` of the slice's half width."""
    x = np.arange(cols) - (cols - 1) / 2
    return x[:, None] ** 2 + x[None] ** 2 < (share * cols / 2) ** 2


def gradient_energy(images: np.ndarray) -> np.ndarray:
    """Mean squared gradient inside the field of view; (..., y, x) to (...). Large for single, steep edges."""
    along_x = 0.5 * (images[..., 1:-1, 2:] - images[..., 1:-1, :-2])
    along_y = 0.5 * (images[..., 2:, 1:-1] - images[..., :-2, 1:-1])
    inside = field_of_view(images.shape[-1], JUDGED_SHARE)[1:-1, 1:-1]
    return (along_x**2 + along_y**2)[..., inside].mean(axis=-1, dtype=np.float64)


def grey_range(image: np.ndarray) -> tuple[float, float]:
    """The range of grey values inside the field of view of a slice (y, x), without the rarest, and a margin."""
    low, high = np.quantile(image[field_of_view(image.shape[-1], JUDGED_SHARE)], (0.0005, 0.9995))
    return float(low - 0.05 * (high - low)), float(high + 0.05 * (high - low))


def order(images: np.ndarray, limits: tuple[float, float], *, bins: int = 128) -> np.ndarray:
    """Negative entropy of the grey values inside the field of view, nats; (n, y, x) to (n,). Large for few, pure greys.

    Only values for the same `limits` (the range of the histogram) can be compared.
    """
    inside = field_of_view(images.shape[-1], JUDGED_SHARE)
    counts = np.stack([np.histogram(image[inside].clip(*limits), bins=bins, range=limits)[0] for image in images])
    share = counts / counts.sum(axis=1, keepdims=True)
    return np.sum(share * np.log(np.maximum(share, 1e-12)), axis=1)
