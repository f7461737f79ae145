import numpy as np
import pytest

from xrmflow.phantom.materials import attenuation_per_mm, bone_attenuation_per_mm, read_table


@pytest.mark.parametrize(
    ("material", "energy_kev", "per_cm"),
    # NIST X-ray Mass Attenuation Coefficients (Hubbell & Seltzer), mu/rho times density.
    [
        ("water", 20.0, 0.8096),
        ("water", 60.0, 0.2059),
        ("aluminium", 20.0, 3.441 * 2.699),
        ("copper", 60.0, 1.593 * 8.96),
    ],
)
def test_attenuation_is_that_of_the_nist_tables(material, energy_kev, per_cm):
    assert 10 * attenuation_per_mm(material, energy_kev) == pytest.approx(per_cm, rel=0.02)


def test_bone_is_a_mixture_by_volume():
    pure = bone_attenuation_per_mm(1.0, 25.0), bone_attenuation_per_mm(0.0, 25.0)
    assert bone_attenuation_per_mm(0.35, 25.0) == pytest.approx(0.35 * pure[0] + 0.65 * pure[1])
    assert pure[0] == pytest.approx(attenuation_per_mm("hydroxyapatite", 25.0))


@pytest.mark.parametrize(
    ("material", "energy", "message"), [("lead", 20.0, "material"), ("water", 200.0, "energy_kev")]
)
def test_wrong_arguments_are_named(material, energy, message):
    with pytest.raises(ValueError, match=f"{message}: expected .* got"):
        attenuation_per_mm(material, energy)


def test_spectra_are_normalised_and_end_at_the_tube_voltage():
    table = read_table("spectra.csv")
    for name, photons in table.items():
        if name.startswith("tungsten"):
            assert photons.sum() == pytest.approx(1, abs=1e-3)
            assert table["energy_kev"][photons > 0].max() < float(name.split("_")[1])
            assert np.all(photons >= 0)
