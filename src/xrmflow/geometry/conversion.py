"""Geometries in the words of other toolkits, without loss: the vectors of ASTRA, the parameters of RTK.

ASTRA (`cone_vec`, `parallel3d_vec`) has our convention: (source or ray direction, detector centre, u, v), each x y z.

RTK (`ThreeDCircularProjectionGeometry`, IEC 61217) turns about y: its (x, y, z) is our (x, z, -y). In the frame of a
view, x_view = Rz(-in-plane) Rx(-out-of-plane) Ry(-gantry) x, the source is at (source offset x, y, SID) and the pixel
with physical coordinates (p, q) at (p + projection offset x, q + projection offset y, SID - SDD). Projection images are
taken to have their physical origin in their middle. SDD = 0 says parallel rays, along the detector's normal.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xrmflow.geometry.acquisition import Beam
from xrmflow.geometry.scan import ScanGeometry

# How far from perpendicular u and v (or rays and a parallel detector) may be, relative.
TOLERANCE = 1e-9


def to_astra(geometry: ScanGeometry) -> Tensor:
    """Vectors of ASTRA's cone_vec or parallel3d_vec: (view, 12), mm."""
    return torch.cat([geometry.source, geometry.detector, geometry.u, geometry.v], dim=1)


def from_astra(vectors: Tensor, *, beam: Beam, rows: int, cols: int) -> ScanGeometry:
    """The scan of an ASTRA cone_vec ("cone") or parallel3d_vec ("parallel") array.

    Args:
        vectors: (view, 12), mm.
        beam: "cone" or "parallel".
        rows: of the detector, pixels.
        cols: of the detector, pixels.

    Raises:
        ValueError: another shape, or vectors that are not finite.
    """
    if vectors.ndim != 2 or vectors.shape[1] != 12:
        raise ValueError(f"vectors: expected shape (view, 12), got {tuple(vectors.shape)}")
    source, detector, u, v = vectors.to(torch.float64).split(3, dim=1)
    return ScanGeometry(beam, source, detector, u, v, rows, cols)


@dataclass(frozen=True)
class RtkParameters:
    """A scan in RTK's parameters, one of each a view: (view,) tensors, mm and degrees.

    Attributes:
        sid_mm, sdd_mm: source to isocentre and to detector, along the detector's normal; SDD 0 for parallel rays.
        gantry_angle_deg, out_of_plane_angle_deg, in_plane_angle_deg: the view's frame.
        proj_offset_x_mm, proj_offset_y_mm: of the detector's middle.
        source_offset_x_mm, source_offset_y_mm: of the source.
        spacing_x_mm, spacing_y_mm: of the pixels. RTK has one spacing for all views.
        rows, cols: of the detector, pixels.
    """

    sid_mm: Tensor
    sdd_mm: Tensor
    gantry_angle_deg: Tensor
    proj_offset_x_mm: Tensor
    proj_offset_y_mm: Tensor
    out_of_plane_angle_deg: Tensor
    in_plane_angle_deg: Tensor
    source_offset_x_mm: Tensor
    source_offset_y_mm: Tensor
    spacing_x_mm: Tensor
    spacing_y_mm: Tensor
    rows: int
    cols: int


def to_rtk(geometry: ScanGeometry) -> RtkParameters:
    """RTK's parameters of a scan; differentiable in its vectors.

    Raises:
        ValueError: what RTK cannot say: pixels that are not rectangles, a mirrored detector (u x v away from the
        source), a detector lying flat (out-of-plane angle of 90 degrees), parallel rays not along the normal.
    """
    spacing_x, spacing_y = geometry.u.norm(dim=1), geometry.v.norm(dim=1)
    x, y = geometry.u / spacing_x[:, None], geometry.v / spacing_y[:, None]
    _refuse((x * y).sum(1).abs() > TOLERANCE, "v: expected rows perpendicular to columns")
    view = torch.stack([x, y, torch.linalg.cross(x, y)], dim=1)
    detector = (view @ geometry.detector[:, :, None])[:, :, 0]
    source = (view @ geometry.source[:, :, None])[:, :, 0]
    if geometry.beam == "cone":
        sid, sdd = source[:, 2], source[:, 2] - detector[:, 2]
        _refuse(sdd <= 0, "u, v: expected u x v towards the source")
    else:
        _refuse(source[:, 2] > TOLERANCE - 1, "source: expected parallel rays along v x u")
        sid, sdd, source = detector[:, 2], torch.zeros_like(detector[:, 2]), torch.zeros_like(source)
    out_of_plane, gantry, in_plane = _angles_of(view @ _FROM_RTK.to(view))
    return RtkParameters(
        sid, sdd, torch.rad2deg(gantry), detector[:, 0], detector[:, 1],
        torch.rad2deg(out_of_plane), torch.rad2deg(in_plane), source[:, 0], source[:, 1],
        spacing_x, spacing_y, geometry.rows, geometry.cols,
    )  # fmt: skip


def from_rtk(parameters: RtkParameters) -> ScanGeometry:
    """The scan with these parameters; the inverse of `to_rtk`.

    Raises:
        ValueError: parallel and cone-beam views in one scan.
    """
    p = parameters
    parallel = p.sdd_mm == 0
    if bool(parallel.any()) and not bool(parallel.all()):
        raise ValueError("sdd_mm: expected zero in all views (parallel) or in none, got some of each")
    angles = (p.out_of_plane_angle_deg, p.gantry_angle_deg, p.in_plane_angle_deg)
    # Rows are the axes of the view's frame, in our coordinates.
    view = _rotation(*(torch.deg2rad(a) for a in angles)) @ _FROM_RTK.to(p.sid_mm).T
    x, y, z = view.unbind(dim=1)

    def place(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return a[:, None] * x + b[:, None] * y + c[:, None] * z

    detector = place(p.proj_offset_x_mm, p.proj_offset_y_mm, p.sid_mm - p.sdd_mm)
    u, v = x * p.spacing_x_mm[:, None], y * p.spacing_y_mm[:, None]
    if bool(parallel.all()):
        return ScanGeometry("parallel", -z, detector, u, v, p.rows, p.cols)
    source = place(p.source_offset_x_mm, p.source_offset_y_mm, p.sid_mm)
    return ScanGeometry("cone", source, detector, u, v, p.rows, p.cols)


# Columns are RTK's axes in our coordinates: ours = _FROM_RTK @ theirs.
_FROM_RTK = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)


def _rotation(out_of_plane: Tensor, gantry: Tensor, in_plane: Tensor) -> Tensor:
    """Rz(-in-plane) Rx(-out-of-plane) Ry(-gantry): (view, 3, 3)."""
    sa, ca = torch.sin(-out_of_plane), torch.cos(-out_of_plane)
    sb, cb = torch.sin(-gantry), torch.cos(-gantry)
    sc, cc = torch.sin(-in_plane), torch.cos(-in_plane)
    rows = (
        (cc * cb - sc * sa * sb, -sc * ca, cc * sb + sc * sa * cb),
        (sc * cb + cc * sa * sb, cc * ca, sc * sb - cc * sa * cb),
        (-ca * sb, sa, ca * cb),
    )
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def _angles_of(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Out-of-plane, gantry and in-plane angle of a rotation: the inverse of `_rotation`."""
    level = torch.hypot(rotation[:, 2, 0], rotation[:, 2, 2])
    _refuse(level < TOLERANCE, "geometry: expected a detector that does not face along the axis")
    out_of_plane = -torch.atan2(rotation[:, 2, 1], level)
    gantry = -torch.atan2(-rotation[:, 2, 0], rotation[:, 2, 2])
    return out_of_plane, gantry, -torch.atan2(-rotation[:, 0, 1], rotation[:, 1, 1])


def _refuse(bad: Tensor, expected: str) -> None:
    views = torch.nonzero(bad)[:, 0]
    if views.numel():
        raise ValueError(f"{expected}, got view {int(views[0])}, which RTK's parameters cannot describe")
