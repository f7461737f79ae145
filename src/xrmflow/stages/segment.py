"""Stage segment: any volume to masks of bone, marrow, lacunae and canals."""

import hashlib
import logging
from pathlib import Path

import numpy as np

from xrmflow.arrays import Reader, blocks
from xrmflow.config.segment import SegmentSection
from xrmflow.errors import SettingsError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.checksums import sha256
from xrmflow.io.manifest import store_folder
from xrmflow.io.provenance import provenance
from xrmflow.io.scratch import workspace
from xrmflow.io.stores import Volume, create_volume, open_volume
from xrmflow.morphometry.needs import SEGMENTATION
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.segmentation import Recipe, segment
from xrmflow.morphometry.slabs import written

logger = logging.getLogger(__name__)
NOT_IN_RECIPE = {"threshold_method", "voi_mask", "memory_gb"} | {
    f"voi_{end}_{unit}" for end in ("start", "stop") for unit in ("slice", "mm")
}


def run(*, volume: Path, bone: Path, params: SegmentSection) -> None:
    """Segment bone, marrow, lacunae and canals by a Gaussian and a threshold."""
    source = open_volume(volume, ("attenuation_per_mm", "attenuation_per_voxel"))
    scale = Scale(source.grid.voxel_mm, source.calibrated)
    recipe, drawn = _recipe(params, source), params.mask_of(scan_of(source.path))
    mask = None if drawn is None else _mask(drawn)
    work = workspace(store_folder(bone).parent, source.grid.shape, memory_gb=params.memory_gb, needs=SEGMENTATION)
    try:
        result = segment(source.data, scale=scale, recipe=recipe, mask=mask, work=work)
    except ValueError as error:
        raise SettingsError(f"segment: {error}") from error
    for note in result.record["notes"]:
        logger.info("%s: %s", note["severity"], note["text"])
    if drawn is not None and mask is not None:
        result.record["voi_mask_sha256"] = _fingerprint(mask)
        result.record["source_files"] = [] if drawn.is_dir() else [{"name": drawn.name, "sha256": sha256(drawn)}]
    traced = provenance(stage="segment", params=params, inputs={"volume": volume, "voi_mask": drawn})
    with create_volume(
        bone,
        quantity="label",
        grid=source.grid,
        calibrated=source.calibrated,
        provenance=traced,
        segmentation=result.record,
    ) as store:
        written(result.labels, store.add("data", result.labels.shape, np.uint8), work=work)
        written(result.context, store.add("context", result.context.shape, np.uint8), work=work)


def _recipe(params: SegmentSection, source: Volume) -> Recipe:
    """The settings with slices as indices of this volume."""
    ends = {}
    for end in ("start", "stop"):
        index, mm = getattr(params, f"voi_{end}_slice"), getattr(params, f"voi_{end}_mm")
        if mm is not None and not source.calibrated:
            raise SettingsError(
                f"segment.voi_{end}_mm: expected null for a scan without a voxel size, got {mm}; use voi_{end}_slice"
            )
        ends[f"voi_{end}"] = _own_index(index, source) if mm is None else round(mm / source.grid.voxel_mm)
    _check_inside(ends, source)
    return Recipe(method=params.threshold_method, **params.model_dump(exclude=NOT_IN_RECIPE), **ends)


def _check_inside(ends: dict[str, int | None], source: Volume) -> None:
    """Refuse a volume of interest beside this volume, in the units of the settings."""
    count, first, last = source.grid.shape[0], ends["voi_start"], ends["voi_stop"]
    start, stop = 0 if first is None else first, count if last is None else last
    if 0 <= start < stop <= count:
        return
    height = f", which is {count * source.grid.voxel_mm:.4g} mm high" * source.calibrated
    raise SettingsError(
        f"segment.voi_start_*, voi_stop_*: expected slices within 0 to {count} of the volume{height}, "
        f"got {start} to {stop}"
    )


def _own_index(index: int | None, source: Volume) -> int | None:
    """A slice of the FDK volume as a slice of this one, which may be finer: the same height."""
    counted = source.record.get("source_grid")
    if index is None or counted is None:
        return index
    grid = VolumeGrid(tuple(counted["shape"]), counted["voxel_mm"], tuple(counted["centre_mm"]))
    return source.grid.index_from(grid.face_mm(index))


def _mask(path: Path) -> Reader:
    """The volume of interest drawn by hand, from a label store, a TIFF stack or a numpy file."""
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False, mmap_mode="r")
        if path.suffix in (".tif", ".tiff"):
            import tifffile

            return tifffile.imread(path)
        return open_volume(path, "label").data
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(
            f"segment.voi_mask: expected a mask in {path}, got {error}; write it as .tif or .npy"
        ) from error


def _fingerprint(mask: Reader) -> str:
    """SHA-256 of a mask's voxels as bits."""
    digest = hashlib.sha256()
    # Eight slices always fill whole bytes.
    for z in blocks(mask.shape[0], 8):
        digest.update(np.packbits(np.asarray(mask[z]) > 0).tobytes())
    return digest.hexdigest()


def scan_of(volume: Path) -> str:
    """The scan's id: the folder of its volume, results/<scan>/<volume>.zarr."""
    return volume.parent.name
