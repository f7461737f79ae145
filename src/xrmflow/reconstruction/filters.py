"""The ramp filter along detector rows: band-limited in real space, zero-padded, so that means are kept.

A ramp sampled in frequency (|f| on the FFT grid) loses the mean and fakes cupping; the kernel sampled in real space
does not (Kak & Slaney 1988, eq. 61).
"""

import math
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy import fft
from torch import Tensor
from torch.autograd import Function

Window = Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann"]

# Rows per transform: large enough to keep the FFT busy, small enough to stay in the cache.
ROWS_AT_ONCE = 256


def ramp_filter(projections: Tensor, *, window: Window = "ram-lak") -> Tensor:
    """Convolve each row with the band-limited ramp for unit pitch: q(n) = sum_m h(n - m) p(m), outside the row p = 0.

    h(0) = 1/4, h(odd n) = -1 / (pi n)^2, h(even n) = 0, its spectrum times the window. Divide by the pixel pitch for
    attenuation. Symmetric, therefore its own adjoint; differentiable any number of times.

    Args:
        projections: (..., col), float32 or float64.
        window: what tames the high frequencies.

    Returns:
        Same shape and type.
    """
    spectrum = ramp_spectrum(projections.shape[-1], window=window)
    return _Filter.apply(projections, spectrum)  # type: ignore[return-value]


def ramp_spectrum(cols: int, *, window: Window = "ram-lak") -> np.ndarray:
    """Real spectrum (rfft) of the ramp for rows of `cols` pixels, long enough that the convolution does not wrap.

    Raises:
        ValueError: an unknown window.
    """
    if window not in get_args(Window):
        raise ValueError(f"window: expected one of {', '.join(get_args(Window))}, got {window!r}")
    length = _length(cols)
    n = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.zeros(length)
    kernel[0] = 0.25
    odd = n % 2 == 1
    kernel[odd] = -1.0 / (math.pi * n[odd]) ** 2
    # Beyond the row the kernel is never used; leaving it out there would only change what wraps.
    return np.real(np.asarray(fft.rfft(kernel))) * _window(length, window)


def _length(cols: int) -> int:
    return int(fft.next_fast_len(2 * cols, real=True))  # type: ignore[arg-type]


def _window(length: int, window: Window) -> np.ndarray:
    """Window on the rfft frequencies, 1 at zero; f runs from 0 to 1/2 cycles per pixel."""
    f = fft.rfftfreq(length)
    if window == "shepp-logan":
        return np.sinc(f)
    if window == "cosine":
        return np.cos(math.pi * f)
    if window == "hamming":
        return 0.54 + 0.46 * np.cos(2 * math.pi * f)
    if window == "hann":
        return 0.5 + 0.5 * np.cos(2 * math.pi * f)
    return np.ones_like(f)


class _Filter(Function):
    @staticmethod
    def forward(ctx: Any, projections: Tensor, spectrum: np.ndarray) -> Tensor:
        ctx.spectrum = spectrum
        if projections.device.type == "cpu":
            data = np.ascontiguousarray(projections.detach().numpy())
            return torch.from_numpy(_convolve(data, spectrum))
        return _convolve_there(projections.detach(), torch.from_numpy(spectrum).to(projections))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Filter.apply(gradient, ctx.spectrum), None  # type: ignore[return-value]


def _convolve(data: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """Block by block; scipy's FFT is several times faster than torch's on CPU."""
    cols = data.shape[-1]
    rows = data.reshape(-1, cols)
    out = np.empty_like(rows)
    length = _length(cols)
    response = spectrum.astype(data.dtype)
    workers = torch.get_num_threads()
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = np.asarray(fft.rfft(rows[start : start + ROWS_AT_ONCE], length, workers=workers)) * response
        out[start : start + ROWS_AT_ONCE] = np.asarray(fft.irfft(block, length, workers=workers))[:, :cols]
    return out.reshape(data.shape)


def _convolve_there(projections: Tensor, spectrum: Tensor) -> Tensor:
    """The same with torch, on a GPU; a view at a time, so that the spectra stay small."""
    cols = projections.shape[-1]
    length, out = _length(cols), torch.empty_like(projections)
    for rows, result in zip(projections.flatten(0, -3), out.flatten(0, -3), strict=True):
        result.copy_(torch.fft.irfft(torch.fft.rfft(rows, length) * spectrum, length)[..., :cols])
    return out


def extend_rows(projections: Tensor, columns: int) -> Tensor:
    """Continue truncated rows on both sides: the edge value, falling to zero over `columns` pixels as a squared cosine.

    For objects wider than the field of view, whose sharp edge the ramp filter would turn into a bright rim
    (Ohnesorge et al., Med. Phys. 27, 2000, in spirit).

    Args:
        projections: (..., col).
        columns: pixels to add on each side.

    Returns:
        (..., columns + col + columns).
    """
    if columns == 0:
        return projections
    steps = torch.arange(1, columns + 1, dtype=projections.dtype, device=projections.device) / (columns + 1)
    fall = torch.cos(0.5 * math.pi * steps) ** 2
    return torch.cat([projections[..., :1] * fall.flip(0), projections, projections[..., -1:] * fall], dim=-1)
