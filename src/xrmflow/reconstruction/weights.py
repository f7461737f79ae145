"""Weights of the filtered backprojection: obliquity, angular steps, redundancy.

All are found from the per-view vectors, so they hold for shifted, rolled and tilted detectors and for uneven angles,
and gradients flow to the vectors (what is decided about a scan, such as which views are redundant, has none).
"""

import math

import torch
from torch import Tensor

from xrmflow.geometry.scan import ScanGeometry

# A gap this many times the median step, and this large, means that the scan does not go all the way round.
MISSING_STEPS, MISSING_RAD = 3.0, math.radians(0.5)
# Angles closer than this are repeats of one.
SAME_RAD = 1e-9
# A full turn counts as taken with an offset detector where the rows reach this much less far on one side of the axis.
# Below it both sides are taken as equal, which gives less noise; the axis is then within 6 % of the width off middle.
OFFSET_REACH = 0.8
# Arcs shorter than this many degrees show edges in part of all directions only; a little less than half a turn passes.
LEAST_ARC_DEG = 170.0


def cosine_weights(geometry: ScanGeometry, dtype: torch.dtype = torch.float32, *, rows: slice = slice(None)) -> Tensor:
    """Cosine of the angle between each pixel's ray and the horizontal central ray, of some rows: (view, row, col).

    On a detector facing the source this is SDD / sqrt(SDD^2 + u^2 + v^2); 1 for parallel rays.
    """
    if geometry.beam == "parallel":
        return torch.ones((geometry.views, 1, 1), dtype=dtype, device=geometry.source.device)
    corner, towards, _ = _frame(geometry)
    columns = torch.arange(geometry.cols, dtype=corner.dtype, device=corner.device)
    row = torch.arange(geometry.rows, dtype=dtype, device=corner.device)[rows, None]
    # Lengths relative to row 0 of each column, so that float32 will do; polynomials in the row, so that it is quick.
    foot = corner[:, None, :] + columns[:, None] * geometry.u[:, None, :]
    squared = (foot**2).sum(dim=-1)
    length, v = squared.sqrt(), geometry.v[:, None, :]
    ahead = [(foot * towards[:, None, :]).sum(-1) / length, (v * towards[:, None, :]).sum(-1) / length]
    norm = [2 * (foot * v).sum(-1) / squared, (v**2).sum(-1) / squared]
    a, b, c, d = (values[:, None, :].to(dtype) for values in (*ahead, *norm))
    return (a + row * b) * torch.rsqrt(1 + row * (c + row * d))


def view_weights(geometry: ScanGeometry) -> Tensor:
    """Angular step times redundancy over virtual pixel pitch, per view and column: (view, col) float64, per mm.

    With them, sum over views of ramp_filter(cosine * weight * p) at unit pitch, over U^2, is the attenuation per mm.
    Redundancy: one half for a full turn, `parker` for a shorter one, `wang` for a full turn with an offset detector.

    Raises:
        ValueError: fewer than two views, or sources on the rotation axis.
    """
    if geometry.views < 2:
        raise ValueError(f"geometry: expected at least 2 views to reconstruct from, got {geometry.views}")
    angles = view_angles(geometry)
    pitch = _virtual_pitch(geometry)
    if is_offset(geometry):
        weights = angular_steps(angles, 2 * math.pi)[:, None] * wang(_from_axis(geometry))
    elif geometry.beam == "parallel":
        weights = angular_steps(angles, math.pi)[:, None].expand(-1, geometry.cols)
    elif (arc := scanned_arc(angles)) is None:
        weights = (0.5 * angular_steps(angles, 2 * math.pi))[:, None].expand(-1, geometry.cols)
    else:
        start, span = arc
        weights = angular_steps(angles, 2 * math.pi)[:, None] * parker(
            torch.remainder(angles - start, 2 * math.pi)[:, None], fan_angles(geometry), span
        )
    return weights / pitch[:, None]


def view_angles(geometry: ScanGeometry) -> Tensor:
    """Angle of the direction from source to axis about z, counter-clockwise, rad: (view,), in [0, 2 pi)."""
    direction = geometry.source if geometry.beam == "parallel" else -geometry.source
    if not bool((direction[:, :2].norm(dim=1) > 0).all()):
        raise ValueError("geometry: expected rays across the rotation axis, got a view along it")
    return torch.remainder(torch.atan2(direction[:, 1], direction[:, 0]), 2 * math.pi)


def angular_steps(angles: Tensor, period: float) -> Tensor:
    """The part of the period each angle stands for: half the way to both of its neighbours, rad.

    The steps add up to the period, unless part of it was not scanned: across the widest gap, where it is several times
    the median step, a view counts half a median step.
    """
    wrapped = torch.remainder(angles, period)
    # Angles a rounding error below the period belong to its start.
    wrapped = torch.where(period - wrapped < 1e-9, wrapped - period, wrapped)
    order = torch.argsort(wrapped, stable=True)
    gaps = _gaps(wrapped[order], period)
    median, widest = _median_step(gaps), int(torch.argmax(gaps))
    if _is_missing(gaps[widest], median):
        gaps[widest] = median
    steps = torch.empty_like(gaps)
    steps[order] = 0.5 * (gaps + gaps.roll(1))
    return steps


def scanned_arc(angles: Tensor) -> tuple[float, float] | None:
    """Start and length in rad of the scanned arc, each view standing for its angular step; None for a full turn."""
    wrapped = torch.sort(torch.remainder(angles.detach(), 2 * math.pi)).values
    gaps = _gaps(wrapped, 2 * math.pi)
    median, widest = _median_step(gaps), int(torch.argmax(gaps))
    if not _is_missing(gaps[widest], median):
        return None
    start = float(wrapped[(widest + 1) % len(wrapped)] - 0.5 * median)
    return start, float(2 * math.pi - gaps[widest] + median)


def limited_arc_deg(geometry: ScanGeometry) -> float | None:
    """Length in degrees of a scanned arc that falls short of half a turn; None for half a turn and more.

    What filtered backprojection makes of such an arc does not show its own projections, however right the geometry.
    """
    angles = view_angles(geometry)
    if geometry.views > 1 and bool(_gaps(torch.sort(angles).values, 2 * math.pi)[:-1].max() < SAME_RAD):
        return 0.0
    arc = scanned_arc(angles)
    return None if arc is None or math.degrees(arc[1]) >= LEAST_ARC_DEG else math.degrees(arc[1])


def parker(angles: Tensor, fan: Tensor, span: float) -> Tensor:
    """Short-scan weights: opposite measurements of a ray add up to 1 (Parker, Med. Phys. 9, 1982, eq. 12).

    The fan angle of the formula is replaced by half of what the arc exceeds pi, so that all of a longer arc is used.

    Args:
        angles: from the start of the arc, rad, broadcastable to `fan`.
        fan: fan angle of each ray, counter-clockwise, rad.
        span: length of the arc, rad, between pi and 2 pi.

    Returns:
        Weights in [0, 1]. An arc shorter than pi plus the fan leaves rays unmeasured, which no weight can mend.
    """
    extra = max(0.5 * (span - math.pi), 1e-6)
    # A ray at (angle, fan) is measured again, in reverse, at (angle + pi + 2 fan, -fan).
    rise = torch.sin(0.25 * math.pi * angles / (extra - fan).clamp(min=1e-9)) ** 2
    fall = torch.sin(0.25 * math.pi * (span - angles) / (extra + fan).clamp(min=1e-9)) ** 2
    weights = torch.ones_like(rise)
    weights = torch.where(angles < 2 * (extra - fan), rise, weights)
    weights = torch.where(angles > math.pi - 2 * fan, fall, weights)
    return torch.where((angles < 0) | (angles > span), torch.zeros_like(weights), weights)


def is_offset(geometry: ScanGeometry) -> bool:
    """Whether this is a full turn whose detector reaches clearly less far on one side of the axis (`OFFSET_REACH`).

    Judged from the geometry alone: `wang` is right whether or not the object reaches beyond the near edge.
    """
    if geometry.views < 2 or scanned_arc(view_angles(geometry)) is not None:
        return False
    low, high = _reach(_from_axis(geometry))
    return min(low, high) < OFFSET_REACH * max(low, high)


def wang(position: Tensor) -> Tensor:
    """Weights of a full turn with an offset detector: opposite measurements of a ray add up to 1.

    1/2 (1 + sin(pi position / (2 overlap))) where both sides of the axis are seen, 1 beyond, 0 where only the other
    side of the scan is used; rising towards the side that reaches further (G. Wang, Med. Phys. 29, 2002, eq. 9).

    Args:
        position: (view, col) signed fan angle (parallel: distance) of each column from the axis.

    Returns:
        (view, col) in [0, 1]. The overlap is what all views see of the nearer side.
    """
    low, high = _reach(position)
    overlap = max(min(low, high), 1e-9 * max(low, high))
    towards = position if high >= low else -position
    return 0.5 * (1 + torch.sin(0.5 * math.pi * (towards / overlap).clamp(-1, 1)))


def missing_columns(geometry: ScanGeometry) -> tuple[int, int]:
    """Columns to add before and after, so that an offset detector reaches equally far on both sides; else (0, 0).

    They hold no data, but filtered rows do not end where the data do, and what lies beyond is part of the
    backprojection.
    """
    if not is_offset(geometry):
        return 0, 0
    _, _, across = _frame(geometry)
    middle = geometry.detector - (geometry.source if geometry.beam == "cone" else 0)
    axis = (geometry.cols - 1) / 2 - (middle * across).sum(1) / (geometry.u * across).sum(1)
    before = math.ceil(geometry.cols - 1 - 2 * float(axis.detach().min()) - 1e-6)
    after = math.ceil(2 * float(axis.detach().max()) - (geometry.cols - 1) - 1e-6)
    return max(0, before), max(0, after)


def _reach(position: Tensor) -> tuple[float, float]:
    """How far every view sees on the negative and on the positive side of the axis."""
    position = position.detach()
    return -float(position.amin(dim=1).max()), float(position.amax(dim=1).min())


def _from_axis(geometry: ScanGeometry) -> Tensor:
    """Fan angle of each column, rad, or for a parallel beam its distance from the axis, mm: (view, col)."""
    if geometry.beam == "cone":
        return fan_angles(geometry)
    _, _, across = _frame(geometry)
    columns = torch.arange(geometry.cols, dtype=across.dtype, device=across.device) - (geometry.cols - 1) / 2
    return (geometry.detector * across).sum(1)[:, None] + (geometry.u * across).sum(1)[:, None] * columns


def fan_angles(geometry: ScanGeometry) -> Tensor:
    """Angle in the (x, y) plane between the ray to each column (mid height) and the ray to the axis, rad: (view, col).

    Counter-clockwise seen from +z.
    """
    corner, towards, across = _frame(geometry)
    middle = corner + geometry.v * ((geometry.rows - 1) / 2)
    columns = torch.arange(geometry.cols, dtype=corner.dtype, device=corner.device)
    ahead = (middle * towards).sum(1)[:, None] + (geometry.u * towards).sum(1)[:, None] * columns
    aside = (middle * across).sum(1)[:, None] + (geometry.u * across).sum(1)[:, None] * columns
    return torch.atan2(aside, ahead)


def _frame(geometry: ScanGeometry) -> tuple[Tensor, Tensor, Tensor]:
    """Vector from source to pixel (0, 0), and horizontal unit vectors towards the axis and 90 degrees to its left."""
    corner = geometry.detector - geometry.u * ((geometry.cols - 1) / 2) - geometry.v * ((geometry.rows - 1) / 2)
    direction = geometry.source if geometry.beam == "parallel" else -geometry.source
    if geometry.beam == "cone":
        corner = corner - geometry.source
    towards = direction * direction.new_tensor([1.0, 1.0, 0.0])
    towards = towards / towards.norm(dim=1, keepdim=True)
    across = torch.stack([-towards[:, 1], towards[:, 0], torch.zeros_like(towards[:, 0])], dim=1)
    return corner, towards, across


def _virtual_pitch(geometry: ScanGeometry) -> Tensor:
    """Distance between columns, seen at the rotation axis, mm: (view,)."""
    corner, towards, across = _frame(geometry)
    aside = (geometry.u * across).sum(1).abs()
    if geometry.beam == "parallel":
        return aside
    normal = torch.linalg.cross(geometry.u, geometry.v)
    ahead = (corner * normal).sum(1) / (towards * normal).sum(1)
    return aside * geometry.source[:, :2].norm(dim=1) / ahead


def _gaps(ordered: Tensor, period: float) -> Tensor:
    """From each angle to the next, the last to the first a period on."""
    return torch.cat([ordered[1:], ordered[:1] + period]) - ordered


def _median_step(gaps: Tensor) -> Tensor:
    """Median of the gaps that are not repeats of an angle."""
    return gaps[gaps > SAME_RAD].median()


def _is_missing(gap: Tensor, median: Tensor) -> bool:
    return bool((gap > MISSING_STEPS * median) & (gap > median + MISSING_RAD))
