"""The beam-hardening correction as a polynomial of the line integrals."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def linearise(line_integrals: Tensor, coefficients: Sequence[float] | Tensor) -> Tensor:
    """Corrected line integrals p' = sum_i c_i p^i, i = 1 ... n; no constant term.

    With c_1 = 1 the slope at zero is one: thin objects are left as they are, and corrected line integrals are those of
    monochromatic radiation at the energy that a thin object sees.

    Args:
        line_integrals: any shape, dimensionless; gradients flow to them.
        coefficients: c_1 ... c_n, numbers or a tensor (gradients flow to it too).

    Raises:
        ValueError: no coefficients.

    Source:
        Herman, Phys. Med. Biol. 24, 81 (1979); Kachelriess et al., Med. Phys. 33, 1269 (2006).
    """
    if len(coefficients) == 0:
        raise ValueError("coefficients: expected at least one, got none")
    result = coefficients[len(coefficients) - 1] * line_integrals
    for index in range(len(coefficients) - 2, -1, -1):
        result = (result + coefficients[index]) * line_integrals
    return result


def is_monotone(coefficients: Sequence[float], largest: float) -> bool:
    """Whether sum_i c_i p^i grows everywhere on 0 <= p <= largest."""
    slopes = np.polynomial.polynomial.polyder(np.concatenate([[0.0], np.asarray(coefficients, dtype=float)]))
    return bool((np.polynomial.polynomial.polyval(np.linspace(0, largest, 257), slopes) > 0).all())
