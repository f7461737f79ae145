"""Stage n2i_split: sub-reconstructions of interleaved views."""

import json
import logging
from pathlib import Path

from xrmflow.config.fdk import FdkSection
from xrmflow.config.n2i_split import N2iSplitSection
from xrmflow.denoising.noise2inverse import Interleaved, interleaved
from xrmflow.errors import SettingsError, StoreError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io import device, log
from xrmflow.io.cupping import read_linearisation
from xrmflow.io.documents import read_document
from xrmflow.io.parts import Part
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import Volume, create_volume, open_projections, open_volume
from xrmflow.reconstruction.fdk import fdk_slabs

logger = logging.getLogger(__name__)


def run(
    *,
    projections: Path,
    geometry: Path,
    cupping: Path | None,
    volume: Path,
    splits: list[Path],
    part: str | None = None,
    params: N2iSplitSection,
) -> None:
    """Reconstruct interleaved subsets of the views, each on the grid of the volume, for Noise2Inverse.

    Args:
        projections: store of the line integrals.
        geometry: the geometry they were taken in.
        cupping: the correction of beam hardening; without, none.
        volume: the reconstruction from all views.
        splits: the stores to write.
        part: START-STOP, the only slices to reconstruct: the stores are then parts of the splits.
        params: settings of this stage.
    """
    some = Part.read(part) if part else None
    scan, whole = open_projections(projections, "line_integral"), open_volume(volume)
    aligned = read_document(geometry, kind="geometry")
    acquisition = Acquisition.from_dict(aligned["acquisition"])
    if len(splits) != params.splits:
        raise SettingsError(
            f"n2i_split.splits: expected as many outputs as splits ({params.splits}), got {len(splits)}"
        )
    if acquisition.views < 2 * params.splits:
        raise SettingsError(
            f"n2i_split.splits: expected at least two views a split, got {params.splits} splits of {acquisition.views} "
            "views; set fewer splits, or measure: [volume] for scans of so few views"
        )
    filtering, prepare = _settings_of(whole), read_linearisation(cupping)
    inputs = {"projections": projections, "geometry": geometry, "cupping": cupping, "volume": volume}
    for index, (path, views) in enumerate(zip(splits, interleaved(acquisition.views, splits=len(splits)), strict=True)):
        logger.info("n2i_split: split %d of %d", index + 1, len(splits))
        with create_volume(
            path,
            quantity=whole.quantity,
            grid=whole.grid,
            calibrated=whole.calibrated,
            provenance=provenance(stage="n2i_split", params=params, inputs=inputs),
            multiscale=False,
            part=some,
            split={"index": index, "of": len(splits)},
            alignment=aligned.get("score"),
        ) as store:
            fdk_slabs(
                Interleaved(scan.data, views),
                store.add("data", whole.grid.shape),
                scan_geometry(acquisition.with_views(views)),
                whole.grid,
                slices=some.slices if some else slice(None),
                window=filtering.window,
                truncation_px=round(filtering.truncation_padding * acquisition.cols),
                prepare=prepare,
                memory_gb=params.memory_gb,
                device=device.pick(),
                track=log.track,
            )


def _settings_of(volume: Volume) -> FdkSection:
    """The settings with which the volume was reconstructed: the mean of the splits must be comparable to it."""
    made = volume.record["provenance"]
    if made.get("stage") != "fdk":
        raise StoreError(f"{volume.path}: expected a volume written by fdk, got one written by {made.get('stage')}")
    return FdkSection.model_validate_json(json.dumps(made["settings"]))
