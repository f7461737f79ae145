import numpy as np
import pytest
import torch

from xrmflow.calibration.motion import MotionFit
from xrmflow.config.align import AlignSection
from xrmflow.errors import SettingsError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.documents import read_document
from xrmflow.io.stores import create_projections
from xrmflow.projectors.transform import project
from xrmflow.stages import align

VIEWS, COLS = 90, 48


def acquisition(centre_px):
    angles = tuple(np.linspace(0, 360, VIEWS, endpoint=False))
    return Acquisition("parallel", angles, 1, COLS, 1.0, None, None, centre_px, 0.0, calibrated=False)


@pytest.fixture
def paths(tmp_path):
    volume = torch.zeros(3, COLS, COLS)
    volume[:, 12:22, 14:30] = 0.05
    volume[:, 28:34, 20:24] = 0.1
    p = project(volume, scan_geometry(acquisition(25.2)), VolumeGrid((3, COLS, COLS), 1.0))
    with create_projections(
        tmp_path / "p.zarr",
        quantity="line_integral",
        acquisition=acquisition(23.5),
        provenance={"stage": "flatfield"},
    ) as store:
        store["data"] = p.numpy()
    return {"projections": tmp_path / "p.zarr", "geometry": tmp_path / "g.json", "sweep": tmp_path / "s.npz"}


def test_geometry_and_montage_are_written(paths):
    align.run(**paths, params=AlignSection())
    document = read_document(paths["geometry"], kind="geometry")
    assert Acquisition.from_dict(document["acquisition"]).centre_px == pytest.approx(25.2, abs=0.1)
    assert document["fit"]["trusted"]
    assert len(document["fit"]["sweep"]["centre_px"]) == len(document["fit"]["sweep"]["score"])
    montage = np.load(paths["sweep"])
    assert montage["slices"].shape == (len(montage["centre_px"]), COLS, COLS)


def test_a_known_centre_can_be_set(paths):
    align.run(**paths, params=AlignSection(method="none", centre_px=25.0))
    document = read_document(paths["geometry"], kind="geometry")
    assert document["acquisition"]["centre_px"] == 25.0
    assert document["fit"]["method"] == "none"


@pytest.mark.parametrize("centre_px", [-3.0, 5000.0])
def test_a_centre_beside_the_detector_is_refused(paths, centre_px):
    with pytest.raises(
        SettingsError, match=rf"align\.centre_px: expected a column of the detector, 0 to 47, got {centre_px:g}"
    ):
        align.run(**paths, params=AlignSection(centre_px=centre_px))


def test_the_joint_fit_is_recorded_with_its_intervals(paths):
    align.run(**paths, params=AlignSection(method="joint", drift_knots=4, jitter=True))
    document = read_document(paths["geometry"], kind="geometry")
    joint = document["joint"]
    assert joint["trusted"], joint["message"]
    assert Acquisition.from_dict(document["acquisition"]).centre_px == pytest.approx(25.2, abs=0.1)
    assert [one["name"] for one in joint["parameters"]] == ["centre_px"]
    assert joint["parameters"][0]["interval"] < 0.5
    assert len(document["acquisition"]["shift_u_px"]) == VIEWS
    assert document["score"]["mismatch_px"] < 0.2


def test_a_roll_that_is_not_to_be_fitted_is_not_fitted_jointly_either(paths, monkeypatch):
    asked = []

    def fit(projections, start, *, numbers, **_):
        asked.append(numbers)

    monkeypatch.setattr(align, "align", fit)
    for roll in (True, False):
        align.run(**paths, params=AlignSection(method="joint", roll=roll))
    assert [("roll_deg" in numbers) for numbers in asked] == [True, False]
    assert "centre_px" in asked[1]


def test_the_sharpness_route_is_recorded(paths):
    align.run(**paths, params=AlignSection(method="sharpness", roll=False))
    document = read_document(paths["geometry"], kind="geometry")
    assert document["joint"]["route"] == "sharpness"
    assert document["joint"]["cost_in_reconstructions"] > 0
    assert Acquisition.from_dict(document["acquisition"]).centre_px == pytest.approx(25.2, abs=0.1)


def test_the_motion_of_the_object_is_recorded_and_part_of_the_geometry(paths, monkeypatch):
    found = np.full((VIEWS, 6), 0.01)

    def fit(projections, start, *, knots, track):
        moved = start.with_object_motion(found)
        return MotionFit(moved, found, found, 1.0, (0.2, 0.1), 1.1, True, f"moved, {knots} knots", 9.0, ())

    monkeypatch.setattr(align, "fit_motion", fit)
    align.run(**paths, params=AlignSection(motion=True, motion_knots=5))
    document = read_document(paths["geometry"], kind="geometry")
    used = Acquisition.from_dict(document["acquisition"])
    np.testing.assert_array_equal(used.object_motion, found)
    assert used.centre_px == pytest.approx(25.2, abs=0.1)
    assert document["motion"]["message"] == "moved, 5 knots"
    assert [one["name"] for one in document["motion"]["trajectories"]][2:4] == ["shift_z", "turn_x"]
    assert len(document["motion"]["trajectories"][0]["band"]) == VIEWS


def test_the_score_tells_a_wrong_geometry(paths):
    align.run(**paths, params=AlignSection(method="none", centre_px=27.0))
    wrong = read_document(paths["geometry"], kind="geometry")["score"]["mismatch_px"]
    align.run(**paths, params=AlignSection(method="none", centre_px=25.2))
    right = read_document(paths["geometry"], kind="geometry")["score"]["mismatch_px"]
    assert wrong > 0.5 > 2 * right


def test_splines_of_too_few_pieces_are_refused():
    with pytest.raises(ValueError, match="expected 0, or at least 4 for a cubic spline, got 3"):
        AlignSection(drift_knots=3)
