import numpy as np
import pytest

from xrmflow.phantom.materials import attenuation_per_mm, bone_attenuation_per_mm
from xrmflow.phantom.scan import transmission
from xrmflow.phantom.spectrum import detected_spectrum, monochromatic

MINERAL = 0.35


@pytest.fixture
def spectrum():
    return detected_spectrum(40, filters_mm={"aluminium": 0.25})


def test_weights_are_shares(spectrum):
    assert spectrum.weights.sum() == pytest.approx(1)
    assert spectrum.energies_kev[0] < spectrum.mean_energy_kev() < spectrum.energies_kev[-1] <= 40


def test_a_filter_hardens_the_beam():
    soft, hard = detected_spectrum(60), detected_spectrum(60, filters_mm={"copper": 0.1})
    assert hard.mean_energy_kev() > soft.mean_energy_kev() + 2


def test_thin_bone_attenuates_as_at_the_effective_energy(spectrum):
    """The limit that defines the effective energy: -d ln T / dt at zero thickness."""
    energy = spectrum.effective_energy_kev(MINERAL)
    thickness = np.full((1, 1), 1e-4, np.float32)
    seen = -np.log(transmission(MINERAL * thickness, (1 - MINERAL) * thickness, spectrum).item()) / 1e-4
    assert seen == pytest.approx(bone_attenuation_per_mm(MINERAL, energy), rel=2e-3)
    assert spectrum.energies_kev[0] < energy < spectrum.mean_energy_kev()


def test_thick_bone_attenuates_less_than_in_proportion(spectrum):
    thickness = np.linspace(0.01, 0.4, 50, dtype=np.float32)[None]
    p = -np.log(transmission(MINERAL * thickness, (1 - MINERAL) * thickness, spectrum))[0]
    slope = np.diff(p) / np.diff(thickness[0])
    assert np.all(np.diff(slope) < 1e-4)
    assert slope[-1] < 0.8 * slope[0]


def test_transmission_equals_the_sum_over_energies(spectrum):
    rng = np.random.default_rng(0)
    mineral, water = rng.uniform(0, 0.3, (2, 5, 7, 9)).astype(np.float32)
    direct = sum(
        w * np.exp(-(attenuation_per_mm("hydroxyapatite", e) * mineral + attenuation_per_mm("water", e) * water))
        for e, w in zip(spectrum.energies_kev, spectrum.weights, strict=True)
    )
    np.testing.assert_allclose(transmission(mineral, water, spectrum), direct, atol=2e-6)


def test_one_energy_obeys_lambert_beer():
    mineral = np.linspace(0, 0.2, 12, dtype=np.float32).reshape(3, 4)
    p = -np.log(transmission(mineral, np.zeros_like(mineral), monochromatic(20.0)))
    np.testing.assert_allclose(p, mineral * p[2, 3] / 0.2, atol=1e-5)


def test_unknown_voltage_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"tube_kv: expected one of 30, 40.* got 33"):
        detected_spectrum(33)
