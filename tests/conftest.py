"""Fixtures shared by all tests."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

REAL_DATA = Path(os.environ.get("XRMFLOW_TEST_DATA", Path(__file__).parents[1].parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of measured scans; tests that need it skip where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no measured data: {REAL_DATA} is absent (set XRMFLOW_TEST_DATA)")
    return REAL_DATA


@pytest.fixture(scope="session")
def cases(pytestconfig: pytest.Config) -> Callable[[int], int]:
    """How many cases a test marked `faults` tries: what `--faults-n` says, else its own few."""
    asked = pytestconfig.getoption("--faults-n")
    return lambda few: few if asked is None else asked


@pytest.fixture
def draws(pytestconfig: pytest.Config) -> np.random.Generator:
    """Decides the cases of a test marked `faults`: other ones for another `--faults-seed`."""
    return np.random.default_rng(pytestconfig.getoption("--faults-seed"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many broken files and interrupted runs the tests marked `faults` try."""
    parser.addoption("--faults-n", type=int, help="cases of each kind in tests marked faults (default: a few)")
    parser.addoption("--faults-seed", type=int, default=0, help="other cases of damage and of kills, for more of them")
