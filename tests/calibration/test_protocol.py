import numpy as np
import pytest

from xrmflow.calibration.homogeneity import BLOCKS, SECTORS, System
from xrmflow.calibration.protocol import COMMON_DENSITY, ScanEquations, fit_protocol

LARGEST = 0.8


def scan(c=0.6, *, seed=0, noise=0.0, voxels=10000, degree=2):
    """Equations of a bone whose hardening asks for c, with noise in every cell."""
    rng = np.random.default_rng(seed)
    n = degree - 1
    z = rng.random((BLOCKS, SECTORS, 20, n)) + 0.5
    matrix = np.einsum("...kj,...ki->...ji", z, z) * voxels / 1000
    right = -(matrix @ np.full(n, c)) * (1 + noise * rng.standard_normal((BLOCKS, SECTORS, 1)))
    density = 0.1 * c * matrix.sum(axis=(0, 1)) @ np.ones(n)
    return ScanEquations(System(matrix, right, density, voxels), LARGEST)


def test_one_scan_gives_what_it_gives_alone():
    one = scan(noise=0.2)
    fit = fit_protocol([one])
    assert fit.applied
    assert fit.found[1] == pytest.approx(float(one.system.solve()[0]))
    assert fit.statistical[0] == pytest.approx(float(one.system.statistical()[0]))
    density = float(one.system.of_density()[0])
    assert fit.uncertainty[0] == pytest.approx(np.hypot(fit.statistical[0], density))


def test_bones_denser_outside_and_inside_cancel():
    fit = fit_protocol([scan(0.6 + d) for d in (-0.1, 0.1, -0.05, 0.05)])
    assert fit.coefficients[1] == pytest.approx(0.6)


def test_a_large_bone_has_no_more_weight_than_a_small_one():
    fit = fit_protocol([scan(0.5, voxels=100_000), scan(0.7, voxels=10_000)])
    assert fit.coefficients[1] == pytest.approx(0.6)


def test_scans_without_bone_neither_count_nor_harm():
    bones = [scan(0.6 + d, seed=3) for d in (-0.02, 0.0, 0.02)]
    alone, together = fit_protocol(bones), fit_protocol([*bones, ScanEquations(None, 0.3)])
    assert together.coefficients == alone.coefficients
    assert together.uncertainty == alone.uncertainty
    assert "3 of 4 scans" in together.message


def test_no_bone_in_any_scan_leaves_the_data():
    fit = fit_protocol([ScanEquations(None, 0.5)], degree=3)
    assert fit.coefficients == (1.0, 0.0, 0.0)
    assert not fit.applied
    assert "data left unchanged" in fit.message


def test_bounds_are_those_of_the_largest_line_integral_of_all():
    bones = [scan(0.6), ScanEquations(None, 8.0)]
    assert "out of bounds" in fit_protocol(bones).message


def test_the_uncertainty_is_at_least_what_left_out_bones_tell():
    spread = [0.5, 0.6, 0.7, 0.6]
    fit = fit_protocol([scan(c) for c in spread])
    assert fit.statistical[0] == pytest.approx(np.std(spread, ddof=1) / 2, rel=0.02)


def test_noise_of_each_averages_out():
    one, four = (fit_protocol([scan(noise=0.5, seed=k) for k in range(n)]).statistical[0] for n in (1, 4))
    assert 0.3 * one < four < 0.9 * one


@pytest.mark.parametrize(("bones", "share"), [(1, 1.0), (4, 0.5), (25, COMMON_DENSITY)])
def test_density_by_chance_averages_out_down_to_a_third(bones, share):
    fit = fit_protocol([scan()] * bones)
    assert fit.statistical[0] == pytest.approx(0.0, abs=1e-9)
    assert fit.uncertainty[0] == pytest.approx(share * 0.06, rel=1e-3)


def test_equations_survive_a_file(tmp_path):
    for one in (scan(noise=0.1, degree=3), ScanEquations(None, 0.7)):
        np.savez(tmp_path / "e.npz", **one.arrays())
        with np.load(tmp_path / "e.npz") as file:
            again = ScanEquations.of(dict(file))
        assert again.largest == one.largest
        assert fit_protocol([again]) == fit_protocol([one])


def test_bad_lists():
    with pytest.raises(ValueError, match="scans: expected at least one, got none"):
        fit_protocol([])
    with pytest.raises(ValueError, match=r"scans: expected equations of one degree, got \[2, 3\]"):
        fit_protocol([scan(), scan(degree=3)])
