import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from xrmflow.correction import defects, rings
from xrmflow.correction import plan as planning
from xrmflow.correction.air import find_margins
from xrmflow.correction.flatfield import correct
from xrmflow.correction.plan import HALO, Plan, plan
from xrmflow.correction.references import references_for
from xrmflow.correction.steps import Steps
from xrmflow.correction.sums import Sums
from xrmflow.io.scratch import OnDisk

VIEWS, ROWS, COLS, PHOTONS = 40, 24, 64, 20000.0
PLAIN = Steps(rings="none", outlier_sigmas=None, dead_pixel_tolerance=None, open_beam="none")


def scan(noise=True, flicker=0.0, seed=0):
    """Counts, flats, darks and true line integrals of a cylinder that leaves air at both sides."""
    rng = np.random.default_rng(seed)
    u = np.linspace(-1, 1, COLS)
    truth = np.broadcast_to(2.0 * np.sqrt(np.clip(0.5 - u**2, 0, None)), (VIEWS, ROWS, COLS))
    pattern = PHOTONS * (1 + 0.1 * np.sin(np.arange(ROWS * COLS)).reshape(ROWS, COLS))
    source = 1 + flicker * rng.normal(size=(VIEWS, 1, 1))
    draw = rng.poisson if noise else (lambda mean, size=None: np.broadcast_to(mean, size or np.shape(mean)))
    counts = draw(source * pattern * np.exp(-truth)) + 100.0
    flats = draw(pattern, (12, ROWS, COLS)) + 100.0
    return counts, flats, np.full((3, ROWS, COLS), 100.0), truth


class Counting:
    """Counts how often each row of each view is read."""

    def __init__(self, data):
        self.data, self.shape, self.dtype = data, data.shape, data.dtype
        self.reads = np.zeros(data.shape[:2])

    def __getitem__(self, selection):
        self.reads[selection] += 1
        return self.data[selection]


def run(counts, flats, darks, steps, **options):
    out = np.zeros(counts.shape, np.float32)
    given = {key: options.pop(key) for key in ("exposure_s", "flat_exposure_s") if key in options}
    refs = references_for(counts, flats=flats, darks=darks, steps=steps, **given)
    return out, correct(counts, out, refs, steps=steps, **options).summary()


def test_noise_free_counts_give_the_true_line_integrals():
    counts, flats, darks, truth = scan(noise=False)
    out, _ = run(counts, flats, darks, PLAIN)
    assert np.abs(out - truth).max() < 1e-4


@pytest.mark.parametrize("phase_strength", [0.0, 2.0])
@pytest.mark.parametrize("method", ["offset", "sorting"])
def test_bands_and_views_at_a_time_do_not_change_a_bit(phase_strength, method, monkeypatch, tmp_path):
    counts, flats, darks, _ = scan()
    counts[5, 11, 30], counts[:, 8, 20], flats[:, 17, 40] = 60000, 7000, 100
    options = {"phase_strength": phase_strength}
    whole, statistics = run(counts, flats, darks, Steps(rings=method), **options)
    monkeypatch.setattr(planning, "ROWS", 8)
    parts, of_parts = run(
        counts, flats, darks, Steps(rings=method), memory_gb=1e-6, scratch=OnDisk(tmp_path), **options
    )
    assert np.array_equal(whole, parts)
    assert statistics == of_parts


def test_each_row_is_read_with_its_neighbours_and_no_more(monkeypatch):
    """A store decodes whole chunks: so every view is read once a band."""
    counts, flats, darks, _ = scan()
    monkeypatch.setattr(planning, "ROWS", 8)
    raw, steps = Counting(counts), Steps(open_beam="none")
    refs = references_for(counts, flats=flats, darks=darks, steps=steps)
    correct(raw, np.zeros(counts.shape, np.float32), refs, steps=steps, memory_gb=1e-6)
    survey = np.zeros(ROWS)
    for start in sorted({int(s) for s in np.linspace(0.15, 0.85, 4) * (ROWS - 8)}):
        survey[start : start + 8] += 1
    around = sum(np.pad(np.ones(8 + 2 * HALO), (first, ROWS))[HALO:][:ROWS] for first in (0, 8, 16))
    assert np.array_equal(raw.reads, np.broadcast_to(survey + around, (VIEWS, ROWS)))


@pytest.mark.parametrize(
    ("cuts", "rings"), [((0, 8, 16, 24), "offset"), ((0, 11, 24), "sorting"), ((0, 1, 24), "wavelet_fourier")], ids=str
)
def test_rows_by_themselves_get_the_bits_and_sums_of_the_whole(cuts, rings):
    """Also where a cluster of dead pixels reaches over several of the cuts, and many pixels are dead at once."""
    counts, flats, darks, _ = scan()
    scattered = np.random.default_rng(1).random((ROWS, COLS)) < 0.15
    scattered[3:20, 30:45] = True
    flats[:, scattered], counts[:, scattered] = 100, 100
    counts[5, 11, 20] = 60000
    steps = Steps(rings=rings)
    whole, statistics = run(counts, flats, darks, steps)
    refs = references_for(counts, flats=flats, darks=darks, steps=steps)
    out = np.zeros_like(whole)
    parts = [correct(counts, out, refs, steps=steps, rows=slice(*ends)) for ends in pairwise(cuts)]
    assert np.array_equal(whole, out)
    assert all(part.known == parts[0].known for part in parts)
    sums = Sums.of_parts(json.loads(json.dumps(part.sums.to_dict())) for part in parts)
    assert parts[0].known | sums.summary() == statistics


def test_rows_that_are_not_there_are_refused():
    counts, flats, darks, _ = scan()
    refs = references_for(counts, flats=flats, darks=darks, steps=Steps())
    for rows, strength in ((slice(0, ROWS + 1), 0.0), (slice(4, 4), 0.0), (slice(0, 8), 1.0)):
        with pytest.raises(ValueError, match="rows: expected some of 24, all where the phase is retrieved"):
            correct(counts, np.zeros(counts.shape), refs, steps=Steps(), rows=rows, phase_strength=strength)


def test_statistics_count_what_was_mended():
    counts, flats, darks, _ = scan()
    counts[5, 11, 30] = 60000
    flats[:, 17, 40] = 100
    _, statistics = run(counts, flats, darks, Steps())
    assert statistics["dead_pixels"] == 1
    assert statistics["outliers_fraction"] == pytest.approx(1 / counts.size)
    assert statistics["photons_per_count"] == pytest.approx(1, rel=0.05)
    assert statistics["open_beam_counts_median"] == pytest.approx(PHOTONS, rel=0.07)
    assert statistics["low_count_fraction"] == 0


def test_unknown_gain_is_said():
    counts, flats, darks, _ = scan()
    _, statistics = run(counts, flats[:1], darks, Steps())
    assert statistics["open_beam_counts_median"] is None
    assert statistics["photons_per_count_source"] == "unknown"
    assert statistics["open_beam_grey_median"] == pytest.approx(PHOTONS, rel=0.05)


def test_all_defects_together_stay_near_the_truth():
    counts, flats, darks, truth = scan(flicker=0.02)
    rng = np.random.default_rng(3)
    gain = np.ones((ROWS, COLS))
    gain[rng.integers(0, ROWS, 40), rng.integers(0, COLS, 40)] = 1.05
    counts = 100 + (counts - 100) * gain
    counts[rng.integers(0, VIEWS, 30), rng.integers(0, ROWS, 30), rng.integers(0, COLS, 30)] = 65000
    counts[:, 3, 33] = 100
    flats[:, 3, 33] = 100
    out, _ = run(counts, flats, darks, Steps())
    photon_noise = np.sqrt(np.exp(truth).mean() / PHOTONS)
    assert np.sqrt(np.mean((out - truth) ** 2)) < 2.5 * photon_noise
    assert np.abs(out - truth).max() < 0.15


def test_open_beam_follows_the_source():
    counts, flats, darks, truth = scan(flicker=0.02)
    bare, _ = run(counts, flats, darks, PLAIN)
    followed, statistics = run(counts, flats, darks, replace(PLAIN, open_beam="auto"))
    assert statistics["air_columns"] == [4, 4]
    errors = [np.abs((p - truth).mean(axis=(1, 2))).max() for p in (bare, followed)]
    assert errors[0] > 0.03
    assert errors[1] < 0.003


def test_an_object_at_the_edge_is_not_taken_for_air():
    transmitted = torch.ones(20, 4, 64)
    transmitted[:, :, -8:] = torch.linspace(1, 0.9, 8)
    assert find_margins(transmitted, width=4).right == 0
    assert find_margins(transmitted, width=4).left == 4
    transmitted[3:6, :, :4] = torch.tensor([1.0, 1.0, 0.8, 0.6])
    assert find_margins(transmitted, width=4).left == 0


def test_flats_at_another_exposure_are_scaled():
    counts, flats, darks, truth = scan(noise=False)
    flats = 100 + (flats - 100) / 4
    out, statistics = run(counts, flats, darks, PLAIN, exposure_s=2.0, flat_exposure_s=0.5)
    assert statistics["exposure_ratio"] == 4.0
    assert np.abs(out - truth).max() < 1e-4


@pytest.mark.parametrize("already", ["transmission", "line_integral"])
def test_corrected_data_are_not_divided_again(already):
    truth = scan()[3]
    values = np.exp(-truth) if already == "transmission" else np.array(truth)
    refs = references_for(values, flats=None, darks=None, steps=PLAIN, already=already)
    out = np.zeros(values.shape, np.float32)
    correct(values, out, refs, steps=PLAIN, already=already)
    assert np.abs(out - truth).max() < 1e-5


def test_rows_along_with_a_band_are_those_that_are_looked_at():
    assert HALO == defects.ROWS_AROUND + rings.ROWS_AROUND


def test_bands_are_whole_chunks_that_fit_memory_or_lie_on_a_disk():
    assert plan((100, 50, 10), memory_gb=1) == Plan(50, 32, in_memory=True)
    assert plan((1600, 2000, 2000), memory_gb=16) == Plan(960, 32, in_memory=True)
    assert plan((1600, 2000, 2000), memory_gb=2) == Plan(64, 32, in_memory=True)
    assert plan((3200, 2000, 2000), memory_gb=2) == Plan(64, 32, in_memory=False)
    assert plan((3200, 2000, 2000), memory_gb=0.1) == Plan(64, 12, in_memory=False)
    assert plan((3200, 2000, 2000), memory_gb=1e-6) == Plan(64, 4, in_memory=False)


def test_output_of_another_shape_is_refused():
    counts, flats, darks, _ = scan()
    refs = references_for(counts, flats=flats, darks=darks, steps=Steps())
    with pytest.raises(ValueError, match="out: expected the shape of raw"):
        correct(counts, np.zeros((1, 2, 3)), refs, steps=Steps())
