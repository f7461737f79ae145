"""Paganin's filter: its response, its law for an object of one material, its edges, and where its number comes from."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from xrmflow.correction.flatfield import correct
from xrmflow.correction.phase import filter_strength, reach_px, retrieve_phase, transfer
from xrmflow.correction.references import references_for
from xrmflow.correction.steps import Steps
from xrmflow.errors import SettingsError
from xrmflow.geometry.acquisition import Acquisition

ROWS, COLS = 48, 64
ENERGY_KEV, PIXEL_MM, DISTANCE_MM, RATIO = 20.0, 1e-3, 60.0, 500.0
LAMBDA_MM = 1.23984198e-6 / ENERGY_KEV
STRENGTH = math.pi * LAMBDA_MM * DISTANCE_MM * RATIO / PIXEL_MM**2
PARALLEL = Acquisition("parallel", (0.0, 90.0), ROWS, COLS, PIXEL_MM, None, None, (COLS - 1) / 2, (ROWS - 1) / 2)
PAGANIN = Steps(phase="paganin", delta_over_beta=RATIO, phase_distance_mm=DISTANCE_MM, phase_energy_kev=ENERGY_KEV)
BARE = {"rings": "none", "outlier_sigmas": None, "dead_pixel_tolerance": None, "open_beam": "none"}


@pytest.mark.parametrize(("down", "across"), [(0, 0), (0, 3), (5, 0), (4, 7)])
def test_a_wave_is_damped_by_the_transfer_function(down, across):
    """A wave that fits the image; away from the edges, where its continuation is another."""
    row, col = np.mgrid[: 6 * ROWS, : 6 * COLS]
    wave = np.cos(2 * np.pi * (down * row / ROWS + across * col / COLS))
    expected = 1 / (1 + STRENGTH * ((down / ROWS) ** 2 + (across / COLS) ** 2))
    found = retrieve_phase(torch.from_numpy(wave), strength=STRENGTH).numpy()
    inside = slice(2 * ROWS, 4 * ROWS), slice(2 * COLS, 4 * COLS)
    np.testing.assert_allclose(found[inside], expected * wave[inside], atol=1e-3)
    assert transfer(ROWS, COLS, strength=STRENGTH)[down, across] == pytest.approx(expected)


def wave_behind(thickness_mm, mu_per_mm):
    """Intensity at a distance behind a sheet, by Fresnel propagation of the wave (periodic image)."""
    phase = -RATIO * mu_per_mm / 2 * thickness_mm  # -k delta T, with mu = 2 k beta
    wave = np.exp(1j * phase - mu_per_mm / 2 * thickness_mm)
    fy, fx = np.fft.fftfreq(thickness_mm.shape[0], PIXEL_MM), np.fft.fftfreq(thickness_mm.shape[1], PIXEL_MM)
    kernel = np.exp(-1j * np.pi * LAMBDA_MM * DISTANCE_MM * (fy[:, None] ** 2 + fx**2))
    return np.abs(np.fft.ifft2(np.fft.fft2(wave) * kernel)) ** 2


def sheet():
    """A smooth bump, mm, zero at the edges of the image."""
    row, col = np.mgrid[:ROWS, :COLS]
    return 0.02 * np.exp(-(((row - 24) / 6) ** 2 + ((col - 30) / 8) ** 2))


def test_the_thickness_of_an_object_of_one_material_is_retrieved():
    mu, thickness = 0.5, sheet()
    shown = wave_behind(thickness, mu)
    bare = -np.log(shown)
    found = -np.log(retrieve_phase(torch.from_numpy(shown), strength=STRENGTH).numpy())
    assert np.abs(bare - mu * thickness).max() > 0.3 * mu * thickness.max()
    assert np.abs(found - mu * thickness).max() < 0.02 * mu * thickness.max()


def test_it_is_linear_and_keeps_a_constant():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 17, 23, generator=generator, dtype=torch.float64) for _ in range(2))
    both = retrieve_phase(2 * a - b, strength=STRENGTH)
    torch.testing.assert_close(both, 2 * retrieve_phase(a, strength=STRENGTH) - retrieve_phase(b, strength=STRENGTH))
    flat = torch.full((5, 7), 0.8, dtype=torch.float64)
    torch.testing.assert_close(retrieve_phase(flat, strength=STRENGTH), flat)
    assert retrieve_phase(flat, strength=0.0) is flat


def test_gradient():
    image = torch.rand(1, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: retrieve_phase(x, strength=3.0), (image,))


def test_nothing_wraps_around():
    """A dark object at one edge leaves the opposite edge alone."""
    image = torch.ones(ROWS, COLS, dtype=torch.float64)
    image[:, :4] = 0.2
    found = retrieve_phase(image, strength=400.0)
    assert float((found[:, -4:] - 1).abs().max()) < 1e-3
    assert float(found[:, :4].max()) < 0.8


def scan():
    rng = np.random.default_rng(0)
    shown = np.stack([wave_behind(sheet(), 0.5), wave_behind(0.7 * sheet(), 0.5)])
    return rng.poisson(1e5 * shown).astype(np.float32), np.full((2, ROWS, COLS), 1e5, np.float32)


@pytest.mark.parametrize("rings", ["none", "offset"])
@pytest.mark.parametrize("memory_gb", [4 * 14 * 2 * COLS * 30 / 1e9, 1e-9])
def test_within_the_correction_block_size_does_not_matter(rings, memory_gb):
    """A block of 8 rows, and one of a single row: fewer than ring removal looks at."""
    counts, flats = scan()
    steps = replace(PAGANIN, **(BARE | {"rings": rings}))
    refs = references_for(counts, flats=flats, darks=None, steps=steps)
    strength = filter_strength(PARALLEL, steps)
    whole, parts = np.zeros_like(counts), np.zeros_like(counts)
    record = correct(counts, whole, refs, steps=steps, phase_strength=strength).summary()
    correct(counts, parts, refs, steps=steps, phase_strength=strength, memory_gb=memory_gb)
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    if rings == "none":
        assert np.abs(whole[0] - 0.5 * sheet()).max() < 0.003
    assert record["phase"]["filter_reach_px"] == reach_px(strength)


def test_a_dead_pixel_is_mended_before_the_filter():
    counts, flats = scan()
    counts[:, 24, 30], flats[:, 24, 30] = 100, 100
    steps = replace(PAGANIN, **(BARE | {"dead_pixel_tolerance": 0.5}))
    out = np.zeros_like(counts)
    refs = references_for(counts, flats=flats, darks=None, steps=steps)
    record = correct(counts, out, refs, steps=steps, phase_strength=filter_strength(PARALLEL, steps)).summary()
    assert record["dead_pixels"] == 1
    assert np.abs(out[0] - 0.5 * sheet())[20:29, 26:35].max() < 0.002


def test_the_number_comes_from_the_geometry():
    assert filter_strength(PARALLEL, PAGANIN) == pytest.approx(STRENGTH)
    assert filter_strength(PARALLEL, replace(PAGANIN, phase_energy_kev=None), energy_kev=10.0) == pytest.approx(
        2 * STRENGTH
    )
    assert filter_strength(PARALLEL, Steps()) == 0
    # A source at 100 mm, the detector 60 mm behind the object: 1.6 times magnified, and 60 / 1.6 mm of free flight.
    cone = replace(PARALLEL, beam="cone", pixel_mm=1.6e-3, source_to_axis_mm=100.0, source_to_detector_mm=160.0)
    by_geometry = replace(PAGANIN, phase_distance_mm=None)
    assert filter_strength(cone, by_geometry) == pytest.approx(STRENGTH / 1.6)


@pytest.mark.parametrize(
    ("acquisition", "changed", "message"),
    [
        (PARALLEL, {"delta_over_beta": None}, "flatfield.delta_over_beta: expected a number"),
        (PARALLEL, {"phase_energy_kev": None}, "flatfield.phase_energy_kev: expected a photon energy"),
        (PARALLEL, {"phase_distance_mm": None}, "flatfield.phase_distance_mm: expected the distance"),
        (replace(PARALLEL, calibrated=False), {}, "needs the pixel size"),
        (PARALLEL, {"delta_over_beta": 1e9}, "expected a filter of at most 256 pixels"),
    ],
)
def test_what_the_filter_cannot_do_without(acquisition, changed, message):
    with pytest.raises(SettingsError) as caught:
        filter_strength(acquisition, replace(PAGANIN, **changed))
    assert message in str(caught.value)


def test_bad_arguments():
    with pytest.raises(ValueError, match="strength: expected a finite number of at least 0, got -1"):
        retrieve_phase(torch.ones(3, 4), strength=-1)
