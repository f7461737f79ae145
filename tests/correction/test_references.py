import numpy as np
import pytest
import torch

from xrmflow.correction.references import Flats, average, flats_of, photons_per_count, references_for
from xrmflow.correction.steps import Steps
from xrmflow.errors import RawFileError


def test_average_ignores_a_zinger():
    rng = np.random.default_rng(0)
    frames = rng.normal(1000, 10, (10, 6, 7))
    clean = frames.mean(axis=0)
    frames[4, 2, 3] = 60000
    result = average(torch.from_numpy(frames)).numpy()
    assert abs(result[2, 3] - np.delete(frames[:, 2, 3], 4).mean()) < 1e-9
    assert np.delete(result - clean, 2 * 7 + 3) == pytest.approx(0, abs=1e-9)


def test_average_of_two_is_their_mean():
    frames = torch.tensor([[[1.0]], [[5.0]]])
    assert average(frames).item() == 3.0


@pytest.mark.parametrize("gain", [0.5, 1.0, 4.0])
def test_detector_gain_from_the_scatter_of_flats(gain):
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 1.03, 8)[:, None, None]
    flats = rng.poisson(5000 * drift, (8, 40, 50)) / gain + 100
    estimate = photons_per_count(torch.from_numpy(flats), 100.0)
    assert estimate == pytest.approx(gain, rel=0.03)


def test_detector_gain_is_unknown_for_one_flat_or_identical_flats():
    assert photons_per_count(torch.full((1, 2, 2), 9.0)) is None
    assert photons_per_count(torch.full((3, 2, 2), 9.0)) is None


def test_flats_follow_a_linear_drift_exactly():
    flats = Flats(torch.tensor([[[100.0]], [[200.0]]]), (0.0, 10.0))
    assert flats.at(torch.arange(11)).flatten().tolist() == [100.0 + 10 * i for i in range(11)]


def test_flats_are_grouped_by_time_only_when_interpolated():
    frames = torch.tensor([[[1.0]], [[3.0]], [[10.0]]])
    assert flats_of(frames, [0, 0, 5], interpolate=True).frames.flatten().tolist() == [2.0, 10.0]
    assert flats_of(frames, [0, 0, 5], interpolate=False).frames.shape[0] == 1
    with pytest.raises(ValueError, match="taken_at: expected one number for each of 3 flats, got 1"):
        flats_of(frames, [0], interpolate=True)


RAW = np.full((5, 2, 40), 50, dtype=np.uint16)


def test_missing_flat_is_an_error_by_default_and_says_what_to_do():
    with pytest.raises(RawFileError, match=r"no flat .* set flatfield\.missing_flat to estimate"):
        references_for(RAW, flats=None, darks=None, steps=Steps())


def test_missing_dark_is_assumed_zero_and_noted_or_an_error():
    flats = np.full((1, 2, 40), 100.0)
    refs = references_for(RAW, flats=flats, darks=None, steps=Steps())
    assert refs.dark.abs().max() == 0
    assert refs.record["dark"] == "none"
    assert "no dark frames" in refs.notes[0]
    with pytest.raises(RawFileError, match="missing_dark"):
        references_for(RAW, flats=flats, darks=None, steps=Steps(missing_dark="error"))


@pytest.mark.parametrize(
    ("exposures", "ratio", "note"),
    [
        ((2.0, 1.0), 2.0, None),
        ((2.0, None), 1.0, "exposure of the projections or of the flats is not recorded: taken to be equal"),
        ((None, None), 1.0, "exposure of the projections and of the flats is not recorded: taken to be equal"),
    ],
)
def test_an_exposure_that_is_not_recorded_is_noted(exposures, ratio, note):
    flats = np.full((1, 2, 40), 100.0)
    exposure_s, flat_exposure_s = exposures
    refs = references_for(
        RAW, flats=flats, darks=0 * flats, steps=Steps(), exposure_s=exposure_s, flat_exposure_s=flat_exposure_s
    )
    assert refs.exposure_ratio == ratio
    assert refs.notes == (() if note is None else (note,))


def test_flat_estimated_from_the_edges():
    raw = RAW.copy()
    raw[:, :, 10:30] = 10
    refs = references_for(raw, flats=None, darks=None, steps=Steps(missing_flat="estimate"))
    beam = refs.beam(slice(0, 5))
    assert beam is not None
    assert (beam == 50).all()
    assert refs.record["flat"] == "estimated"


def test_corrected_data_need_no_references():
    refs = references_for(RAW, flats=None, darks=None, steps=Steps(missing_dark="error"), already="transmission")
    assert refs.beam(slice(0, 5)) is None
    assert "not divided" in refs.notes[0]


def test_flats_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"flats: expected frames of \(row, col\) = \(2, 40\), got \(3, 40\)"):
        references_for(RAW, flats=np.ones((1, 3, 40)), darks=None, steps=Steps())


def test_unknown_times_of_flats_are_noted():
    flats = np.concatenate([np.full((2, 2, 40), 100.0), np.full((2, 2, 40), 200.0)])
    refs = references_for(RAW, flats=flats, darks=None, steps=Steps(flats="interpolate"))
    assert any("times of the flats" in note for note in refs.notes)
    beam = refs.beam(slice(0, 5))
    assert beam is not None
    assert beam[:, 0, 0].tolist() == [100.0, 120.0, 140.0, 160.0, 180.0]
