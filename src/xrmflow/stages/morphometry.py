"""Stage morphometry: a segmented volume to tables of bone indices."""

import logging
from pathlib import Path

import numpy as np

from xrmflow.config.morphometry import MorphometrySection
from xrmflow.io.scratch import workspace
from xrmflow.io.stores import Store, open_volume
from xrmflow.io.tables import write_table
from xrmflow.morphometry.indices import measure
from xrmflow.morphometry.needs import MEASUREMENT
from xrmflow.morphometry.rows import LACUNA_COLUMNS, SLICE_COLUMNS
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.segmented import Options, Segmented
from xrmflow.morphometry.slabs import loaded

logger = logging.getLogger(__name__)
COLUMNS = ("scan", "volume", "compartment", "symbol", "name", "value", "unit", "method", "note")


def run(*, volume: Path, bone: Path, table: Path, slices: Path, lacunae: Path, params: MorphometrySection) -> None:
    """Measure bone: volume fractions, thickness, separation, attenuation, lacunae."""
    grey, masks = open_volume(volume, ("attenuation_per_mm", "attenuation_per_voxel")), open_volume(bone, "label")
    work = workspace(table.parent, grey.grid.shape, memory_gb=params.memory_gb, needs=MEASUREMENT)
    data = Segmented(
        volume=loaded(grey.data, np.float32, work=work),
        labels=loaded(masks.data, np.uint8, work=work),
        context=loaded(masks.arrays["context"], np.uint8, work=work),
        scale=Scale(grey.grid.voxel_mm, grey.calibrated),
        record=masks.record["segmentation"],
        work=work,
    )
    options = Options(**params.model_dump(exclude={"memory_gb"}))
    found = measure(data, options=options, first_voxel_mm=grey.grid.first_voxel_mm)
    for row in found.indices:
        if row["value"] is None or "warning" in row["note"]:
            logger.info("%s: %s", row["symbol"], row["note"])
    write_table(table, [_names(masks) | row for row in found.indices], columns=COLUMNS)
    write_table(slices, found.slices, columns=SLICE_COLUMNS)
    write_table(lacunae, found.lacunae, columns=LACUNA_COLUMNS)


def _names(masks: Store) -> dict[str, str]:
    """Scan and volume, from results/<scan>/bone/<volume>.zarr."""
    return {"scan": masks.path.resolve().parent.parent.name, "volume": masks.path.stem}
