"""The correction from a step wedge, against spectra."""

import numpy as np
import pytest
import torch

from xrmflow.calibration.polynomial import linearise
from xrmflow.calibration.wedge import Wedge, fit_curve, fit_wedge
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.phantom.materials import attenuation_per_mm, bone_attenuation_per_mm
from xrmflow.phantom.spectrum import detected_spectrum

STEPS = np.linspace(0.5, 8, 10)


def transmitted(kv, thickness, material="aluminium"):
    """Line integrals of a polychromatic beam behind steps of aluminium or of bone."""
    spectrum = detected_spectrum(kv, filters_mm={"aluminium": 0.5})
    energies = spectrum.energies_kev
    mu = bone_attenuation_per_mm(0.65, energies) if material == "bone" else attenuation_per_mm(material, energies)
    return -np.log(np.exp(-np.outer(thickness, mu)) @ spectrum.weights)


def corrected(fit, p):
    return linearise(torch.from_numpy(p), fit.coefficients).numpy()


@pytest.mark.parametrize("kv", [40, 60, 80])
def test_between_its_steps_a_wedge_becomes_proportional_to_thickness(kv):
    fit = fit_wedge(Wedge(STEPS, transmitted(kv, STEPS)))
    between = np.linspace(0.5, 8, 200)
    per_mm = corrected(fit, transmitted(kv, between)) / between
    assert not fit.fault
    assert np.abs(per_mm / fit.attenuation_per_mm - 1).max() < 0.005
    assert np.ptp(transmitted(kv, between) / between) / fit.attenuation_per_mm > 0.25


def test_the_thinnest_step_stays_as_it_is():
    p = transmitted(60, STEPS)
    fit = fit_wedge(Wedge(STEPS, p))
    assert corrected(fit, p[:1])[0] == pytest.approx(p[0], rel=1e-12)
    assert fit.attenuation_per_mm == pytest.approx(p[0] / STEPS[0], rel=1e-3)


def test_noise_of_the_steps_is_not_followed():
    noisy = transmitted(60, STEPS) * (1 + np.random.default_rng(0).normal(0, 0.002, len(STEPS)))
    between = np.linspace(0.5, 8, 200)
    fit = fit_wedge(Wedge(STEPS, noisy))
    per_mm = corrected(fit, transmitted(60, between)) / between
    assert np.abs(per_mm / fit.attenuation_per_mm - 1).max() < 0.01


def test_bone_hardens_nearly_as_aluminium_does():
    fit = fit_wedge(Wedge(STEPS, transmitted(60, STEPS)))
    bone = np.linspace(0.5, 3, 50)
    before = transmitted(60, bone, "bone") / bone
    after = corrected(fit, transmitted(60, bone, "bone")) / bone
    assert np.ptp(after) / after.mean() < 0.15 * np.ptp(before) / before.mean()


@pytest.mark.parametrize(("mu", "n"), [(0.1, 4), (0.8, 5), (2.0, 7), (5.0, 12)])
def test_a_wedge_that_does_not_harden_changes_nothing_whatever_the_order_of_its_steps(mu, n):
    steps = np.linspace(0.5, 3, n)
    order = np.random.default_rng(n).permutation(n)
    fit = fit_wedge(Wedge(steps[order], mu * steps[order]))
    p = np.linspace(0.1, 3 * mu, 30)
    assert corrected(fit, p) == pytest.approx(p, rel=1e-6)
    assert fit.attenuation_per_mm == pytest.approx(mu)


def test_a_curve_that_falls_is_refused():
    p = transmitted(60, STEPS)
    p[4] = p[3]
    assert "do not grow from step to step" in fit_wedge(Wedge(STEPS, p)).fault


@pytest.mark.parametrize(
    ("thickness", "values", "message"),
    [
        ([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], "at least 4 steps"),
        ([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3], "at least 4 steps"),
        ([0.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4], "positive"),
        ([1.0, 2.0, 3.0, 4.0], [0.1, np.nan, 0.3, 0.4], "positive"),
    ],
)
def test_what_is_no_wedge(thickness, values, message):
    with pytest.raises(ValueError, match=message):
        fit_wedge(Wedge(np.array(thickness), np.array(values)))


def scan(largest):
    """A disc without hardening whose largest line integral is known."""
    angles = tuple(np.linspace(0, 180, 40, endpoint=False))
    acquisition = Acquisition("parallel", angles, 3, 48, 0.1, None, None, 23.5, 1.0)
    x = np.abs(np.arange(48) - 23.5) / 20
    chord = np.sqrt(np.clip(1 - x**2, 0, None)) * largest
    return np.broadcast_to(chord.astype(np.float32), (40, 3, 48)).copy(), acquisition


def test_a_scan_within_the_wedge_is_corrected_and_one_beyond_it_is_not():
    wedge = Wedge(STEPS, transmitted(60, STEPS))
    within = fit_curve(*scan(0.9 * wedge.line_integral[-1]), wedge)
    assert within.applied
    assert within.trusted
    assert "10 steps of a wedge" in within.message
    assert within.to_dict()["source"] == "a step wedge measured on the same scanner"
    assert within.pictures["after"][24, 24] > within.pictures["before"][24, 24]
    assert {"before", "after", "radius_mm"} <= set(within.pictures)
    beyond = fit_curve(*scan(1.2 * wedge.line_integral[-1]), wedge)
    assert not beyond.applied
    assert not beyond.trusted
    assert "those of the step wedge only to" in beyond.message
    assert set(beyond.coefficients[1:]) == {0.0}


def test_a_wedge_does_not_correct_values_that_are_no_numbers():
    wedge = Wedge(STEPS, transmitted(60, STEPS))
    p, acquisition = scan(0.9 * wedge.line_integral[-1])
    p[3, 1, 20] = np.nan
    fit = fit_curve(p, acquisition, wedge)
    assert not fit.applied
    assert not fit.trusted
    assert "no finite numbers" in fit.message
