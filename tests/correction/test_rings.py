import numpy as np
import pytest
import torch

from xrmflow.correction.rings import _DIFFERENCE, _join, _least_squares, _split, filter_rings, offset_rings, sort_rings

VIEWS, ROWS, COLS = 90, 6, 96


def sinogram():
    """Two discs off the axis, parallel beam, line integrals."""
    angles = np.linspace(0, np.pi, VIEWS, endpoint=False)[:, None]
    u = np.linspace(-1, 1, COLS)[None]
    total = np.zeros((VIEWS, COLS))
    for x, y, radius, density in ((0.0, 0.0, 0.7, 1.0), (0.3, 0.2, 0.2, 0.8)):
        centre = x * np.cos(angles) + y * np.sin(angles)
        total += 2 * density * np.sqrt(np.clip(radius**2 - (u - centre) ** 2, 0, None))
    return torch.from_numpy(total)[:, None].repeat(1, ROWS, 1).float()


def stripes(seed=0):
    """A few pixels of each row answer differently; (1, row, col)."""
    rng = np.random.default_rng(seed)
    pattern = np.zeros((ROWS, COLS))
    for row in pattern:
        row[rng.choice(COLS, 6, replace=False)] = rng.normal(0, 0.1, 6)
    return torch.from_numpy(pattern)[None].float()


METHODS = {
    "offset": offset_rings,
    "sorting": lambda p: sort_rings(p, size=9),
    "wavelet_fourier": lambda p: filter_rings(p, levels=3, width=1.0),
}


# Measured: fraction of the stripes left, and change of a sinogram without stripes relative to them. A round object in
# the middle is the hardest case for each of them.
@pytest.mark.parametrize(("method", "left", "harm"), [("offset", 0.55, 0.1), ("sorting", 0.65, 0.45)])
def test_stripes_are_reduced_and_the_object_is_kept(method, left, harm):
    clean, remove = sinogram(), METHODS[method]
    before = stripes().expand_as(clean).square().mean().sqrt()
    assert (remove(clean + stripes()) - clean).square().mean().sqrt() < left * before
    assert (remove(clean) - clean).square().mean().sqrt() < harm * before


def test_wavelet_filter_removes_stripes_and_keeps_what_turns():
    turning = torch.sin(torch.arange(VIEWS) / 3.0)[:, None, None].expand(VIEWS, ROWS, COLS)
    pattern = stripes().expand(VIEWS, ROWS, COLS)
    cleaned = METHODS["wavelet_fourier"](turning + pattern)
    assert (cleaned - turning - pattern.mean()).std() < 0.5 * pattern.std()


def test_offsets_solve_the_normal_equations():
    rng = np.random.default_rng(0)
    middle, weight, expected = rng.normal(size=30), rng.uniform(1, 2, 30), rng.uniform(1, 2, 30)
    matrix = sum(w * np.eye(30, k=k - 2) for k, w in enumerate(_DIFFERENCE))
    normal = matrix.T @ np.diag(weight) @ matrix + np.diag(1 / expected)
    assert np.allclose(_least_squares(middle, weight, expected), np.linalg.solve(normal, matrix.T @ (weight * middle)))


def test_offsets_leave_pure_noise_alone():
    noise = 0.05 * torch.randn(VIEWS, ROWS, COLS, generator=torch.Generator().manual_seed(0))
    change = (offset_rings(noise) - noise)[0]
    assert change.square().mean().sqrt() < 0.8 * 0.05 / VIEWS**0.5


@pytest.mark.parametrize("method", METHODS)
def test_a_sinogram_constant_in_both_directions_is_left_alone(method):
    flat = torch.full((40, 2, 33), 0.7)
    assert torch.allclose(METHODS[method](flat), flat, atol=1e-5)


def test_wavelet_step_is_inverted_by_its_transpose():
    data = torch.rand(2, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for axis in (1, 2):
        low, high = _split(data, axis)
        assert torch.allclose(_join(low, high, axis), data, atol=1e-9)
        assert float(low.square().sum() + high.square().sum()) == pytest.approx(float(data.square().sum()), rel=1e-9)


def test_wavelet_filter_is_linear_and_differentiable():
    a, b = torch.rand(2, 6, 1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def remove(p):
        return filter_rings(p, levels=1, width=1.0)

    assert torch.allclose(remove(3 * a - b), 3 * remove(a) - remove(b))
    assert torch.autograd.gradcheck(remove, a.requires_grad_())


def test_rows_do_not_mix():
    p = sinogram() + stripes()
    for name in ("sorting", "wavelet_fourier"):
        assert torch.allclose(METHODS[name](p)[:, 2:4], METHODS[name](p[:, 2:4]), atol=1e-6)


def test_bad_arguments():
    with pytest.raises(ValueError, match="size: expected an odd number"):
        sort_rings(sinogram(), size=4)
    with pytest.raises(ValueError, match="levels, width"):
        filter_rings(sinogram(), levels=0, width=1.0)
