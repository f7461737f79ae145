"""The sub-reconstructions of scans, from an ordered list of their stores."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from xrmflow.errors import SettingsError, StoreError
from xrmflow.io.stores import Volume, open_volume

logger = logging.getLogger(__name__)

QUANTITIES = ("attenuation_per_mm", "attenuation_per_voxel")


def open_splits(paths: Sequence[Path], *, scans: int | None = None) -> list[list[Volume]]:
    """Open the splits of one or more scans, all of the same quantity.

    Args:
        paths: for each scan its splits 0 to K - 1 in order.
        scans: how many scans there must be.

    Returns:
        For each scan its K volumes.

    Raises:
        StoreError: a store that is no split, splits missing or out of order, or of different quantities.
    """
    found: list[list[Volume]] = []
    for path in paths:
        volume = open_volume(path, QUANTITIES)
        position = volume.record.get("split")
        if position is None:
            raise StoreError(f"{volume.path}: expected a reconstruction of interleaved views written by n2i_split")
        if position["index"] == 0:
            found.append([])
        if not found or len(found[-1]) != position["index"]:
            raise StoreError(
                f"{volume.path}: expected the splits of each scan in order, from 0, got {position['index']}"
            )
        found[-1].append(volume)
    for splits in found:
        _check(splits, found[0][0])
    if scans is not None and len(found) != scans:
        raise StoreError(f"splits: expected those of {scans} scan(s), got {len(found)}: {', '.join(map(str, paths))}")
    return found


def names(scans: Sequence[Sequence[Volume]]) -> list[str]:
    """What to call the scans in a model card: the folder that holds the splits."""
    return [splits[0].path.parent.parent.name for splits in scans]


def check_alignment(
    scans: Sequence[Sequence[Volume]], check: Literal["warn", "refuse", "ignore"], *, largest_px: float
) -> None:
    """Look at the alignment scores that align left for n2i_split to record, before an expensive training.

    Args:
        scans: for each scan its splits; without a score (of another origin) a scan passes.
        check: what to do about a geometry that is off.
        largest_px: score up to which a geometry is good, detector pixels.

    Raises:
        SettingsError: a geometry that is off, if `check` is "refuse".
    """
    scores = [(splits[0].record.get("alignment") or {}).get("mismatch_px") for splits in scans]
    off = [
        f"{name} ({score:.2f} px)"
        for name, score in zip(names(scans), scores, strict=True)
        if score is not None and score > largest_px
    ]
    if not off or check == "ignore":
        return
    fault = f"the geometry is off by more than n2i_train.geometry_limit_px ({largest_px:g} px) in {', '.join(off)}"
    remedy = "look at the report's centre of rotation, try align.method: joint"
    if check == "refuse":
        raise SettingsError(f"{fault}: {remedy}, or set n2i_train.geometry_check: warn")
    logger.warning("%s: %s", fault, remedy)


def _check(splits: list[Volume], first: Volume) -> None:
    number = splits[0].record["split"]["of"]
    if len(splits) != number:
        raise StoreError(f"{splits[-1].path}: expected {number} splits of this scan, got {len(splits)}")
    if number != first.record["split"]["of"]:
        raise StoreError(
            f"{splits[0].path}: expected {first.record['split']['of']} splits as in {first.path}, got {number}"
        )
    if splits[0].quantity != first.quantity:
        raise StoreError(
            f"{splits[0].path}: expected {first.quantity} as in {first.path}, got {splits[0].quantity}; one network "
            "learns from scans with a pixel size or from scans without: set ingest.pixel_size_um, or make two studies"
        )
