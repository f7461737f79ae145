"""Applying a network slice by slice to volumes larger than memory, tile by tile, without seams.

A tile is read with a halo as wide as the network's reach (`network.radius`), and only the inside is kept. Tiles start
at multiples of the network's pooling factor, so that each output voxel is computed from the same numbers as if the
slice had been processed whole: there is nothing to blend.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xrmflow.arrays import Track, Writer, as_float32, blocks, untracked
from xrmflow.networks.normalisation import Normalisation
from xrmflow.networks.slicenet import SliceNetwork
from xrmflow.networks.training import Precision, autocast_dtype, run_network

SLAB = 64
PIXELS_AT_ONCE = 2**19

Region = tuple[slice, slice, slice]
Read = Callable[[Region], np.ndarray]


def apply_tiled(
    network: SliceNetwork,
    read: Read,
    output: Writer,
    *,
    slices: slice = slice(None),
    normalisation: Normalisation,
    tile: int = 512,
    precision: Precision = "auto",
    device: torch.device | str = "cpu",
    track: Track = untracked,
    label: str = "network",
) -> None:
    """Write the network's output for each voxel; where several inputs are read, the mean of their outputs.

    Slices beyond the first and last are taken equal to these; pixels beyond the edge of a slice, needed to fill it up
    to a multiple of the pooling factor, equal to those at the edge.

    Args:
        network: a slice network.
        read: region (z, y, x) of slices within the volume -> float32 (input, z, y, x) in the volume's unit.
        output: Writer (z, y, x), in the volume's unit.
        slices: the only ones that are written, from a multiple of 64 to another or the end: the same bits as of all.
        normalisation: of the network's inputs and outputs.
        tile: edge of a tile inside its halo, pixels; rounded up to a multiple of 64.
        precision: of multiplications, see `xrmflow.networks.training.Plan`.
        device: of the network.
        track: progress, in tiles.
        label: what progress is called.
    """
    tiles = _tiles(output.shape, tile, slices)
    dtype = autocast_dtype(precision, device)
    network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    for region in track(tiles, label=label):
        stack = torch.from_numpy(_with_neighbours(read, region, output.shape, network)).to(device)
        results = _slices(network, normalisation.apply(stack), dtype)
        z, y, x = region
        top, left = y.start - _halo(network, y.start), x.start - _halo(network, x.start)
        inside = results[:, y.start - top : y.stop - top, x.start - left : x.stop - left]
        output[z, y, x] = normalisation.undo(inside).cpu().numpy()


def _tiles(shape: tuple[int, ...], tile: int, slices: slice) -> list[Region]:
    size = -(-tile // 64) * 64
    nz, ny, nx = shape
    start, stop, _ = slices.indices(nz)
    if start % SLAB or (stop % SLAB and stop != nz):
        raise ValueError(f"slices: expected multiples of {SLAB}, or the end at {nz}, got {slices}")
    slabs = [z for z in blocks(nz, SLAB) if start <= z.start < stop]
    return [(z, y, x) for z in slabs for y in blocks(ny, size) for x in blocks(nx, size)]


def _halo(network: SliceNetwork, start: int) -> int:
    """Pixels before a tile's start: the reach of the network as a multiple of its pooling factor, within the slice."""
    return min(start, -(-network.radius // network.multiple) * network.multiple)


def _with_neighbours(read: Read, region: Region, shape: tuple[int, ...], network: SliceNetwork) -> np.ndarray:
    """The tile with its halo and neighbouring slices, (input, z + 2 neighbours, y, x)."""
    z, y, x = region
    neighbours = network.neighbours
    low, high = max(0, z.start - neighbours), min(shape[0], z.stop + neighbours)
    # The far halo needs no rounding, only the start decides how the pooling falls.
    tall = slice(y.start - _halo(network, y.start), min(shape[1], y.stop + network.radius))
    wide = slice(x.start - _halo(network, x.start), min(shape[2], x.stop + network.radius))
    block = as_float32(read((slice(low, high), tall, wide)))
    before, after = low - (z.start - neighbours), (z.stop + neighbours) - high
    return np.pad(block, ((0, 0), (before, after), (0, 0), (0, 0)), mode="edge")


def _slices(network: SliceNetwork, stack: Tensor, dtype: torch.dtype) -> Tensor:
    """Mean over inputs of the network's output for each inner slice of (input, z + 2 neighbours, y, x)."""
    channels = network.channels
    depth, height, width = stack.shape[1] - channels + 1, stack.shape[2], stack.shape[3]
    result = torch.zeros((depth, height, width), device=stack.device)
    for which, window in _batches(stack, channels, depth):
        with torch.no_grad():
            result[window] += run_network(network, _pad(network, which), dtype)[:, 0, :height, :width]
    return result / stack.shape[0]


def _batches(stack: Tensor, channels: int, depth: int) -> Iterator[tuple[Tensor, slice]]:
    """Slices with their neighbours as channels, (n, channels, y, x), a few at a time."""
    windows = stack.unfold(1, channels, 1).permute(0, 1, 4, 2, 3)
    for window in blocks(depth, max(1, PIXELS_AT_ONCE // (stack.shape[2] * stack.shape[3]))):
        for one in windows:
            yield one[window], window


def _pad(network: SliceNetwork, image: Tensor) -> Tensor:
    """Fill up to multiples of the pooling factor."""
    below, right = -image.shape[2] % network.multiple, -image.shape[3] % network.multiple
    padded = F.pad(image, (0, right, 0, below), mode="replicate")
    return padded.contiguous(memory_format=torch.channels_last)
