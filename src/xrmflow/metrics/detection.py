"""How many objects were found: one-to-one matching of points, precision, recall and F1."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree


@dataclass(frozen=True)
class PointMatch:
    """A one-to-one matching of found to true points.

    Attributes:
        pairs: (m, 2) indices (found, truth).
        distance: (m,) distance of each pair, in the unit of the points.
        found, truth: how many points there were.
    """

    pairs: np.ndarray
    distance: np.ndarray
    found: int
    truth: int

    @property
    def precision(self) -> float:
        """Matched share of the found points; NaN when nothing was found."""
        return len(self.pairs) / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """Matched share of the true points; NaN when there are none."""
        return len(self.pairs) / self.truth if self.truth else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 2 m / (found + truth); NaN when both sets are empty."""
        return 2 * len(self.pairs) / (self.found + self.truth) if self.found + self.truth else float("nan")


def match_points(found: Any, truth: Any, *, tolerance: float | np.ndarray) -> PointMatch:
    """Match points one to one within a tolerance: as many pairs as possible, then the least total distance.

    Args:
        found: (n, d) coordinates, n >= 0.
        truth: (m, d) coordinates in the same unit, m >= 0.
        tolerance: largest distance of a pair, in that unit; one number, or (m,) one for each true point.

    Raises:
        ValueError: the coordinates have different dimensions or are not finite, or a tolerance is negative.
    """
    found, truth = _points("found", found), _points("truth", truth)
    reach = np.broadcast_to(np.asarray(tolerance, dtype=np.float64), (len(truth),))
    if not (np.isfinite(reach).all() and (reach >= 0).all()):
        raise ValueError(f"tolerance: expected distances of 0 or more, got {tolerance}")
    if len(found) == 0 or len(truth) == 0:
        return PointMatch(np.empty((0, 2), dtype=np.intp), np.empty(0), len(found), len(truth))
    if found.shape[1] != truth.shape[1]:
        raise ValueError(f"found: expected {truth.shape[1]} coordinates a point as in truth, got {found.shape[1]}")
    candidates = _candidates(found, truth, reach)
    pairs = _assign(*candidates, len(found), len(truth))
    return PointMatch(pairs, np.linalg.norm(found[pairs[:, 0]] - truth[pairs[:, 1]], axis=1), len(found), len(truth))


def _points(name: str, values: Any) -> np.ndarray:
    points = np.asarray(values, dtype=np.float64)
    if points.size == 0:
        return points.reshape(0, points.shape[1] if points.ndim == 2 else 0)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise ValueError(f"{name}: expected finite coordinates of shape (points, dimensions), got shape {points.shape}")
    return points


def _candidates(found: np.ndarray, truth: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices (found, truth) and distance of every pair within reach."""
    near = KDTree(found).query_ball_point(truth, reach)
    columns = np.repeat(np.arange(len(truth)), [len(hits) for hits in near])
    rows = np.concatenate([np.asarray(hits, dtype=np.intp) for hits in near])
    return rows, columns, np.linalg.norm(found[rows] - truth[columns], axis=1)


def _assign(rows: np.ndarray, columns: np.ndarray, distance: np.ndarray, n: int, m: int) -> np.ndarray:
    """Solve the assignment cluster by cluster: points out of reach of each other cannot compete."""
    graph = coo_array((np.ones(len(rows)), (rows, n + columns)), shape=(n + m, n + m))
    cluster = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(cluster, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1) if len(order) else []
    pairs = [_assign_cluster(rows[g], columns[g], distance[g]) for g in groups]
    return np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=np.intp)


def _assign_cluster(rows: np.ndarray, columns: np.ndarray, distance: np.ndarray) -> np.ndarray:
    found, row = np.unique(rows, return_inverse=True)
    truth, column = np.unique(columns, return_inverse=True)
    # A pair out of reach costs more than all pairs within reach together: it is taken only where no match is left.
    forbidden = 2.0 * (distance.max() + 1.0) * min(len(found), len(truth)) + 1.0
    cost = np.full((len(found), len(truth)), forbidden)
    cost[row, column] = distance
    i, j = linear_sum_assignment(cost)
    kept = cost[i, j] < forbidden
    return np.stack([found[i[kept]], truth[j[kept]]], axis=1)
