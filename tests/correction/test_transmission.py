import math

import numpy as np
import pytest
import torch

from xrmflow.correction.transmission import line_integrals, open_beam, transmission


def test_inverts_beer_lambert():
    truth = torch.linspace(0, 3, 24, dtype=torch.float64).reshape(2, 3, 4)
    flat, dark = 1000 + torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 100.0
    counts = dark + (flat - dark) * torch.exp(-truth)
    assert torch.allclose(line_integrals(transmission(counts, dark, open_beam(flat, dark))), truth, atol=1e-12)


def test_scaling_of_all_intensities_changes_nothing():
    counts, flat, dark = torch.tensor([[[30.0, 50.0]]]), torch.tensor([[100.0, 110.0]]), torch.tensor([[5.0, 6.0]])
    once = transmission(counts, dark, open_beam(flat, dark))
    assert torch.allclose(once, transmission(7 * counts, 7 * dark, open_beam(7 * flat, 7 * dark)))


def test_exposure_ratio_scales_the_open_beam():
    flat = torch.full((2, 2), 500.0)
    counts = torch.full((1, 2, 2), 1000.0)
    assert torch.allclose(transmission(counts, 0.0, open_beam(flat, exposure_ratio=2.0)), torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match="exposure_ratio: expected a positive number, got 0"):
        open_beam(flat, exposure_ratio=0)


@pytest.mark.parametrize("mean_counts", [10.0, 20.0, 50.0])
def test_low_count_logarithm_is_unbiased_where_the_plain_one_is_not(mean_counts):
    rng = np.random.default_rng(0)
    photons = 4 * mean_counts
    counts = torch.from_numpy(rng.poisson(mean_counts, 400_000).astype(np.float64)).reshape(1, 1, -1)
    truth, error = math.log(4.0), 1 / math.sqrt(mean_counts * 400_000)
    corrected = line_integrals(counts / photons, torch.tensor(photons, dtype=torch.float64)).mean() - truth
    plain = line_integrals(counts / photons).mean() - truth
    assert abs(float(corrected)) < 5 * error + 0.1 / mean_counts**2
    assert float(plain) == pytest.approx(1 / (2 * mean_counts), rel=0.5)


def test_no_light_gives_finite_values():
    nothing = torch.tensor([[[-3.0, 0.0]]])
    assert torch.isfinite(line_integrals(transmission(nothing, 0.0, torch.tensor([[100.0, 0.0]])))).all()
    assert torch.isfinite(line_integrals(nothing, torch.tensor(100.0))).all()


def test_gradients_to_counts_flat_and_dark():
    generator = torch.Generator().manual_seed(1)
    counts = 300 + 100 * torch.rand(2, 3, 2, dtype=torch.float64, generator=generator)
    flat = 1000 + torch.rand(3, 2, dtype=torch.float64, generator=generator)
    dark = 50 + torch.rand(3, 2, dtype=torch.float64, generator=generator)

    def chain(counts, flat, dark):
        beam = open_beam(flat, dark, exposure_ratio=0.5)
        return line_integrals(transmission(counts, dark, beam), beam)

    inputs = tuple(t.requires_grad_() for t in (counts, flat, dark))
    assert torch.autograd.gradcheck(chain, inputs)
