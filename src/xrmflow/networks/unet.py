"""A small U-Net in plain torch.

Source: Ronneberger et al., MICCAI 2015, doi 10.1007/978-3-319-24574-4_28, with padded convolutions, no normalisation
layers (grey values are densities and must not depend on the rest of the tile) and a last layer that starts at zero.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xrmflow.networks.slicenet import SliceNetwork


class UNet(SliceNetwork):
    """A slice from it and its neighbours, (n, channels, y, x) -> (n, 1, y, x).

    Args:
        channels: input channels, odd: a slice and as many neighbours on each side.
        features: channels after the first convolution; they double with each level.
        levels: how often the image is halved; y and x of an input must be multiples of 2^levels.
        residual: learn a correction of the middle channel, so that an untrained network returns it. To remove strong
            noise learn the output itself: a correction would have to reproduce the noise, through all layers.
    """

    def __init__(self, *, channels: int = 1, features: int = 16, levels: int = 3, residual: bool = True) -> None:
        super().__init__()
        if channels < 1 or channels % 2 == 0:
            raise ValueError(f"channels: expected an odd number (a slice and its neighbours), got {channels}")
        if not (1 <= features <= 1024 and 0 <= levels <= 7):
            raise ValueError(f"features, levels: expected 1 to 1024 and 0 to 7, got {features} and {levels}")
        self.arguments = {"channels": channels, "features": features, "levels": levels, "residual": residual}
        self.residual = residual
        self.channels, self.multiple, self.radius = channels, 2**levels, _radius(levels)
        widths = [features * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([channels, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(nn.Conv2d(2 * w, w, 1) for w in widths[:-1])
        self.merge = nn.ModuleList(_block(2 * w, w) for w in widths[:-1])
        self.last = nn.Conv2d(features, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Predict the middle channel of (n, channels, y, x)."""
        skips, x = [], image
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.up[level](x), scale_factor=2.0, mode="nearest")
            x = self.merge[level](torch.cat([skips[level], x], dim=1))
        if not self.residual:
            return self.last(x)
        middle = self.channels // 2
        return image[:, middle : middle + 1] + self.last(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each followed by a leaky rectifier (with plain ones, one seed ended 0.8 dB lower)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
    )


def _radius(levels: int) -> int:
    """Reach of the longest path: two pixels of its own scale for each block, one less than a scale for each pooling."""
    down = sum(2 * 2**level for level in range(levels + 1))
    up = sum(2 * 2**level for level in range(levels))
    return down + up + 2**levels - 1
