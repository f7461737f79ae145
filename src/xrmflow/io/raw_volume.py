"""What a reader of a reconstructed volume returns: grey values, lazily, and what makes attenuation of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.arrays import Reader, Track, blocks, untracked
from xrmflow.errors import RawFileError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.raw_scan import Note
from xrmflow.io.stores import StoreWriter

SLICES = 64


@dataclass(frozen=True)
class RawVolume:
    """A reconstructed volume as its file records it; axes are those of the file.

    Attributes:
        format: "isq" or "txm".
        source: the file.
        data: (z, y, x) grey values.
        voxel_mm: edge of a voxel, mm.
        slope, intercept: attenuation per mm = slope * grey + intercept.
        metadata: further values by name, the unit in the name.
        notes: what is assumed or worth knowing, one line each.
        close: releases the file.
    """

    format: str
    source: Path
    data: Reader
    voxel_mm: float
    slope: float
    intercept: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    close: Callable[[], None] = lambda: None

    def __enter__(self) -> "RawVolume":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def grid(self) -> VolumeGrid:
        """The voxels, centred on the origin: where the rotation axis was is not recorded."""
        z, y, x = self.data.shape
        return VolumeGrid((z, y, x), self.voxel_mm)


def copy_voxels(volume: RawVolume, store: StoreWriter, *, track: Track = untracked) -> None:
    """Write the attenuation per mm as "data", float32, some slices at a time.

    Raises:
        RawFileError: a value is not finite.
    """
    target = store.add("data", volume.data.shape, np.float32)
    for block in track(blocks(volume.data.shape[0], SLICES), label="load"):
        grey = np.asarray(volume.data[block]).astype(np.float32)
        attenuation = grey * np.float32(volume.slope) + np.float32(volume.intercept)
        if not np.isfinite(attenuation).all():
            raise RawFileError(
                f"{volume.source}: expected finite values, got NaN or infinity in slices {block.start} on"
            )
        target[block] = attenuation
