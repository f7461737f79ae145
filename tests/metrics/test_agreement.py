import numpy as np
import pytest

from xrmflow.metrics.agreement import bland_altman


def test_known_pairs():
    result = bland_altman([2.0, 4.0, 9.0], [1.0, 4.0, 7.0])
    np.testing.assert_allclose(result.mean, [1.5, 4.0, 8.0])
    np.testing.assert_allclose(result.difference, [1.0, 0.0, 2.0])
    assert (result.bias, result.deviation) == pytest.approx((1.0, 1.0))
    assert result.limits == pytest.approx((1 - 1.95996, 1 + 1.95996), abs=1e-4)
    # t quantile for 2 degrees of freedom is 4.3027
    assert result.bias_interval == pytest.approx((1 - 4.3027 / 3**0.5, 1 + 4.3027 / 3**0.5), abs=1e-4)


def test_limits_hold_95_percent_of_differences_and_intervals_cover():
    rng = np.random.default_rng(0)
    inside, covered = [], []
    for _ in range(400):
        result = bland_altman(5 + rng.normal(0.3, 2.0, 25), np.full(25, 5.0))
        inside.append(np.mean(np.abs(rng.normal(0.3, 2.0, 50) - result.bias) <= 1.96 * result.deviation))
        covered.append(
            (
                result.bias_interval[0] <= 0.3 <= result.bias_interval[1],
                abs(result.limits[1] - (0.3 + 1.96 * 2.0)) <= result.limits_interval,
            )
        )
    assert np.mean(inside) == pytest.approx(0.945, abs=0.02)
    np.testing.assert_allclose(np.mean(covered, axis=0), 0.95, atol=0.03)


def test_order_reverses_the_sign():
    a, b = np.random.default_rng(0).random((2, 9))
    assert bland_altman(a, b).bias == pytest.approx(-bland_altman(b, a).bias)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])])
def test_too_few_or_unpaired_values_are_refused(a, b):
    with pytest.raises(ValueError, match="measured: expected at least 2 values"):
        bland_altman(a, b)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="finite"):
        bland_altman([1.0, np.nan], [1.0, 2.0])
