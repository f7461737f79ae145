"""Volumes of one object at two resolutions, from two lists of stores in the same order."""

from collections.abc import Sequence
from pathlib import Path

from xrmflow.errors import SettingsError, StoreError
from xrmflow.io.stores import Volume, open_volume


def open_pairs(low: Sequence[Path], high: Sequence[Path]) -> list[tuple[Volume, Volume]]:
    """Open pairs of volumes with known voxel sizes, all in attenuation per mm.

    Raises:
        SettingsError: lists of different lengths, or none.
        StoreError: another quantity, or a volume without a voxel size.
    """
    if not low or len(low) != len(high):
        raise SettingsError(
            f"low, high: expected as many volumes of each, at least one, got {len(low)} and {len(high)}"
        )
    return [(_open(a), _open(b)) for a, b in zip(low, high, strict=True)]


def _open(path: Path) -> Volume:
    volume = open_volume(path, "attenuation_per_mm")
    if not volume.calibrated:
        raise StoreError(f"{volume.path}: expected a volume with a voxel size, without it two scans cannot be matched")
    return volume
