"""The outer form of the bone: periosteal and endosteal walls that vary slowly along the axis, soft tissue around."""

from dataclasses import dataclass

import numpy as np

HARMONICS = 3


@dataclass(frozen=True)
class Wall:
    """A radius that depends on polar angle t and height z: base(t) (1 + sum_k a_k(z) cos kt + b_k(z) sin kt).

    Attributes:
        semi_axes_mm: (x, y) of the ellipse that is the base, mm.
        amplitude, phase, wavelength_mm: (2, HARMONICS + 1) of a_k and b_k, each
            amplitude sin(2 pi z / wavelength + phase).
    """

    semi_axes_mm: tuple[float, float]
    amplitude: np.ndarray
    phase: np.ndarray
    wavelength_mm: np.ndarray

    def radius_mm(self, angle: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
        """Radius at every pair of an angle (any shape, rad) and a height (n,): shape (n, *angle.shape), mm."""
        a, b = self.semi_axes_mm
        base = a * b / np.sqrt((b * np.cos(angle)) ** 2 + (a * np.sin(angle)) ** 2)
        cosines, sines = self._coefficients(np.atleast_1d(z_mm))
        orders = np.arange(HARMONICS + 1)
        waves = np.tensordot(cosines, np.cos(np.multiply.outer(orders, angle)), axes=1)
        waves += np.tensordot(sines, np.sin(np.multiply.outer(orders, angle)), axes=1)
        return base * (1 + waves)

    def _coefficients(self, z_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """a_k(z) and b_k(z), each (n, HARMONICS + 1)."""
        turns = z_mm[:, None, None] / self.wavelength_mm
        values = self.amplitude * np.sin(2 * np.pi * turns + self.phase)
        return values[:, 0], values[:, 1]


def random_wall(
    rng: np.random.Generator, semi_axes_mm: tuple[float, float], *, roughness: float, wavelength_mm: float
) -> Wall:
    """A wall with gentle random bulges.

    Args:
        rng: where they come from.
        semi_axes_mm: of the base ellipse, mm.
        roughness: largest relative amplitude of one harmonic.
        wavelength_mm: typical length along z over which the form changes, mm.
    """
    size = (2, HARMONICS + 1)
    return Wall(
        semi_axes_mm,
        amplitude=roughness * rng.uniform(0.3, 1.0, size),
        phase=rng.uniform(0, 2 * np.pi, size),
        wavelength_mm=wavelength_mm * rng.uniform(0.8, 1.6, size),
    )


@dataclass(frozen=True)
class Shaft:
    """A hollow bone: a periosteal wall and a cortex whose radial thickness varies.

    Attributes:
        outer: the periosteal wall.
        thickness: the cortex' thickness, as a Wall (its base a circle).
    """

    outer: Wall
    thickness: Wall

    def walls_mm(self, angle: np.ndarray, z_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Periosteal and endosteal radius at angles and heights as in `Wall.radius_mm`, mm."""
        outer = self.outer.radius_mm(angle, z_mm)
        return outer, outer - self.thickness.radius_mm(angle, z_mm)

    def walls_at_mm(self, angle: float, z_mm: float) -> tuple[float, float]:
        """Periosteal and endosteal radius at one angle and height, mm."""
        outer, inner = self.walls_mm(np.array([angle]), np.array([z_mm]))
        return outer.item(), inner.item()

    def point_mm(self, angle: float, depth: float, z_mm: float) -> np.ndarray:
        """(x, y, z) at a relative depth in the cortex (0 periosteal, 1 endosteal), mm."""
        outer, inner = self.walls_at_mm(angle, z_mm)
        radius = outer + depth * (inner - outer)
        return np.array([radius * np.cos(angle), radius * np.sin(angle), z_mm])


@dataclass(frozen=True)
class EllipticCylinder:
    """The soft tissue: everything within an upright elliptic cylinder without end.

    Attributes:
        centre_mm: (x, y), mm.
        semi_axes_mm: (x, y), mm.
    """

    centre_mm: tuple[float, float]
    semi_axes_mm: tuple[float, float]

    def chord_mm(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Length inside the cylinder of the line through two points, mm.

        Args:
            source: (..., 3) points, mm.
            target: (..., 3) points, mm.
        """
        scale = np.asarray(self.semi_axes_mm)
        start = (source[..., :2] - self.centre_mm) / scale
        step = (target - source)[..., :2] / scale
        a, b = np.sum(step * step, axis=-1), np.sum(start * step, axis=-1)
        c = np.sum(start * start, axis=-1) - 1
        inside = np.maximum(b * b - a * c, 0)
        return 2 * np.sqrt(inside) / a * np.linalg.norm(target - source, axis=-1)

    def fraction(self, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
        """Share of each pixel of the grid of the given coordinates that lies inside, (y, x)."""
        x, y = np.meshgrid(x_mm - self.centre_mm[0], y_mm - self.centre_mm[1])
        level = np.sqrt((x / self.semi_axes_mm[0]) ** 2 + (y / self.semi_axes_mm[1]) ** 2)
        slope = np.hypot(x / self.semi_axes_mm[0] ** 2, y / self.semi_axes_mm[1] ** 2) / np.maximum(level, 1e-9)
        return covered((1 - level) / np.maximum(slope, 1e-9), x_mm[1] - x_mm[0]).astype(np.float32)


def covered(depth_mm: np.ndarray, voxel_mm: float) -> np.ndarray:
    """Share of a voxel that lies inside a surface `depth_mm` beyond its centre (linear across one voxel)."""
    return np.clip(0.5 + depth_mm / voxel_mm, 0, 1)
