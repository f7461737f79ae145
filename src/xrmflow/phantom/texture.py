"""Smooth random fields: the trabecular network and the mineral's variation are read off them."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

KNOTS_PER_WAVELENGTH = 5


@dataclass(frozen=True)
class SmoothField:
    """A random field with zero mean and unit variance, defined at every point of a box.

    Attributes:
        knots: (z, y, x) values on a regular grid fine enough for cubic interpolation.
        origin_mm: (x, y, z) of knot (0, 0, 0), mm.
        step_mm: distance of the knots, mm.
    """

    knots: np.ndarray
    origin_mm: np.ndarray
    step_mm: float

    def on_grid(self, x_mm: np.ndarray, y_mm: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
        """Values on the grid of the given coordinates, (z, y, x), by separable cubic splines."""
        values = self.knots
        for axis, (points, origin) in enumerate(zip((z_mm, y_mm, x_mm), self.origin_mm[::-1], strict=True)):
            weights = _spline_weights(values.shape[axis], (points - origin) / self.step_mm)
            values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
        return values

    def gradient_per_mm(self) -> "SmoothField":
        """Magnitude of the gradient, 1/mm, as another field (from differences between knots)."""
        slopes = np.gradient(self.knots, self.step_mm)
        magnitude = np.sqrt(sum(np.square(slope) for slope in slopes)).astype(np.float32)
        return SmoothField(magnitude, self.origin_mm, self.step_mm)


def banded_field(
    rng: np.random.Generator,
    *,
    lower_mm: np.ndarray,
    upper_mm: np.ndarray,
    wavelength_mm: float,
    bandwidth: float = 0.25,
    stretch_z: float = 1.0,
) -> SmoothField:
    """White noise filtered to a shell of wave vectors around 2 pi / wavelength, as a "levelled wave" (Berk 1987) has.

    Its level sets are networks of plates and rods of one typical spacing.

    Args:
        rng: where the noise comes from.
        lower_mm: (x, y, z) lower corner of the box to cover, mm.
        upper_mm: its upper corner, mm.
        wavelength_mm: typical spacing, mm.
        bandwidth: relative width of the shell.
        stretch_z: how much longer structures are along z.
    """
    step = wavelength_mm / KNOTS_PER_WAVELENGTH
    shape = [int(np.ceil((b - a) / step)) + 3 for a, b in zip(lower_mm[::-1], upper_mm[::-1], strict=True)]
    spectrum = np.fft.rfftn(rng.standard_normal(shape, dtype=np.float32))
    kz, ky, kx = np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])
    radius = np.sqrt((kz * stretch_z)[:, None, None] ** 2 + ky[:, None] ** 2 + kx**2) * KNOTS_PER_WAVELENGTH
    values = np.fft.irfftn(spectrum * np.exp(-0.5 * ((radius - 1) / bandwidth) ** 2), s=shape, axes=(0, 1, 2))
    values = ((values - values.mean()) / values.std()).astype(np.float32)
    return SmoothField(values, lower_mm - step, step)


def _spline_weights(knots: int, positions: np.ndarray) -> np.ndarray:
    """(point, knot) weights of cubic spline interpolation at positions counted in knots."""
    return CubicSpline(np.arange(knots), np.eye(knots, dtype=np.float64))(positions).astype(np.float32)
