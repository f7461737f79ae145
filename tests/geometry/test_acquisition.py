"""The acquisition record: what it refuses, and that nothing is lost on the way to JSON and back."""

import json

import numpy as np
import pytest

from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid

VALUES = {
    "beam": "cone",
    "angles_deg": (0.0, 120.5, 240.25),
    "rows": 4,
    "cols": 6,
    "pixel_mm": 0.1,
    "source_to_axis_mm": 10.0,
    "source_to_detector_mm": 40.0,
    "centre_px": 2.6,
    "midplane_px": 1.4,
    "shift_u_px": (0.1, 0.2, 0.3),
}


def test_record_survives_json():
    acquisition = Acquisition(**VALUES)
    assert Acquisition.from_dict(json.loads(json.dumps(acquisition.to_dict()))) == acquisition


def test_the_motion_of_the_object_survives_json_and_picks_views_and_is_left_out_where_there_is_none():
    motion = np.arange(18.0).reshape(3, 6)
    moving = Acquisition(**VALUES).with_object_motion(motion)
    read = Acquisition.from_dict(json.loads(json.dumps(moving.to_dict())))
    assert read == moving
    np.testing.assert_array_equal(read.object_motion, motion)
    np.testing.assert_array_equal(moving.with_views(slice(1, None)).object_motion, motion[1:])
    assert not {"object_shift_mm", "object_turn_deg"} & Acquisition(**VALUES).to_dict().keys()


def test_magnification_and_voxel():
    acquisition = Acquisition(**VALUES)
    assert acquisition.magnification == 4.0
    assert acquisition.voxel_mm == pytest.approx(0.025)


@pytest.mark.parametrize("selection", [slice(1, None), np.array([2, 0])])
def test_views_are_picked_with_their_shifts(selection):
    picked = Acquisition(**VALUES).with_views(selection)
    assert picked.angles_deg == tuple(np.array(VALUES["angles_deg"])[selection])
    assert picked.shift_u_px == tuple(np.array(VALUES["shift_u_px"])[selection])
    assert picked.shift_v_px == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pixel_mm", -1.0),
        ("source_to_axis_mm", None),
        ("source_to_detector_mm", 5.0),
        ("angles_deg", ()),
        ("angles_deg", (0.0, float("nan"), 1.0)),
        ("shift_v_px", (1.0,)),
        ("object_shift_mm", ((0.0, 0.0, 0.0),)),
        ("object_turn_deg", ((0.0, 0.0),) * 3),
        ("object_turn_deg", ((0.0, 0.0, float("nan")),) * 3),
        ("centre_px", float("inf")),
        ("beam", "fan"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Acquisition(**(VALUES | {name: value}))


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match="geometry record"):
        Acquisition.from_dict(Acquisition(**VALUES).to_dict() | {"surprise": 1})


def test_slabs_keep_their_voxels_where_they_were():
    grid = VolumeGrid((10, 4, 6), 0.5, (1.0, 2.0, 3.0))
    slab = grid.slab(slice(3, 7))
    assert slab.shape == (4, 4, 6)
    x, y, z = grid.first_voxel_mm
    assert slab.first_voxel_mm == pytest.approx((x, y, z + 3 * 0.5))


def test_heights_and_slices_belong_together_on_grids_of_any_voxel():
    grid, fine = VolumeGrid((5, 2, 2), 0.02, (0.0, 0.0, -0.3)), VolumeGrid((15, 6, 6), 0.02 / 3, (0.0, 0.0, -0.3))
    assert grid.face_mm(0) == pytest.approx(-0.35)
    assert grid.face_mm(5) == pytest.approx(-0.25)
    assert [fine.index_from(grid.face_mm(k)) for k in range(6)] == [0, 3, 6, 9, 12, 15]
    assert [grid.index_from(z) for z in (-0.341, -0.339, -0.25)] == [0, 1, 5]
