"""What a correction counts."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Sums:
    """What is counted over rows, by whatever bands or jobs; in the end it is the same for a scan.

    Attributes:
        dead: pixels.
        values: line integrals.
        outliers: values replaced.
        low: values of few photons, or of little transmission.
        ring_squares: for each row the sum over its line integrals of the squares of what ring removal changed.
    """

    dead: int = 0
    values: int = 0
    outliers: int = 0
    low: int = 0
    ring_squares: list[float] = field(default_factory=list)

    @classmethod
    def of_parts(cls, parts: Iterable[dict[str, Any]]) -> "Sums":
        """The sums of a scan from those of its parts."""
        total = cls()
        for part in (cls(**part) for part in parts):
            total.dead += part.dead
            total.values += part.values
            total.outliers += part.outliers
            total.low += part.low
            total.ring_squares += part.ring_squares
        return total

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for `of_parts`."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """dead_pixels, outliers_fraction, low_count_fraction and ring_change_rms, for the record of the scan."""
        values = max(1, self.values)
        return {
            "dead_pixels": self.dead,
            "outliers_fraction": self.outliers / values,
            "low_count_fraction": self.low / values,
            # Rounded once, so that it does not matter in which order rows were added up.
            "ring_change_rms": (math.fsum(self.ring_squares) / values) ** 0.5,
        }
