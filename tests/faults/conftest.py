"""Broken files, as many as `--faults-n N` says: each must end in words, quickly and in little memory."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from xrmflow.errors import UserError

# What handling one broken file may take.
SECONDS, MEGABYTES = 5.0, 1000.0


@dataclass(frozen=True)
class Outcome:
    """How one case ended: words of the fault ("" where there was none), seconds, peak memory above the start in MB."""

    said: str
    seconds: float
    megabytes: float


def _high_water_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def _forget_high_water() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.fixture
def attempt() -> Callable[..., Outcome]:
    """A function that runs another and says how it ended; anything but a `UserError` of one line fails the test."""

    def run(function: Callable[[], object], what: str) -> Outcome:
        _forget_high_water()
        before, begin, said = _high_water_mb(), time.monotonic(), ""
        try:
            function()
        except UserError as error:
            said = str(error)
            assert said.strip(), what
        except Exception as error:
            pytest.fail(f"{what}: {type(error).__name__}: {error}")
        outcome = Outcome(said, time.monotonic() - begin, _high_water_mb() - before)
        assert outcome.seconds < SECONDS, f"{what}: {outcome}"
        assert outcome.megabytes < MEGABYTES, f"{what}: {outcome}"
        return outcome

    return run
