"""Grey values to network values and back: fixed numbers stored with the model, never per image.

A normalisation taken from each image would make the output's density depend on what else is in the image.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from xrmflow.errors import UserError

Values = TypeVar("Values", Tensor, np.ndarray)


@dataclass(frozen=True)
class Normalisation:
    """network value = (value - mean) / deviation, both in the unit of the volume."""

    mean: float
    deviation: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.mean) and np.isfinite(self.deviation) and self.deviation > 0):
            raise ValueError(f"deviation: expected finite numbers, positive, got {self.mean}, {self.deviation}")

    @classmethod
    def measured(cls, slices: Iterable[np.ndarray]) -> "Normalisation":
        """Mean and standard deviation of all values of some slices; raises UserError for NaN or values all equal."""
        values = np.concatenate([np.asarray(one, dtype=np.float64).ravel() for one in slices])
        mean, deviation = float(values.mean()), float(values.std())
        if not np.isfinite(deviation) or deviation == 0:
            raise UserError(
                f"training volumes: expected finite values that are not all equal, got mean {mean:g} and standard "
                f"deviation {deviation:g}; look at the volumes for NaN or an empty field of view"
            )
        return cls(mean, deviation)

    def apply(self, values: Values) -> Values:
        """Volume values to network values."""
        return (values - self.mean) / self.deviation

    def undo(self, values: Values) -> Values:
        """Network values to volume values."""
        return values * self.deviation + self.mean

    def to_dict(self) -> dict[str, float]:
        """Plain JSON-ready record."""
        return asdict(self)


def evenly(count: int, most: int = 32) -> list[int]:
    """At most `most` indices spread evenly through range(count)."""
    return np.unique(np.linspace(0, count - 1, most).astype(int)).tolist()
