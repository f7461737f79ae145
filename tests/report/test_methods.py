"""What the methods paragraph reads from records and settings."""

from types import SimpleNamespace

import pytest

from xrmflow.report.methods import _before, _filter, _reconstruction, named, recorded, threshold_of


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"threshold_per_mm": 0.2, "threshold_per_cm": 2.0}, (2.0, "1/cm")),
        ({"segmentation": {"threshold_per_voxel": 0.004}}, (0.004, "1/voxel")),
        ({"provenance": {"settings": {"threshold_per_cm": 3}}}, (3.0, "1/cm")),
        ({"threshold_per_cm": None, "threshold_method": "otsu"}, (None, "")),
    ],
)
def test_threshold_is_found_with_its_unit(record, expected):
    assert threshold_of(record) == expected


def test_what_was_done_goes_before_what_was_asked_for():
    record = {"segmentation": {"sigma_um": 1.9}, "provenance": {"settings": {"sigma_um": 2.0}, "sigma_um": 5.0}}
    assert recorded(record, "sigma_um") == 1.9


def test_units_leave_the_name():
    assert named("tube_voltage_kv", "80") == ("tube voltage", "80 kV")
    assert named("program", "x") == ("program", "x")
    assert named("s", "x") == ("s", "x")


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ({"sigma_um": 1.6, "sigma_voxels": 0.8}, "Gaussian, sigma 1.6 µm"),
        ({"sigma_um": None, "sigma_voxels": 0.8}, "Gaussian, sigma 0.8 voxels"),
        ({"sigma_um": 0.0, "sigma_voxels": 0.0}, "none"),
    ],
)
def test_the_filter_is_the_one_that_was_applied(done, expected):
    asked = {"settings": {"sigma_um": 5.0, "sigma_voxels": 2.0}}
    assert _filter({"segmentation": done, "provenance": asked}) == expected


def test_a_filter_that_is_not_set_in_micrometres_is_told_in_voxels():
    assert _filter({"provenance": {"settings": {"sigma_um": None, "sigma_voxels": 0.8}}}) == (
        "Gaussian, sigma 0.8 voxels"
    )


def test_an_iterative_reconstruction_is_named_with_its_method():
    volumes = {
        name: SimpleNamespace(record={"provenance": {"settings": settings}})
        for name, settings in (("volume", {"window": "hann"}), ("iterative", {"method": "tv"}))
    }
    results = SimpleNamespace(volumes=volumes, acquisition=SimpleNamespace(beam="cone"))
    expected = "Feldkamp-Davis-Kress with the hann window, iterative reconstruction (total variation)"
    assert _reconstruction(results) == expected


def test_phase_retrieval_and_dynamic_flats_are_told():
    done = {"flats": "dynamic", "phase": {"filter_strength": 58.4, "filter_reach_px": 10}}
    told = _before({"flatfield": done, "provenance": {"settings": {"delta_over_beta": 500.0}}})
    assert told == [
        "dynamic flat field (Van Nieuwenhove et al. 2015)",
        "single-distance phase retrieval (Paganin et al. 2002, delta/beta 500)",
    ]
    assert _before({"flatfield": {"flat": "measured", "phase": None}}) == []
