"""The ramp filter against a direct convolution, and its windows."""

import numpy as np
import pytest
import torch

from xrmflow.reconstruction.filters import extend_rows, ramp_filter, ramp_spectrum


def random(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("cols", [1, 2, 17, 64])
def test_equals_the_direct_convolution_with_the_band_limited_ramp(cols):
    rows = random(3, cols)
    n = np.arange(-cols + 1, cols)
    kernel = np.where(n % 2 == 0, 0.0, -1.0 / (np.pi * np.where(n == 0, 1, n)) ** 2)
    kernel[cols - 1] = 0.25
    expected = np.stack([np.convolve(row, kernel)[cols - 1 : 2 * cols - 1] for row in rows.numpy()])
    np.testing.assert_allclose(ramp_filter(rows).numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("window", ["ram-lak", "shepp-logan", "cosine", "hamming", "hann"])
def test_is_its_own_adjoint_and_differentiable(window):
    x, y = random(2, 3, 9).requires_grad_(), random(2, 3, 9)
    filtered = ramp_filter(x, window=window)
    filtered.backward(y)
    torch.testing.assert_close(x.grad, ramp_filter(y, window=window))
    assert torch.autograd.gradcheck(lambda d: ramp_filter(d, window=window), x)
    assert torch.autograd.gradgradcheck(lambda d: ramp_filter(d, window=window) ** 2, x)


def test_windows_order_from_sharp_to_smooth_and_agree_on_low_frequencies():
    windows = ("ram-lak", "shepp-logan", "cosine", "hamming", "hann")
    spectra = np.stack([ramp_spectrum(64, window=name) for name in windows])
    assert (np.diff(spectra[:, 30:].mean(axis=1)) < 0).all()
    np.testing.assert_allclose(spectra[1:, 1] / spectra[0, 1], 1, atol=2e-3)


def test_spectrum_is_the_ramp_at_high_and_keeps_the_mean_at_zero_frequency():
    spectrum = ramp_spectrum(512)
    frequency = np.linspace(0, 0.5, len(spectrum))
    np.testing.assert_allclose(spectrum[5:], frequency[5:], atol=3e-4)
    np.testing.assert_allclose(spectrum[5:400], frequency[5:400], atol=2e-5)
    # The sampled ramp would be zero here; that loses the mean and fakes cupping.
    assert 0 < spectrum[0] < 1e-3


def test_unknown_window_is_refused_by_name():
    with pytest.raises(ValueError, match=r"window: expected one of ram-lak.*got 'welch'"):
        ramp_spectrum(8, window="welch")


def test_rows_are_continued_from_their_edges_down_to_zero():
    rows = random(2, 3, 8).requires_grad_()
    extended = extend_rows(rows, 5)
    assert extended.shape == (2, 3, 18)
    torch.testing.assert_close(extended[..., 5:13], rows)
    ratio = (extended[..., 13:] / rows[..., -1:]).detach()
    assert bool((ratio.diff(dim=-1) < 0).all())
    assert float(ratio.max()) < 1
    assert float(ratio.min()) > 0
    assert extend_rows(rows, 0) is rows
    assert torch.autograd.gradcheck(lambda d: extend_rows(d, 5), rows)
