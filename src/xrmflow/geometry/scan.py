"""The acquisition as per-view vectors, in the cone-vec convention, as a differentiable value.

Conventions are stated in `xrmflow.geometry.acquisition`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xrmflow.geometry.acquisition import Acquisition, Beam


@dataclass(frozen=True)
class ScanGeometry:
    """Where source and detector are in each view, mm.

    Attributes:
        beam: "cone" or "parallel".
        source: (view, 3) source position; for a parallel beam the direction in which the rays travel (unit length).
        detector: (view, 3) centre of the detector grid, i.e. of pixel ((rows - 1) / 2, (cols - 1) / 2).
        u: (view, 3) step from one column to the next.
        v: (view, 3) step from one row to the next.
        rows, cols: detector size, pixels.
    """

    beam: Beam
    source: Tensor
    detector: Tensor
    u: Tensor
    v: Tensor
    rows: int
    cols: int

    def __post_init__(self) -> None:
        if self.beam not in ("cone", "parallel"):
            raise ValueError(f"beam: expected 'cone' or 'parallel', got {self.beam!r}")
        views = self.source.shape[0] if self.source.ndim == 2 else -1
        for name in ("source", "detector", "u", "v"):
            vectors = getattr(self, name)
            if tuple(vectors.shape) != (views, 3):
                raise ValueError(f"{name}: expected shape (view, 3) = ({views}, 3), got {tuple(vectors.shape)}")
            if not torch.isfinite(vectors).all():
                raise ValueError(f"{name}: expected finite vectors, got NaN or infinity")
        if self.rows < 1 or self.cols < 1:
            raise ValueError(f"rows, cols: expected at least 1 pixel each, got {self.rows} x {self.cols}")

    @property
    def views(self) -> int:
        """Number of views."""
        return self.source.shape[0]

    def with_views(self, selection: slice | Tensor) -> "ScanGeometry":
        """The same scan restricted to some views."""
        parts = {name: getattr(self, name)[selection] for name in ("source", "detector", "u", "v")}
        return replace(self, **parts)

    def with_rows(self, rows: slice) -> "ScanGeometry":
        """The same scan seen by a window of detector rows."""
        start, stop, _ = rows.indices(self.rows)
        moved = self.detector + self.v * ((start + stop - 1) / 2 - (self.rows - 1) / 2)
        return replace(self, detector=moved, rows=stop - start)

    def widened(self, before: int, after: int) -> "ScanGeometry":
        """The same scan on a detector with this many columns more, before the first and after the last."""
        return replace(self, detector=self.detector + self.u * ((after - before) / 2), cols=before + self.cols + after)


def scan_geometry(
    acquisition: Acquisition,
    *,
    centre_px: Tensor | float | None = None,
    roll_deg: Tensor | float | None = None,
    tilt_deg: Tensor | float | None = None,
    slant_deg: Tensor | float | None = None,
    skew_deg: Tensor | float | None = None,
    shifts_px: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> ScanGeometry:
    """Vectors of a circular scan; parameters given as tensors stay differentiable and replace the record's.

    Args:
        acquisition: the record.
        centre_px: replaces that of the record.
        roll_deg: likewise.
        tilt_deg: likewise.
        slant_deg: likewise.
        skew_deg: likewise.
        shifts_px: (view, 2) image shifts (u, v) replacing those of the record.
        dtype: of the vectors. Keep float64: differences of large distances matter at micrometre voxels.
        device: of the vectors.

    Returns:
        The geometry with the detector displaced so that the axis projects onto `centre_px`, `midplane_px`.
    """

    def parameter(given: Tensor | float | None, recorded: float) -> Tensor:
        return torch.as_tensor(recorded if given is None else given, dtype=dtype, device=device)

    angles = torch.deg2rad(torch.tensor(acquisition.angles_deg, dtype=dtype, device=device))
    sine, cosine, zero = torch.sin(angles), torch.cos(angles), torch.zeros_like(angles)
    away = torch.stack([-sine, cosine, zero], dim=1)
    along_u, along_v = _detector_axes(
        torch.stack([cosine, sine, zero], dim=1),
        away,
        roll=torch.deg2rad(parameter(roll_deg, acquisition.roll_deg)),
        tilt=torch.deg2rad(parameter(tilt_deg, acquisition.tilt_deg)),
        slant=torch.deg2rad(parameter(slant_deg, acquisition.slant_deg)),
        skew=torch.deg2rad(parameter(skew_deg, acquisition.skew_deg)),
    )
    u, v = along_u * acquisition.pixel_mm, along_v * acquisition.pixel_mm
    shifts = torch.as_tensor(acquisition.shifts_px if shifts_px is None else shifts_px, dtype=dtype, device=device)
    # A feature recorded at column c + shift was ideally at c: the detector sits `shift` pixels further back.
    columns = (acquisition.cols - 1) / 2 - parameter(centre_px, acquisition.centre_px) - shifts[:, 0]
    rows = (acquisition.rows - 1) / 2 - acquisition.midplane_px - shifts[:, 1]
    offset = columns[:, None] * u + rows[:, None] * v
    if acquisition.beam == "parallel":
        still = ScanGeometry("parallel", away, offset, u, v, acquisition.rows, acquisition.cols)
        return _with_motion(still, acquisition)
    to_axis, to_detector = float(acquisition.source_to_axis_mm or 0), float(acquisition.source_to_detector_mm or 0)
    source, detector = -away * to_axis, away * (to_detector - to_axis) + offset
    still = ScanGeometry("cone", source, detector, u, v, acquisition.rows, acquisition.cols)
    return _with_motion(still, acquisition)


def moved(geometry: ScanGeometry, *, shift_mm: Tensor, turn_deg: Tensor) -> ScanGeometry:
    """The scan as seen by an object that itself moves x -> R x + t: source and detector move the inverse way.

    Args:
        geometry: the scan.
        shift_mm: t, (3,) or (view, 3) along x, y, z; gradients flow to it.
        turn_deg: R as a rotation vector (axis times angle) about the origin, degrees, (3,) or (view, 3); likewise.

    Raises:
        ValueError: other shapes.
    """
    shift, turn = (_vectors(name, value, geometry) for name, value in (("shift_mm", shift_mm), ("turn_deg", turn_deg)))
    back = torch.linalg.matrix_exp(cross_matrix(-torch.deg2rad(turn)))

    def turned(vectors: Tensor) -> Tensor:
        return (back @ vectors[:, :, None])[:, :, 0]

    source = geometry.source - shift if geometry.beam == "cone" else geometry.source
    return replace(
        geometry,
        source=turned(source),
        detector=turned(geometry.detector - shift),
        u=turned(geometry.u),
        v=turned(geometry.v),
    )


def cross_matrix(a: Tensor) -> Tensor:
    """(view, 3, 3) matrices of the cross product with a (view, 3)."""
    x, y, z = a.unbind(dim=1)
    zero = torch.zeros_like(x)
    rows = [torch.stack(row, dim=1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return torch.stack(rows, dim=1)


def _vectors(name: str, value: Tensor, geometry: ScanGeometry) -> Tensor:
    given = torch.as_tensor(value, dtype=geometry.source.dtype, device=geometry.source.device)
    if given.shape not in ((3,), (geometry.views, 3)):
        raise ValueError(f"{name}: expected shape (3,) or ({geometry.views}, 3), got {tuple(given.shape)}")
    return given.expand(geometry.views, 3)


def _with_motion(still: ScanGeometry, acquisition: Acquisition) -> ScanGeometry:
    """As an object that moves as the acquisition says sees the scan."""
    if not (acquisition.object_shift_mm or acquisition.object_turn_deg):
        return still
    motion = torch.from_numpy(acquisition.object_motion)
    return moved(still, shift_mm=motion[:, :3], turn_deg=motion[:, 3:])


def _detector_axes(
    u: Tensor, away: Tensor, *, roll: Tensor, tilt: Tensor, slant: Tensor, skew: Tensor
) -> tuple[Tensor, Tensor]:
    """Unit vectors along columns and rows after slant (about v), tilt (about u), and skew and roll in the plane."""
    v = torch.zeros_like(u)
    v[:, 2] = 1.0
    u, away = torch.cos(slant) * u + torch.sin(slant) * away, torch.cos(slant) * away - torch.sin(slant) * u
    v = torch.cos(tilt) * v + torch.sin(tilt) * away
    lean = roll + skew
    return torch.cos(roll) * u + torch.sin(roll) * v, torch.cos(lean) * v - torch.sin(lean) * u


def check_projections(shape: Sequence[int], scan: Acquisition | ScanGeometry) -> None:
    """Raise ValueError unless projections of this shape are (view, row, col) of a scan."""
    expected = (scan.views, scan.rows, scan.cols)
    if tuple(shape) != expected:
        raise ValueError(f"projections: expected shape (view, row, col) = {expected}, got {tuple(shape)}")
