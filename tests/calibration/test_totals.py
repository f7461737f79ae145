from dataclasses import replace

import numpy as np
import pytest
import torch

from xrmflow.calibration.basis import load_slab
from xrmflow.calibration.bone import segment_bone
from xrmflow.calibration.cupping import fit_cupping, model_integrals
from xrmflow.calibration.homogeneity import BLOCKS, SECTORS
from xrmflow.calibration.protocol import ScanEquations, fit_protocol
from xrmflow.calibration.totals import Totals, parallel_profiles
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.transform import project

COLS, ROWS, VIEWS, VOXEL = 64, 8, 96, 0.01
# Two energies, at which everything attenuates more and less than at the effective one.
SHARES, FACTORS = (0.5, 0.5), (1.5, 0.5)


def acquisition(beam="cone", *, arc=360.0, angles=None, cols=COLS):
    turned = np.linspace(0, arc, VIEWS, endpoint=False) if angles is None else angles
    distances, pixel = ((None, None), VOXEL) if beam == "parallel" else ((4.0, 10.0), 2.5 * VOXEL)
    return Acquisition(beam, tuple(turned), ROWS, cols, pixel, *distances, (cols - 1) / 2 + 0.6, (ROWS - 1) / 2)


def tube(*, across=0.6, denser_outside=0.0):
    """(y, x) an oval tube, off the axis."""
    y, x = np.mgrid[:COLS, :COLS] - (COLS - 1) / 2
    radius = np.hypot(x - 2, (y - 1) / across) / (0.4 * COLS)
    inner = np.hypot(x - 2, y - 1) < 0.1 * COLS
    return np.where((radius < 1) & ~inner, 1.6 * (1 + denser_outside * (radius - 0.7)), 0.0)


def scan(geometry, volume, *, hardened=True, noise=0.003):
    lengths = _lengths(geometry, volume)
    if hardened:
        lengths = -np.log(sum(s * np.exp(-f * lengths) for s, f in zip(SHARES, FACTORS, strict=True)))
    return (lengths + np.random.default_rng(0).normal(0, noise, lengths.shape)).astype(np.float32)


def _lengths(geometry, volume):
    tall = torch.from_numpy(np.repeat(volume[None].astype(np.float32), ROWS + 6, axis=0))
    return project(tall, scan_geometry(geometry), VolumeGrid(tuple(tall.shape), VOXEL)).numpy().astype(np.float64)


def totals(geometry, p):
    slab = load_slab(p, geometry, degree=2, slices=ROWS)
    volume = slab.basis()[0].numpy()
    return Totals.of(slab, model_integrals(volume, *segment_bone(volume, smoothing_px=1.0), slab))


SHORT = {"arc": 210.0}
GOLDEN = {"angles": np.remainder(np.arange(VIEWS) * 137.508, 360)}


@pytest.mark.parametrize(
    "options", [{}, {"beam": "parallel", "arc": 180.0}, SHORT, GOLDEN], ids=["cone", "parallel", "short", "golden"]
)
def test_sums_over_parallel_rays_do_not_depend_on_the_direction(options):
    geometry = acquisition(**options)
    volume = tube(denser_outside=0.3)
    p = scan(geometry, volume, hardened=False, noise=0.0)
    directions, profiles = parallel_profiles(p[None], scan_geometry(geometry))
    sums = profiles[0].sum(axis=-1)[:, ROWS // 2]
    assert len(directions) > 0.4 * VIEWS
    assert sums.std() < 2e-3 * sums.mean()
    # Places are equal steps across, as far as both sides of the axis are seen: 0.6 columns less of each.
    step = (COLS - 1 - 2 * 0.6) / (COLS - 1) * VOXEL
    assert sums.mean() * step == pytest.approx(volume.sum() * VOXEL**2, rel=0.01)


def test_profiles_are_those_of_a_parallel_beam_in_the_same_directions():
    cone, parallel = acquisition(), acquisition("parallel")
    volume = tube()
    from_cone, measured = (
        parallel_profiles(scan(g, volume, hardened=False, noise=0.0)[None], scan_geometry(g)) for g in (cone, parallel)
    )
    assert np.allclose(from_cone[0], measured[0])
    middle = [profiles[0, :, ROWS // 2] for _, profiles in (from_cone, measured)]
    assert np.abs(middle[0] - middle[1]).mean() < 0.02 * middle[1].mean()


@pytest.mark.parametrize("options", [{}, {"beam": "parallel", "arc": 180.0}, SHORT], ids=["cone", "parallel", "short"])
@pytest.mark.parametrize("denser_outside", [0.0, 0.2])
def test_they_ask_for_the_correction_however_dense_the_bone_is_where(options, denser_outside):
    geometry = acquisition(**options)
    volume = tube(denser_outside=denser_outside)
    found = totals(geometry, scan(geometry, volume)).share((1.0, 1.0))
    lengths = _lengths(geometry, volume).ravel()
    p = scan(geometry, volume, noise=0.0).ravel().astype(float)
    best = float(p**2 @ (lengths - p) / (p**2 @ p**2))
    assert found[0] == pytest.approx(best, rel=0.15)
    still = totals(geometry, scan(geometry, volume, hardened=False)).share((1.0, 1.0))
    assert abs(still[0]) < max(0.02 * best, 3 * still[1])


def test_a_round_object_has_no_say():
    y, x = np.mgrid[:COLS, :COLS] - (COLS - 1) / 2
    radius = np.hypot(x, y)
    volume = np.where((radius < 26) & (radius > 8), 1.6, 0.0)
    geometry = acquisition()
    for hardened in (True, False):
        assert totals(geometry, scan(geometry, volume, hardened=hardened)).share((1.0, 1.0)) is None


def test_nor_has_one_that_is_cut_off():
    geometry = acquisition(cols=44)
    assert totals(geometry, scan(geometry, tube())) is None


def test_share_and_its_spread_are_those_of_noisy_cells():
    rng = np.random.default_rng(0)
    matrix = 1 + 0.2 * rng.random((BLOCKS, SECTORS, 1))
    shares, spreads = [], []
    for _ in range(200):
        right = -0.3 * matrix[..., 0] + 0.1 * (rng.standard_normal((BLOCKS, 1)) + rng.standard_normal((1, SECTORS)))
        share, spread = Totals(matrix, right).share((1.0, 1.0))
        shares.append(share)
        spreads.append(spread)
    assert np.mean(shares) == pytest.approx(0.3, abs=0.01)
    assert np.mean(spreads) == pytest.approx(np.std(shares), rel=0.2)


def test_bone_that_is_denser_outside_is_not_taken_for_hardened():
    geometry = acquisition()
    fit = fit_cupping(scan(geometry, tube(denser_outside=0.2), hardened=False), geometry)
    assert not fit.applied
    assert not fit.trusted
    assert "denser outside rather than hardened" in fit.message


def test_where_nothing_confirms_it_a_fit_must_be_more_than_bone_a_little_denser_outside():
    y, x = np.mgrid[:COLS, :COLS] - (COLS - 1) / 2
    radius = np.hypot(x, y) / 26
    volume = np.where((radius < 1) & (radius > 0.3), 1.6 * (1 + 0.06 * (radius - 0.65)), 0.0)
    geometry = acquisition()
    still, hardened = (fit_cupping(scan(geometry, volume, hardened=h), geometry) for h in (False, True))
    assert not still.applied
    assert not still.trusted
    assert "bone a few per cent denser outside would look the same" in still.message
    assert hardened.applied


def test_hardening_that_denser_inner_bone_hides_is_not_called_clean():
    geometry = acquisition()
    fit = fit_cupping(scan(geometry, tube(denser_outside=-0.15)), geometry)
    assert not fit.trusted
    assert "denser inside" in fit.message


def test_bone_beyond_the_field_of_view_is_refused():
    geometry = acquisition(cols=44)
    fit = fit_cupping(scan(geometry, tube(), hardened=False), geometry)
    assert not fit.applied
    assert "goes on beyond the field of view" in fit.message


def test_bone_that_an_offset_detector_sees_in_half_a_turn_is_not_refused():
    geometry = replace(acquisition(cols=44), centre_px=6.0)
    fit = fit_cupping(scan(geometry, tube()), geometry)
    assert fit.found[1] > 0
    assert "goes on beyond" not in fit.message


def test_a_protocol_is_checked_too():
    geometry = acquisition()
    fits = [
        fit_cupping(scan(geometry, tube(across=a, denser_outside=0.2), hardened=False), geometry) for a in (0.6, 0.7)
    ]
    together = fit_protocol([ScanEquations(fit.system, fit.largest, fit.totals) for fit in fits])
    assert not together.trusted
    assert "denser outside rather than hardened" in together.message
    again = ScanEquations.of(ScanEquations(fits[0].system, 1.0, fits[0].totals).arrays())
    assert np.array_equal(again.totals.matrix, fits[0].totals.matrix)
    assert np.array_equal(again.totals.right, fits[0].totals.right)
