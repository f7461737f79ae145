"""When an iteration ends, and what it gives back: shared by all iterative reconstructions."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from xrmflow.arrays import Track

Reason = Literal["iterations", "relative change", "noise", "gradient"]
# The relative change must stay small for so many iterations: accelerated methods pass through flat stretches.
PATIENCE = 3


@dataclass(frozen=True)
class Stop:
    """When to end before the given number of iterations; what is left at its default never ends an iteration.

    Attributes:
        relative_change: end when what the method decreases (the residual; for TV the objective) changes by less than
            this fraction of itself, three times in a row.
        noise: standard deviation of the line integrals (of their product with the root of their weights, where there
            are weights): end when the residual is noise * sqrt(measurements) or less (the discrepancy principle of
            Morozov), because from then on an iteration fits noise.
        gradient: end when |A' W (b - A x)| is this fraction of |A' W b| or less; CGLS only.
    """

    relative_change: float = 0.0
    noise: float | None = None
    gradient: float = 0.0

    def __post_init__(self) -> None:
        for name in ("relative_change", "gradient"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"stop.{name}: expected a fraction, at least 0 and below 1, got {getattr(self, name)}")
        if self.noise is not None and not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"stop.noise: expected a standard deviation of 0 or more, got {self.noise}")


NEVER = Stop()


@dataclass(frozen=True)
class Result:
    """What an iterative reconstruction gives back.

    Attributes:
        volume: (z, y, x), attenuation per mm.
        residuals: |sqrt(W) (b - A x)| at the start and after each iteration, without unit. Of OS-SART, that of each
            subset as it was met, one value for each round.
        stopped_because: what ended the iteration.
    """

    volume: Tensor
    residuals: list[float]
    stopped_because: Reason


class Monitor:
    """Keeps the residuals and says when to stop."""

    def __init__(self, stop: Stop, *, iterations: int, measurements: int) -> None:
        self.residuals: list[float] = []
        self.reason: Reason = "iterations"
        self._stop, self._iterations = stop, iterations
        self._enough = -1.0 if stop.noise is None else stop.noise * math.sqrt(measurements)
        self._last, self._flat = math.inf, 0

    def done(self, residual: float, *, objective: float | None = None, gradient: float = math.inf) -> bool:
        """Record a residual (and the objective, where that is what decreases); True when it is enough.

        `gradient` is relative to that of a volume of zeros.
        """
        self.residuals.append(residual)
        value = residual if objective is None else objective
        flat = abs(self._last - value) < self._stop.relative_change * abs(value)
        self._last, self._flat = value, self._flat + 1 if flat else 0
        if residual <= self._enough:
            return self._end("noise")
        if gradient <= self._stop.gradient:
            return self._end("gradient")
        return self._end("relative change") if self._flat >= PATIENCE else False

    def result(self, volume: Tensor) -> Result:
        """The volume with the history of how it came about."""
        return Result(volume, self.residuals, self.reason)

    def _end(self, reason: Reason) -> bool:
        self.reason = reason
        return True


def rounds(track: Track, iterations: int, label: str) -> Iterator[int]:
    """The iterations, followed by one more turn in which to look at what the last of them left."""
    yield from track(range(iterations), total=iterations, label=label)
    yield iterations
