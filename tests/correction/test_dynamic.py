"""Dynamic flats: how many components there are, their weights, and what is gained on a beam whose pattern wanders."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xrmflow.correction.dynamic import (
    components_beyond_noise,
    components_of,
    flattest_weights,
    gradient,
    weights_of_views,
)
from xrmflow.correction.flatfield import correct
from xrmflow.correction.references import references_for
from xrmflow.correction.steps import Steps

ROWS, COLS, VIEWS, FLATS = 40, 48, 24, 30
PLAIN = Steps(rings="none", outlier_sigmas=None, dead_pixel_tolerance=None, open_beam="none")
DYNAMIC = replace(PLAIN, flats="dynamic")
ROW, COL = np.mgrid[:ROWS, :COLS]
MEAN = 20_000 * (1 + 0.1 * np.sin(0.9 * ROW) * np.cos(0.3 * COL))
STRIPES = 1200 * np.sin(0.8 * ROW + 0.1 * COL)
WAVE = 800 * np.cos(0.25 * ROW) * np.sin(0.4 * COL)


def beam(rng, count, parts, amplitude=1.0):
    weights = amplitude * rng.normal(size=(count, len(parts)))
    return MEAN + sum(w[:, None, None] * part for w, part in zip(weights.T, parts, strict=True)), weights


def scan(parts, seed=0):
    """Counts of a cylinder in a beam that changes from frame to frame, its flats, and the true line integrals."""
    rng = np.random.default_rng(seed)
    truth = np.broadcast_to(1.5 * np.sqrt(np.clip(1 - ((COL - 22) / 15) ** 2, 0, None)), (VIEWS, ROWS, COLS))
    flats, _ = beam(rng, FLATS, parts)
    beams, _ = beam(rng, VIEWS, parts)
    return rng.poisson(beams * np.exp(-truth)) + 100.0, rng.poisson(flats * np.ones((FLATS, 1, 1))) + 100.0, truth


def line_integrals(counts, flats, steps):
    darks = np.full((1, ROWS, COLS), 100.0)
    refs = references_for(counts, flats=flats, darks=darks, steps=steps)
    out = np.zeros(counts.shape, np.float32)
    statistics = correct(counts, out, refs, steps=steps).summary()
    return out, refs, statistics


def rms(image):
    return float(np.sqrt(np.mean(np.square(image))))


@pytest.mark.parametrize("parts", [[], [STRIPES], [STRIPES, WAVE]])
def test_parallel_analysis_counts_what_was_put_in(parts):
    flats, _ = beam(np.random.default_rng(1), FLATS, parts)
    noisy = np.random.default_rng(2).poisson(flats * np.ones((FLATS, 1, 1))).astype(np.float32)
    away = torch.from_numpy(noisy - noisy.mean(axis=0)).flatten(1)
    assert components_beyond_noise(away) == len(parts)


def test_components_span_what_was_put_in():
    flats, _ = beam(np.random.default_rng(1), FLATS, [STRIPES, WAVE])
    found = components_of(torch.from_numpy(flats))
    assert found is not None
    assert len(found.parts) == 2
    basis = torch.cat([found.parts, found.mean[None]]).flatten(1).T  # a change of brightness is no component
    for part in (STRIPES, WAVE):
        part = torch.from_numpy(part).flatten()
        left = part - basis @ torch.linalg.lstsq(basis, part[:, None]).solution[:, 0]
        assert left.norm() < 0.01 * part.norm()
    np.testing.assert_allclose(found.of_flats(), flats, rtol=2e-3)


def test_a_change_of_brightness_is_no_component():
    flats = MEAN * np.linspace(0.9, 1.1, FLATS)[:, None, None]
    noisy = np.random.default_rng(0).poisson(flats).astype(np.float32)
    assert components_of(torch.from_numpy(noisy)) is None


def test_weights_reach_the_least_total_variation():
    """No other weights nearby are better."""
    parts = torch.from_numpy(np.stack([STRIPES, WAVE]))
    mean = torch.from_numpy(MEAN)
    flats, true = beam(np.random.default_rng(3), 3, [STRIPES, WAVE])
    shown = torch.from_numpy(flats * np.exp(-0.8 * (((COL - 20) / 9) ** 2 + ((ROW - 20) / 9) ** 2 < 1)))
    found = flattest_weights(shown, mean, parts, largest=torch.full((2,), 10.0))

    def variation(weights):
        flat = mean + torch.tensordot(weights, parts, dims=1)
        return gradient(torch.log(flat / shown)).square().sum(dim=1).sqrt().sum(dim=(1, 2))

    np.testing.assert_allclose(found, true, atol=0.02)
    for step in torch.tensor([[0.05, 0.0], [0.0, 0.05], [-0.05, 0.03]], dtype=torch.float64):
        assert (variation(found) < variation(found + step)).all()


def test_a_beam_that_wanders_is_followed():
    counts, flats, truth = scan([STRIPES, WAVE])
    static, _, _ = line_integrals(counts, flats, PLAIN)
    dynamic, refs, statistics = line_integrals(counts, flats, DYNAMIC)
    errors = [rms((out - truth).mean(axis=2)) for out in (static, dynamic)]  # photon noise averages out along rows
    assert errors[0] > 0.01
    assert errors[1] < errors[0] / 5
    photon_noise = np.sqrt(np.mean(np.exp(truth) / MEAN))
    assert rms(dynamic - truth) < 1.1 * photon_noise < rms(static - truth) / 3
    assert refs.record["flats"] == "dynamic"
    assert statistics["photons_per_count"] == pytest.approx(1, rel=0.1)


def test_on_constant_flats_it_changes_nothing():
    counts, flats, _ = scan([])
    static, _, _ = line_integrals(counts, flats, PLAIN)
    dynamic, refs, _ = line_integrals(counts, flats, DYNAMIC)
    assert np.array_equal(static, dynamic)
    assert any("no component of 30 flats stands out" in note for note in refs.notes)
    few, _, _ = line_integrals(counts, flats[:3], DYNAMIC)
    assert np.array_equal(few, line_integrals(counts, flats[:3], PLAIN)[0])


def test_outliers_in_the_flats_make_no_component():
    flats = scan([])[1]
    rng = np.random.default_rng(5)
    flats[rng.integers(0, FLATS, 60), rng.integers(0, ROWS, 60), rng.integers(0, COLS, 60)] = 65_000
    assert components_of(torch.from_numpy(flats.astype(np.float32)) - 100) is None


def test_row_blocks_change_nothing():
    counts, flats, _ = scan([STRIPES])
    darks = np.full((1, ROWS, COLS), 100.0)
    refs = references_for(counts, flats=flats, darks=darks, steps=DYNAMIC)
    whole, parts = np.zeros(counts.shape, np.float32), np.zeros(counts.shape, np.float32)
    correct(counts, whole, refs, steps=DYNAMIC)
    correct(counts, parts, refs, steps=DYNAMIC, memory_gb=4 * 14 * VIEWS * COLS * 14 / 1e9)
    np.testing.assert_allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize("longest_px", [256, 24])
def test_weights_are_those_of_the_beam_at_any_averaging(monkeypatch, longest_px):
    """Noise of the components (7 % of the squares of their gradients at full resolution) draws none towards zero."""
    monkeypatch.setattr("xrmflow.correction.dynamic.LONGEST_PX", longest_px)
    rng = np.random.default_rng(0)
    flats, of_flats = beam(rng, FLATS, [WAVE])
    beams, of_views = beam(rng, VIEWS, [WAVE])
    found = components_of(torch.from_numpy(rng.poisson(flats).astype(np.float32)))
    assert found is not None
    weights = weights_of_views(rng.poisson(beams), found, dark=torch.zeros(ROWS, COLS))[:, 0].numpy()
    slope, _ = np.polyfit(of_views[:, 0], weights, 1)
    assert abs(slope) * of_flats.std() == pytest.approx(1, abs=0.02)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"flats: expected shape \(n, row, col\)"):
        components_of(torch.ones(3, 4))
    with pytest.raises(ValueError, match="flats: expected a positive mean"):
        components_of(torch.zeros(6, 3, 4))
