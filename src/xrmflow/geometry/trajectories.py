"""Constructors of scan geometries: circle, parallel, offset detector, helix, any list of views.

All are ideal (detector upright, no shifts) and differentiable in every parameter given as a tensor;
`xrmflow.geometry.perturbation` composes them with what a real scanner does. Conventions are those of
`xrmflow.geometry.acquisition`.
"""

import torch
from torch import Tensor

from xrmflow.geometry.acquisition import Beam
from xrmflow.geometry.scan import ScanGeometry


def circular_cone(
    angles_deg: Tensor,
    *,
    rows: int,
    cols: int,
    pixel_mm: Tensor | float,
    source_to_axis_mm: Tensor | float,
    source_to_detector_mm: Tensor | float,
    centre_px: Tensor | float | None = None,
    midplane_px: Tensor | float | None = None,
) -> ScanGeometry:
    """Source and flat detector on circles about the z axis.

    Args:
        angles_deg: (view,) degrees.
        rows: of the detector, pixels.
        cols: of the detector, pixels.
        pixel_mm: pitch on the detector, mm.
        source_to_axis_mm: mm.
        source_to_detector_mm: mm.
        centre_px: column onto which the axis projects; default the middle.
        midplane_px: row of the source's plane; default the middle.

    Returns:
        The geometry, float64.

    Raises:
        ValueError: lengths that are not positive, a detector before the axis, angles that are not a list.
    """
    angles = _angles(angles_deg)
    pixel = _length("pixel_mm", pixel_mm, angles)
    to_axis = _length("source_to_axis_mm", source_to_axis_mm, angles)
    to_detector = _length("source_to_detector_mm", source_to_detector_mm, angles)
    if bool(to_detector <= to_axis):
        raise ValueError(
            f"source_to_detector_mm: expected more than source_to_axis_mm ({float(to_axis):g}), "
            f"got {float(to_detector):g}"
        )
    across, away, up = _frame(angles)
    u, v = across * pixel, up * pixel
    offset = _offset(u, v, rows=rows, cols=cols, centre_px=centre_px, midplane_px=midplane_px)
    return ScanGeometry("cone", -away * to_axis, away * (to_detector - to_axis) + offset, u, v, rows, cols)


def parallel(
    angles_deg: Tensor,
    *,
    rows: int,
    cols: int,
    pixel_mm: Tensor | float,
    centre_px: Tensor | float | None = None,
    midplane_px: Tensor | float | None = None,
) -> ScanGeometry:
    """Parallel rays across the z axis; arguments as in `circular_cone`. The detector is placed through the axis."""
    angles = _angles(angles_deg)
    across, away, up = _frame(angles)
    pixel = _length("pixel_mm", pixel_mm, angles)
    u, v = across * pixel, up * pixel
    offset = _offset(u, v, rows=rows, cols=cols, centre_px=centre_px, midplane_px=midplane_px)
    return ScanGeometry("parallel", away, offset, u, v, rows, cols)


def offset_detector(
    angles_deg: Tensor,
    *,
    rows: int,
    cols: int,
    pixel_mm: Tensor | float,
    source_to_axis_mm: Tensor | float,
    source_to_detector_mm: Tensor | float,
    offset_px: Tensor | float,
) -> ScanGeometry:
    """A circular cone-beam scan whose detector is moved `offset_px` pixels along +u, to see more of a wide object.

    Over a full turn the field of view grows to the far edge of the detector, as long as the axis stays on it.
    """
    return circular_cone(
        angles_deg,
        rows=rows,
        cols=cols,
        pixel_mm=pixel_mm,
        source_to_axis_mm=source_to_axis_mm,
        source_to_detector_mm=source_to_detector_mm,
        centre_px=(cols - 1) / 2 - torch.as_tensor(offset_px, dtype=torch.float64),
    )


def helical(
    angles_deg: Tensor,
    *,
    rows: int,
    cols: int,
    pixel_mm: Tensor | float,
    source_to_axis_mm: Tensor | float,
    source_to_detector_mm: Tensor | float,
    pitch_mm: Tensor | float,
    centre_px: Tensor | float | None = None,
    midplane_px: Tensor | float | None = None,
) -> ScanGeometry:
    """A circular scan that climbs `pitch_mm` along +z for every turn; its middle angle is at z = 0.

    `pitch_mm` is negative for a scan that descends with growing angle; the other arguments are those of
    `circular_cone`.
    """
    flat = circular_cone(
        angles_deg,
        rows=rows,
        cols=cols,
        pixel_mm=pixel_mm,
        source_to_axis_mm=source_to_axis_mm,
        source_to_detector_mm=source_to_detector_mm,
        centre_px=centre_px,
        midplane_px=midplane_px,
    )
    angles = _angles(angles_deg)
    turns = torch.rad2deg(angles - 0.5 * (angles.min() + angles.max())) / 360
    height = (turns * pitch_mm)[:, None] * flat.source.new_tensor([0.0, 0.0, 1.0])
    return ScanGeometry("cone", flat.source + height, flat.detector + height, flat.u, flat.v, rows, cols)


def per_view(
    beam: Beam, *, source: Tensor, detector: Tensor, u: Tensor, v: Tensor, rows: int, cols: int
) -> ScanGeometry:
    """Any views at all, from their vectors (view, 3) in mm; vectors (3,) serve every view.

    Args:
        beam: "cone" or "parallel".
        source: positions, or for a parallel beam directions of any length.
        detector: centre of the detector grid.
        u: step from one column to the next.
        v: step from one row to the next.
        rows: of the detector, pixels.
        cols: of the detector, pixels.

    Raises:
        ValueError: vectors of other shapes or not finite, a direction of no length.
    """
    given = {"source": source, "detector": detector, "u": u, "v": v}
    for name, vectors in given.items():
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != 3:
            raise ValueError(f"{name}: expected shape (view, 3) or (3,), got {tuple(vectors.shape)}")
    views = max(len(vectors) if vectors.ndim == 2 else 1 for vectors in given.values())
    source, detector, u, v = (
        x.to(torch.float64).expand(views, 3) if x.ndim == 1 else x.to(torch.float64) for x in given.values()
    )
    if beam == "parallel":
        length = source.norm(dim=1, keepdim=True)
        if not bool((length > 0).all()):
            raise ValueError("source: expected directions of some length for a parallel beam, got zero")
        source = source / length
    return ScanGeometry(beam, source, detector, u, v, rows, cols)


def _angles(angles_deg: Tensor) -> Tensor:
    angles = torch.deg2rad(torch.as_tensor(angles_deg, dtype=torch.float64))
    if angles.ndim != 1 or not len(angles):
        raise ValueError(f"angles_deg: expected a list of at least one angle, got shape {tuple(angles.shape)}")
    return angles


def _frame(angles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors across the beam (u), along it, and up (v): (view, 3) each."""
    sine, cosine, zero = torch.sin(angles), torch.cos(angles), torch.zeros_like(angles)
    up = torch.stack([zero, zero, zero + 1], dim=1)
    return torch.stack([cosine, sine, zero], dim=1), torch.stack([-sine, cosine, zero], dim=1), up


def _length(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    length = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if length.ndim != 0 or not bool(torch.isfinite(length)) or bool(length <= 0):
        raise ValueError(f"{name}: expected a positive length in mm, got {value}")
    return length


def _offset(
    u: Tensor, v: Tensor, *, rows: int, cols: int, centre_px: Tensor | float | None, midplane_px: Tensor | float | None
) -> Tensor:
    """From the image of the axis' midpoint to the middle of the detector, mm."""
    columns = 0.0 if centre_px is None else (cols - 1) / 2 - centre_px
    lines = 0.0 if midplane_px is None else (rows - 1) / 2 - midplane_px
    return u * columns + v * lines
