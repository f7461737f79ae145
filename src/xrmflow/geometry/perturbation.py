"""What a real scanner does to an ideal scan: shifts, turns and drifts, composed with any geometry, differentiable.

Every perturbation is one number (or vector) for the whole scan, or one for each view. Vectors have components
(across, along, up) in mm in the frame of the unperturbed view: across = u, up = v made perpendicular to it, and
along = v x u, which points away from the source for detectors that follow `xrmflow.geometry.acquisition`.
"""

from dataclasses import replace

import torch
from torch import Tensor

from xrmflow.geometry.scan import ScanGeometry, cross_matrix

Parameter = Tensor | float


def perturbed(
    geometry: ScanGeometry,
    *,
    source_mm: Tensor | None = None,
    detector_mm: Tensor | None = None,
    centre_px: Parameter = 0.0,
    shifts_px: Tensor | None = None,
    roll_deg: Parameter = 0.0,
    tilt_deg: Parameter = 0.0,
    slant_deg: Parameter = 0.0,
    axis_mm: Tensor | None = None,
    axis_lean_deg: Tensor | None = None,
) -> ScanGeometry:
    """A geometry with its views displaced and turned.

    The detector turns about the point where the horizontal ray across the axis meets it: slant, tilt, roll, in this
    order, as in `scan_geometry`, whose parameters of the same names have the same meaning and sign. Then it is
    displaced within itself by centre and shifts, then by `detector_mm`; last, source and detector together move
    against the axis.

    Args:
        geometry: the scan.
        source_mm: (3,) or (view, 3) displacement of the source, mm; cone beam only.
        detector_mm: likewise of the detector, mm.
        centre_px: displacement of the axis' image along the columns, pixels, () or (view,).
        shifts_px: (2,) or (view, 2) displacement of the recorded images (u, v), pixels.
        roll_deg: turn of the detector about its normal, degrees, () or (view,).
        tilt_deg: likewise about u.
        slant_deg: likewise about v.
        axis_mm: (3,) or (view, 3) displacement of the rotation axis, and the object with it, mm.
        axis_lean_deg: (2,) or (view, 2) by which the axis leans (across, along) about the origin, degrees: its upper
            part moves towards +across and +along.

    Raises:
        ValueError: a parameter of another shape, a source displacement of a parallel beam, a source on the axis.
    """
    if source_mm is not None and geometry.beam == "parallel":
        raise ValueError("source_mm: expected none for a parallel beam, which has no source, got a displacement")
    frame = view_frame(geometry)
    turns = {"slant_deg": slant_deg, "tilt_deg": tilt_deg, "roll_deg": roll_deg}
    angles = [_scalars(name, value, geometry) for name, value in turns.items()]
    turn = _turned(frame, *(torch.deg2rad(a)[:, None] for a in angles)) @ frame.transpose(1, 2)
    foot = _foot(geometry)
    u, v = _apply(turn, geometry.u), _apply(turn, geometry.v)
    shifts = _vectors("shifts_px", shifts_px, geometry, size=2)
    detector = foot + _apply(turn, geometry.detector - foot)
    detector = detector - (_scalars("centre_px", centre_px, geometry) + shifts[:, 0])[:, None] * u - shifts[:, 1:] * v
    detector = detector + _apply(frame, _vectors("detector_mm", detector_mm, geometry))
    source = geometry.source + _apply(frame, _vectors("source_mm", source_mm, geometry))
    moved = replace(geometry, source=source, detector=detector, u=u, v=v)
    if axis_mm is None and axis_lean_deg is None:
        return moved
    lean = torch.deg2rad(_vectors("axis_lean_deg", axis_lean_deg, geometry, size=2))
    return _against_axis(moved, frame, _vectors("axis_mm", axis_mm, geometry), lean)


def spline_drift(coefficients: Tensor, views: int) -> Tensor:
    """A smooth function of time from a few numbers: uniform cubic B-spline, one value for each view.

    The knots are evenly spaced over the scan and the views evenly spaced in time, the first at its start and the last
    at its end: f(t) = sum_i coefficients_i B3(t - i). Equal coefficients c give c; coefficients a + b i give a
    straight line.

    Args:
        coefficients: (n, ...) with n >= 4; gradients flow to them.
        views: number of views.

    Returns:
        (view, ...).

    Raises:
        ValueError: fewer than four coefficients, or no view.
    """
    if len(coefficients) < 4:
        raise ValueError(f"coefficients: expected at least 4 for a cubic spline, got {len(coefficients)}")
    if views < 1:
        raise ValueError(f"views: expected at least 1, got {views}")
    pieces = len(coefficients) - 3
    time = torch.linspace(0, pieces, views, dtype=coefficients.dtype, device=coefficients.device)
    piece = time.floor().clamp(max=pieces - 1)
    t = time - piece
    basis = torch.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3], dim=1) / 6
    near = coefficients[piece.long()[:, None] + torch.arange(4, device=coefficients.device)]
    return torch.einsum("vk,vk...->v...", basis, near)


def view_frame(geometry: ScanGeometry) -> Tensor:
    """Orthonormal (across, along, up) of each view as columns: (view, 3, 3)."""
    across = torch.nn.functional.normalize(geometry.u, dim=1)
    along = torch.nn.functional.normalize(torch.linalg.cross(geometry.v, geometry.u), dim=1)
    return torch.stack([across, along, torch.linalg.cross(across, along)], dim=2)


def _turned(frame: Tensor, slant: Tensor, tilt: Tensor, roll: Tensor) -> Tensor:
    """The frame after slant about up, tilt about across, roll about along; signs as in `scan_geometry`."""
    u, along, v = frame.unbind(dim=2)
    u, along = torch.cos(slant) * u + torch.sin(slant) * along, torch.cos(slant) * along - torch.sin(slant) * u
    v, along = torch.cos(tilt) * v + torch.sin(tilt) * along, torch.cos(tilt) * along - torch.sin(tilt) * v
    u, v = torch.cos(roll) * u + torch.sin(roll) * v, torch.cos(roll) * v - torch.sin(roll) * u
    return torch.stack([u, along, v], dim=2)


def _foot(geometry: ScanGeometry) -> Tensor:
    """Where the horizontal ray through the axis (parallel: the ray through the origin) meets the detector's plane."""
    if geometry.beam == "cone":
        start, direction = geometry.source, -geometry.source * geometry.source.new_tensor([1.0, 1.0, 0.0])
        if not bool((direction.norm(dim=1) > 0).all()):
            raise ValueError("geometry: expected sources away from the rotation axis, got one on it")
    else:
        start, direction = torch.zeros_like(geometry.source), geometry.source
    normal = torch.linalg.cross(geometry.v, geometry.u)
    reach = ((geometry.detector - start) * normal).sum(1) / (direction * normal).sum(1)
    return start + reach[:, None] * direction


def _against_axis(geometry: ScanGeometry, frame: Tensor, shift: Tensor, lean: Tensor) -> ScanGeometry:
    """Where source and detector are for an object that has moved by `shift` and leans: the inverse motion."""
    zero = torch.zeros_like(lean[:, 0])
    # Turning vector of the lean, in the frame: up goes to across about along, and to along about minus across.
    generator = torch.stack([-lean[:, 1], lean[:, 0], zero], dim=1)
    turn = frame @ torch.linalg.matrix_exp(cross_matrix(-generator)) @ frame.transpose(1, 2)
    shift = _apply(frame, shift)
    detector, u, v = _apply(turn, geometry.detector - shift), _apply(turn, geometry.u), _apply(turn, geometry.v)
    source = _apply(turn, geometry.source - shift if geometry.beam == "cone" else geometry.source)
    return replace(geometry, source=source, detector=detector, u=u, v=v)


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _scalars(name: str, value: Parameter, geometry: ScanGeometry) -> Tensor:
    given = torch.as_tensor(value, dtype=geometry.source.dtype, device=geometry.source.device)
    if given.shape not in ((), (geometry.views,)):
        raise ValueError(
            f"{name}: expected one number, or one for each of {geometry.views} views, got shape {tuple(given.shape)}"
        )
    return given.expand(geometry.views)


def _vectors(name: str, value: Tensor | None, geometry: ScanGeometry, *, size: int = 3) -> Tensor:
    if value is None:
        return geometry.source.new_zeros((geometry.views, size))
    given = torch.as_tensor(value, dtype=geometry.source.dtype, device=geometry.source.device)
    if given.shape not in ((size,), (geometry.views, size)):
        raise ValueError(f"{name}: expected shape ({size},) or ({geometry.views}, {size}), got {tuple(given.shape)}")
    return given.expand(geometry.views, size)
