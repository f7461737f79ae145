import pytest
import torch

from xrmflow.calibration.polynomial import is_monotone, linearise


def test_is_the_sum_of_powers():
    p = torch.linspace(0, 3, 7, dtype=torch.float64)
    assert torch.allclose(linearise(p, [1.0, 0.2, -0.01]), p + 0.2 * p**2 - 0.01 * p**3)
    assert torch.equal(linearise(p, [1.0]), p)


def test_slope_at_zero_is_the_first_coefficient():
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    linearise(p, [1.0, 5.0, -3.0]).sum().backward()
    assert p.grad.item() == 1.0


def test_gradients_to_line_integrals_and_coefficients():
    p = torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    c = torch.tensor([1.0, 0.3, 0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(linearise, (p, c))


def test_monotone_up_to_the_largest():
    assert is_monotone([1.0, 0.5], 10.0)
    assert is_monotone([1.0, -0.1], 4.9)
    assert not is_monotone([1.0, -0.1], 5.1)


def test_no_coefficients():
    with pytest.raises(ValueError, match="coefficients: expected at least one, got none"):
        linearise(torch.ones(2), [])
