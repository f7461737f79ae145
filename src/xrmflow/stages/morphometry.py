"""Stage morphometry: a segmented volume to tables of bone indices."""

import logging
from pathlib import Path

import numpy as np

from xrmflow.config.morphometry import MorphometrySection
from xrmflow.io.stores import Store, open_volume
from xrmflow.io.tables import write_table
from xrmflow.morphometry.indices import measure
from xrmflow.morphometry.rows import LACUNA_COLUMNS, SLICE_COLUMNS
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.segmented import Options, Segmented

logger = logging.getLogger(__name__)
COLUMNS = ("scan", "volume", "compartment", "symbol", "name", "value", "unit", "method", "note")


def run(*, volume: Path, bone: Path, table: Path, slices: Path, lacunae: Path, params: MorphometrySection) -> None:
    """Measure bone: volume fractions, thickness, separation, attenuation, lacunae."""
    grey, masks = open_volume(volume, ("attenuation_per_mm", "attenuation_per_voxel")), open_volume(bone, "label")
    data = Segmented(
        volume=np.asarray(grey.data[...]),
        labels=np.asarray(masks.data[...]),
        context=np.asarray(masks.arrays["context"][...]),
        scale=Scale(grey.grid.voxel_mm, grey.calibrated),
        record=masks.record["segmentation"],
    )
    found = measure(data, options=Options(**params.model_dump()), first_voxel_mm=grey.grid.first_voxel_mm)
    for row in found.indices:
        if row["value"] is None or "warning" in row["note"]:
            logger.info("%s: %s", row["symbol"], row["note"])
    write_table(table, [_names(masks) | row for row in found.indices], columns=COLUMNS)
    write_table(slices, found.slices, columns=SLICE_COLUMNS)
    write_table(lacunae, found.lacunae, columns=LACUNA_COLUMNS)


def _names(masks: Store) -> dict[str, str]:
    """Scan and volume, from results/<scan>/bone/<volume>.zarr."""
    return {"scan": masks.path.resolve().parent.parent.name, "volume": masks.path.stem}
