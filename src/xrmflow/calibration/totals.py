"""A second opinion on beam hardening: what a slice absorbs in all is the same from all sides.

Parallel rays through a slice, all of one direction, pass through all of it: without hardening the sum of their line
integrals does not depend on the direction, however the slice is made (the consistency condition of order zero of
Helgason and Ludwig). Hardening makes an oval bone absorb less along its long axis. So the sums T_i of the powers p^i
along direction theta ask for a correction of their own,

    sum over theta and rows of Z (T_1 + k sum_i c_i T_i - <...>) = 0,   i = 2 ... degree

with <.> the mean over directions of a row, and k the share of the correction c that they ask for: one if they agree
with it, nothing for a scan that is not hardened. Z is the sum of (A m)^2, m the segmented object: an instrument without
noise, as in `xrmflow.calibration.cupping`.

Bone that really is denser outside looks like hardening in a slice; here it changes nothing. What this cannot judge is
an object that looks alike from all sides, and one that the detector does not see the whole of. Rows of a cone beam are
taken for fans in planes of their own. Source of the idea: Mou et al., Proc. SPIE 6913 (2008); Tang et al., Proc. SPIE
7961 (2011).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xrmflow.calibration.basis import EDGE_COLS, TRUNCATED_SHARE, Slab
from xrmflow.calibration.homogeneity import BLOCKS, SECTORS
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.reconstruction.weights import scanned_arc, view_angles

# An instrument of fewer standard errors says nothing (F < 10: Staiger & Stock, Econometrica 65, 557 (1997)).
LEAST_STRENGTH = float(np.sqrt(10))


@dataclass(frozen=True)
class Totals:
    """Products with Z, summed over cells: a block of rows (of which the mean is taken) and a sector of directions.

    Attributes:
        matrix: (block, sector, degree - 1) with T_2, ...
        right: (block, sector) with T_1.
    """

    matrix: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, slab: Slab, modelled: Tensor) -> "Totals | None":
        """Of a scan, with the line integrals (view, row, col) of its segmented object.

        None where slices are not seen as a whole: the object reaches beyond the detector, or its rays leave the slab.
        """
        rows = slab.whole_rows()
        if rows.stop <= rows.start:
            return None
        images = np.stack([_blocks(image[:, rows]) for image in (modelled, modelled**2, *slab.powers)])
        directions, profiles = parallel_profiles(images, slab.geometry)
        if len(directions) < 2 * SECTORS or _cut_off(profiles[2]):
            return None
        sums = profiles.sum(axis=-1, dtype=np.float64)
        known, first, *higher = _unexplained(sums[1:], sums[0])
        sector = np.minimum((np.remainder(directions, np.pi) / np.pi * SECTORS).astype(int), SECTORS - 1)

        def summed(values: np.ndarray) -> np.ndarray:
            return np.stack([np.bincount(sector, product, SECTORS) for product in (known * values).T])

        return cls(np.stack([summed(power) for power in higher], axis=-1), summed(first))

    @classmethod
    def joined(cls, parts: "Sequence[Totals]") -> "Totals":
        """Those of several scans, side by side."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("matrix", "right")))

    def share(self, coefficients: Sequence[float]) -> tuple[float, float] | None:
        """The share k of a correction 1, c_2, ... that the sums ask for, and its standard deviation.

        None where they cannot tell, because they hardly depend on the direction.
        """
        matrix = self.matrix @ np.asarray(coefficients[1:])
        strength = float(matrix.sum())
        if not abs(strength) > LEAST_STRENGTH * _deviation(matrix - matrix.mean()):
            return None
        share = -float(self.right.sum()) / strength
        return share, _deviation(self.right + share * matrix) / abs(strength)


def _deviation(cells: np.ndarray) -> float:
    """Standard deviation of the sum of cells (block, sector) that sum to nothing, clustered both ways."""
    blocks, sectors = (float((cells.sum(axis=axis) ** 2).sum()) for axis in (1, 0))
    return float(np.sqrt(max(blocks + sectors - float((cells**2).sum()), blocks, sectors)))


def _unexplained(sums: np.ndarray, of_model: np.ndarray) -> np.ndarray:
    """What of sums (power, direction, block) depends on the direction, but not as those of a model (direction, block).

    The model's are those of p itself: they ought to be the same from all sides, and are not quite, because its voxels
    have edges and rays are sampled. In simulated scans p shares that.
    """
    varying, pattern = (values - values.mean(axis=-2, keepdims=True) for values in (sums, of_model))
    size = np.maximum((pattern**2).sum(axis=0), np.finfo(float).tiny)
    return varying - pattern * ((varying * pattern).sum(axis=-2, keepdims=True) / size)


def _blocks(image: Tensor) -> np.ndarray:
    """Mean over the rows of each block: (view, block, col); as many blocks as rows where there are fewer of those."""
    parts = torch.tensor_split(image, min(BLOCKS, image.shape[1]), dim=1)
    return torch.stack([part.mean(dim=1) for part in parts], dim=1).cpu().numpy()


def _cut_off(profiles: np.ndarray) -> bool:
    """Whether an object reaches beyond either end of its profiles (direction, row, place), in any direction."""
    mean = profiles.mean(axis=1)
    ends = max(mean[:, :EDGE_COLS].mean(axis=1).max(), mean[:, -EDGE_COLS:].mean(axis=1).max())
    return bool(ends > TRUNCATED_SHARE * mean.mean(axis=0).max())


def parallel_profiles(images: np.ndarray, geometry: ScanGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Fans sorted into parallel rays, by linear interpolation between rays and between views.

    Args:
        images: (image, view, row, col) several images of the same views.
        geometry: of these views and columns.

    Returns:
        Directions (direction,) of the rays, rad, and (image, direction, row, place) what they measured at equal steps
        across the axis. Directions of which some rays were not measured (at the ends of a short scan) are left out.
    """
    rays = _rays(geometry)
    angles = view_angles(geometry).cpu().numpy()
    arc = scanned_arc(view_angles(geometry))
    start, round_ = (0.0, True) if arc is None else (arc[0], False)
    since = np.remainder(angles - start, 2 * np.pi)
    order = np.argsort(since, kind="stable")
    since, column, turned = since[order], rays[0][order], since[order, None] + rays[1][order]
    directions = since if round_ else since[(since >= turned[0].max()) & (since <= turned[-1].min())]
    # (view, col, image, row): what is picked together lies together.
    pixels = np.ascontiguousarray(images.transpose(1, 3, 0, 2))[order]
    views = np.arange(len(order))
    profiles = np.empty((images.shape[0], len(directions), images.shape[2], column.shape[1]), np.float32)
    for place in range(column.shape[1]):
        lower = np.minimum(column[:, place].astype(int), images.shape[3] - 2)
        part = (column[:, place] - lower).astype(np.float32)[:, None, None]
        seen = (1 - part) * pixels[views, lower] + part * pixels[views, lower + 1]
        profiles[..., place] = _at(directions, turned[:, place], seen, round_=round_).swapaxes(0, 1)
    return directions + start, profiles


def _at(directions: np.ndarray, turned: np.ndarray, seen: np.ndarray, *, round_: bool) -> np.ndarray:
    """Values (view, ...) of rays of growing direction (view,), interpolated at directions; all the way round or not."""
    views = len(turned)
    turns = (-1, 0, 1) if round_ else (0,)
    known = np.concatenate([turned + 2 * np.pi * turn for turn in turns])
    number = np.concatenate([np.arange(views) + views * turn for turn in turns])
    at = np.interp(directions, known, number)
    lower = np.floor(at).astype(int)
    part = (at - lower).astype(seen.dtype).reshape(-1, *[1] * (seen.ndim - 1))
    upper = lower + 1 if round_ else np.minimum(lower + 1, views - 1)
    return (1 - part) * seen[lower % views] + part * seen[upper % views]


def _rays(geometry: ScanGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Of the middle row: (view, place) the column of the ray at each place across the axis, and how far it is turned.

    Places are as many as columns, at equal steps as far as every view reaches on both sides of the axis; turned is the
    angle against the direction from the source to the axis, rad.
    """
    steps = torch.arange(geometry.cols, dtype=torch.float64, device=geometry.u.device) - (geometry.cols - 1) / 2
    pixel = geometry.detector[:, None] + steps[:, None] * geometry.u[:, None]
    fan = geometry.beam != "parallel"
    origin = (geometry.source[:, None] if fan else pixel).expand_as(pixel)
    along = pixel - origin if fan else geometry.source[:, None].expand_as(pixel)
    away = (origin[..., 0] * along[..., 1] - origin[..., 1] * along[..., 0]) / along[..., :2].norm(dim=-1)
    turned = torch.atan2(along[..., 1], along[..., 0]) - view_angles(geometry)[:, None]
    turned = torch.remainder(turned + torch.pi, 2 * torch.pi) - torch.pi
    away, turned = away.cpu().numpy(), turned.cpu().numpy()
    away = away * np.sign(away[:1, -1:] - away[:1, :1])
    reach = (1 - 1e-6) * float(np.minimum(-away[:, 0], away[:, -1]).min())
    places = np.linspace(-reach, reach, geometry.cols)
    number = np.arange(geometry.cols, dtype=np.float64)
    column = np.stack([np.interp(places, of_view, number) for of_view in away])
    at = np.stack([np.interp(c, number, of_view) for c, of_view in zip(column, turned, strict=True)])
    return column, at
