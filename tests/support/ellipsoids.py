"""An object whose line integrals are exact: a tall ellipsoid with smaller ones in it, some of them holes."""

import numpy as np

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.analytic import project_ellipsoid


def line_integrals(acquisition: Acquisition, noise: float = 0.0) -> np.ndarray:
    """(view, row, col) float32 of the object, 0.6 mm wide and 1.2 mm tall, with normal noise of that deviation."""
    rng, geometry = np.random.default_rng(0), scan_geometry(acquisition)
    total = project_ellipsoid(geometry, centre_mm=(0, 0, 0), semi_axes_mm=(0.3, 0.26, 0.6), attenuation_per_mm=1.0)
    for _ in range(16):
        angle, distance = rng.uniform(0, 2 * np.pi), 0.2 * np.sqrt(rng.uniform())
        total += project_ellipsoid(
            geometry,
            centre_mm=(distance * np.cos(angle), distance * np.sin(angle), rng.uniform(-0.3, 0.3)),
            semi_axes_mm=tuple(rng.uniform(0.03, 0.08, 3)),
            turn_rad=rng.uniform(0, 3),
            attenuation_per_mm=rng.choice([-1.0, 2.0]),
        )
    return total.numpy().astype(np.float32) + rng.normal(0, noise, total.shape).astype(np.float32)
