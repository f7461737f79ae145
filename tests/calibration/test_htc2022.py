"""Measured arcs of 30 and 90 degrees: calibration leaves alone what it cannot tell."""

from pathlib import Path

import numpy as np
import pytest

from xrmflow.calibration.alignment import align
from xrmflow.calibration.centre import find_centre
from xrmflow.calibration.cupping import fit_cupping

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.real_data


@pytest.fixture(params=["ta_subsample73.mat", "tb_subsample_90.mat"])
def arc(request, real_data, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from calibration_htc2022 import read

    return read(real_data / "htc2022" / request.param)


@pytest.fixture
def small(arc):
    from calibration_htc2022 import binned

    return binned(arc.projections[::3], arc.acquisition.with_views(slice(None, None, 3)), 4)


def test_the_round_outline_agrees_with_the_geometry_of_the_file(arc):
    from calibration_htc2022 import circle, outline, outline_figures

    figures = outline_figures(outline(arc.projections), arc.acquisition)
    assert figures["rms_px"] < 0.4
    assert figures["rms_px"] < figures["rms_px_turned_the_other_way"]
    assert figures["radius_mm"] == pytest.approx(35, abs=0.3)
    off, deviation = figures["centre_px_of_edges_minus_nominal"]
    assert abs(off) < 3 * deviation
    assert circle(outline(arc.projections), arc.acquisition)[0] == pytest.approx(figures["rms_px"], abs=1e-3)


def test_a_geometry_that_an_arc_does_not_determine_is_left_alone(small):
    p, acquisition = small
    centre = find_centre(p, acquisition)
    assert centre.acquisition == acquisition
    assert not centre.trusted
    assert "degrees" in centre.message
    joint = align(p, acquisition, drift_knots=0, jitter=False)
    assert joint.acquisition == acquisition
    assert not joint.trusted
    assert "views span" in joint.message


def test_cupping_changes_nothing(arc):
    fit = fit_cupping(arc.projections, arc.acquisition)
    assert fit.coefficients == (1.0, 0.0)
    assert not fit.applied
    assert not fit.trusted
    assert "data left unchanged" in fit.message
    assert 1.5 < fit.largest < 2.5
    assert np.ptp(arc.acquisition.angles_deg) < 91
