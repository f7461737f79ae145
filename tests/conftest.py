"""Fixtures shared by all tests."""

import os
import struct
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


@pytest.fixture(scope="session")
def write_isq() -> Callable[..., Path]:
    """A function that writes a Scanco .isq volume, as itk-ioscanco describes its header."""
    return _write_isq


def _write_isq(
    path: Path,
    voxels: np.ndarray,
    *,
    edge_um: int = 60,
    scaling: int = 4096,
    sides: tuple[int, int, int] | None = None,
    calibration: bytes = b"",
) -> Path:
    """Write int16 voxels (z, y, x); attenuation per cm is voxel / scaling, `calibration` two doubles of a VAX."""
    z, y, x = voxels.shape
    head = bytearray(512 * (5 if calibration else 1))
    head[:16] = b"CTDATA-HEADER_V1"
    numbers = {16: 3, 44: x, 48: y, 52: z, 68: edge_um, 88: scaling, 168: 68_000, 172: 1470}
    numbers |= dict(zip((56, 60, 64), sides or (x * edge_um, y * edge_um, z * edge_um), strict=True))
    head[128:133] = b"tibia"
    if calibration:
        numbers |= {508: 4, 1024 + 24: 2}
        head[512 + 8 : 512 + 24] = b"MultiHeader     "
        head[1024 + 8 : 1024 + 24] = b"Calibration     "
        head[1536 + 648 : 1536 + 657] = b"mg HA/ccm"
        head[1536 + 664 : 1536 + 680] = calibration
    for at, number in numbers.items():
        struct.pack_into("<i", head, at, number)
    path.write_bytes(bytes(head) + voxels.astype("<i2").tobytes())
    return path


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many broken files and interrupted runs the tests marked `faults` try."""
    parser.addoption("--faults-n", type=int, help="cases of each kind in tests marked faults (default: a few)")
    parser.addoption("--faults-seed", type=int, default=0, help="other cases of damage and of kills, for more of them")
