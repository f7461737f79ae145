"""What training and tiling ask of a network."""

from typing import Any

from torch import nn


class SliceNetwork(nn.Module):
    """A network that predicts a slice from it and its neighbours, (n, channels, y, x) -> (n, 1, y, x).

    Attributes:
        channels: odd: the slice in the middle and as many neighbours on each side.
        multiple: y and x of an input must be multiples of it.
        radius: pixels farther than this from an output pixel do not influence it.
        arguments: what to call the class with to get this architecture again.
    """

    channels: int
    multiple: int
    radius: int
    arguments: dict[str, Any]

    @property
    def neighbours(self) -> int:
        """Slices needed on each side of the one predicted."""
        return self.channels // 2
