"""The acquisition as a readable record: distances, angles, centre, per-view shifts.

This is what `geometry.json` holds and what people look at. `xrmflow.geometry.scan` turns it into per-view vectors.

Conventions (stated here once)
------------------------------
Vectors are (x, y, z) in mm; the rotation axis is z; arrays are (view, row, col) and (z, y, x).
At angle 0 the source is at (0, -source_to_axis, 0), the detector centre on the +y side, detector columns run along
+x and detector rows along +z (row 0 is the lowest)::

          z (rotation axis, rows)
          |   y (from source to detector)
          |  /
          | /
          +------ x (columns)

With growing angle the source and the detector turn counter-clockwise seen from +z while the object stands still:
source = (sin a, -cos a, 0) * source_to_axis. A sample stage that turns the object clockwise (seen from +z) in front
of a fixed source gives growing angles. This is the cone-vec convention of the ASTRA toolbox.

Pixel indices are 0-based with pixel centres at integers. `centre_px` is the column, and `midplane_px` the row, onto
which the point where the central ray meets the rotation axis projects, in a view without a shift. `shift_u_px[i]`
and `shift_v_px[i]` displace the image of view i: a feature that belongs at column c is recorded at c + shift_u_px[i].

An object that does not stand still is displaced in view i by x -> R x + t, on top of the scan's own rotation: t is
`object_shift_mm[i]`, R the turn by the rotation vector `object_turn_deg[i]` about the origin, both along x, y, z of the
object at angle 0. The volume shows the object in its undisplaced place.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

Beam = Literal["cone", "parallel"]
Vectors = tuple[tuple[float, ...], ...]
MOTION = ("object_shift_mm", "object_turn_deg")


@dataclass(frozen=True)
class Acquisition:
    """Geometry of a circular scan in scalars and per-view lists.

    Attributes:
        beam: "cone" or "parallel".
        angles_deg: one angle a view, degrees, in the convention above.
        rows, cols: detector size in pixels.
        pixel_mm: pitch of the (square) pixels on the detector, mm; 1.0 when not `calibrated`.
        source_to_axis_mm, source_to_detector_mm: mm; None for a parallel beam.
        centre_px, midplane_px: column and row of the axis' midpoint, pixels.
        roll_deg: in-plane rotation of the detector about its normal, degrees (u turns towards v).
        tilt_deg: rotation of the detector about its u axis, degrees.
        slant_deg: rotation of the detector about its v axis, degrees.
        skew_deg: lean of the detector's columns off the perpendicular to its rows, degrees (v turns away from u): what
            is left of tilt and slant where neither can be told, tilt * slant in radians.
        shift_u_px, shift_v_px: per-view displacement of the recorded image, pixels; empty means none.
        object_shift_mm: (x, y, z) by which the object is displaced in each view, mm; empty means it stands still.
        object_turn_deg: its turn about the origin as a rotation vector (x, y, z), degrees; likewise.
        calibrated: False when no pixel size is known; lengths are then in pixels.
    """

    beam: Beam
    angles_deg: tuple[float, ...]
    rows: int
    cols: int
    pixel_mm: float
    source_to_axis_mm: float | None
    source_to_detector_mm: float | None
    centre_px: float
    midplane_px: float
    roll_deg: float = 0.0
    tilt_deg: float = 0.0
    slant_deg: float = 0.0
    skew_deg: float = 0.0
    shift_u_px: tuple[float, ...] = ()
    shift_v_px: tuple[float, ...] = ()
    object_shift_mm: Vectors = ()
    object_turn_deg: Vectors = ()
    calibrated: bool = True

    def __post_init__(self) -> None:
        _check(self)

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.angles_deg)

    @property
    def magnification(self) -> float:
        """Source-to-detector over source-to-axis; 1 for a parallel beam."""
        if self.beam == "parallel":
            return 1.0
        return float(self.source_to_detector_mm) / float(self.source_to_axis_mm)  # type: ignore[arg-type]

    @property
    def voxel_mm(self) -> float:
        """Size of a detector pixel seen at the rotation axis, mm: the natural voxel size."""
        return self.pixel_mm / self.magnification

    @property
    def shifts_px(self) -> np.ndarray:
        """Per-view shifts as an array (view, 2) of (u, v), zeros when none are recorded."""
        shifts = np.zeros((self.views, 2))
        if self.shift_u_px:
            shifts[:, 0] = self.shift_u_px
        if self.shift_v_px:
            shifts[:, 1] = self.shift_v_px
        return shifts

    @property
    def object_motion(self) -> np.ndarray:
        """(view, 6): shift (x, y, z) in mm and rotation vector in degrees of the object; zeros where it is still."""
        motion = np.zeros((self.views, 6))
        if self.object_shift_mm:
            motion[:, :3] = self.object_shift_mm
        if self.object_turn_deg:
            motion[:, 3:] = self.object_turn_deg
        return motion

    def with_object_motion(self, motion: np.ndarray) -> "Acquisition":
        """The same scan of an object that moves: (view, 6) as `object_motion` gives it."""
        shift, turn = (tuple(tuple(float(x) for x in row) for row in part) for part in (motion[:, :3], motion[:, 3:]))
        return replace(self, object_shift_mm=shift, object_turn_deg=turn)

    def with_views(self, selection: slice | np.ndarray) -> "Acquisition":
        """The same acquisition restricted to some views (a slice or an index array)."""

        def pick(values: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(float(v) for v in np.asarray(values)[selection]) if values else ()

        def pick_vectors(values: Vectors) -> Vectors:
            return tuple(tuple(vector) for vector in np.asarray(values)[selection].tolist()) if values else ()

        return replace(
            self,
            angles_deg=pick(self.angles_deg),
            shift_u_px=pick(self.shift_u_px),
            shift_v_px=pick(self.shift_v_px),
            object_shift_mm=pick_vectors(self.object_shift_mm),
            object_turn_deg=pick_vectors(self.object_turn_deg),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready record, without the motion of an object that stands still; `from_dict` is its inverse."""
        left_out = {name for name in MOTION if not getattr(self, name)}
        return {key: _listed(value) for key, value in asdict(self).items() if key not in left_out}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Acquisition":
        """Read a record written by `to_dict`; raises ValueError naming the field that is wrong."""
        try:
            return cls(**{key: _tupled(value) for key, value in record.items()})
        except TypeError as error:
            raise ValueError(f"geometry record: {error}") from error


def _listed(value: Any) -> Any:
    return [_listed(one) for one in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(one) for one in value) if isinstance(value, list) else value


def _check(a: Acquisition) -> None:
    """Raise ValueError naming the first field that cannot be."""
    if a.beam not in ("cone", "parallel"):
        raise ValueError(f"beam: expected 'cone' or 'parallel', got {a.beam!r}")
    if a.rows < 1 or a.cols < 1:
        raise ValueError(f"rows, cols: expected at least 1 pixel each, got {a.rows} x {a.cols}")
    if not a.angles_deg:
        raise ValueError("angles_deg: expected at least one view, got none")
    lengths: dict[str, float | None] = {"pixel_mm": a.pixel_mm}
    if a.beam == "cone":
        lengths |= {"source_to_axis_mm": a.source_to_axis_mm, "source_to_detector_mm": a.source_to_detector_mm}
    for name, value in lengths.items():
        if value is None or not np.isfinite(value) or value <= 0:
            raise ValueError(f"{name}: expected a positive length in mm, got {value}")
    if a.beam == "cone" and a.source_to_detector_mm <= a.source_to_axis_mm:  # type: ignore[operator]
        raise ValueError(
            f"source_to_detector_mm: expected more than source_to_axis_mm ({a.source_to_axis_mm}), "
            f"got {a.source_to_detector_mm}"
        )
    for name in ("angles_deg", "shift_u_px", "shift_v_px"):
        values = np.asarray(getattr(a, name), dtype=float)
        if values.size not in (0, a.views):
            raise ValueError(f"{name}: expected one value for each of {a.views} views, got {values.size}")
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name}: expected finite numbers, got {np.count_nonzero(~np.isfinite(values))} that are not"
            )
    for name in MOTION:
        vectors = getattr(a, name)
        if len(vectors) not in (0, a.views) or any(np.shape(vector) != (3,) for vector in vectors):
            raise ValueError(f"{name}: expected (x, y, z) for each of {a.views} views, got {len(vectors)} entries")
        if not np.isfinite(np.asarray(vectors, dtype=float)).all():
            raise ValueError(f"{name}: expected finite numbers, got some that are not")
    for name in ("centre_px", "midplane_px", "roll_deg", "tilt_deg", "slant_deg", "skew_deg"):
        if not np.isfinite(getattr(a, name)):
            raise ValueError(f"{name}: expected a finite number, got {getattr(a, name)}")
