"""Stage morphometry: a segmented volume to tables of bone indices."""

import logging
from pathlib import Path

import numpy as np

from xrmflow.config.morphometry import MorphometrySection
from xrmflow.errors import StoreError
from xrmflow.io.documents import finite, read_document, write_document
from xrmflow.io.provenance import provenance
from xrmflow.io.scratch import workspace
from xrmflow.io.stores import Store, Volume, open_volume
from xrmflow.io.tables import write_table
from xrmflow.morphometry.indices import measure
from xrmflow.morphometry.needs import MEASUREMENT
from xrmflow.morphometry.rows import COLUMNS, LACUNA_COLUMNS, SLICE_COLUMNS
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.segmented import Options, Segmented
from xrmflow.morphometry.slabs import loaded
from xrmflow.morphometry.structure import PHASES, Phase, Regions, thickness_of

logger = logging.getLogger(__name__)


def run(
    *,
    volume: Path,
    bone: Path,
    table: Path | None = None,
    slices: Path | None = None,
    lacunae: Path | None = None,
    part: Phase | None = None,
    thickness: Path | None = None,
    parts: list[Path] | None = None,
    params: MorphometrySection,
) -> None:
    """Measure bone: volume fractions, thickness, separation, attenuation, lacunae.

    Args:
        volume: store of the attenuation.
        bone: store of its labels.
        table: the bone numbers to write.
        slices: the numbers of each slice to write.
        lacunae: the numbers of each lacuna to write.
        part: the phase whose thickness is all that is measured.
        thickness: what is written of a part, in place of the tables.
        parts: of all phases: their thickness is not measured again.
        params: settings of this stage.
    """
    masks = open_volume(bone, "label")
    data, first_voxel_mm = _loaded(volume, masks, (thickness or table or masks.path).parent, params)
    options = Options(**params.model_dump(exclude={"memory_gb"}))
    if part and thickness:
        traced = provenance(stage="morphometry", params=params, inputs={"volume": volume, "bone": bone})
        payload = finite({"phase": part, "regions": thickness_of(data, options, part)})
        write_document(thickness, kind="thickness", payload=payload, provenance=traced)
        return
    known = _thickness(parts) if parts else None
    found = measure(data, options=options, first_voxel_mm=first_voxel_mm, thickness=known)
    for row in found.indices:
        if row["value"] is None or "warning" in row["note"]:
            logger.info("%s: %s", row["symbol"], row["note"])
    rows = [_names(masks) | row for row in found.indices]
    tables = ((table, rows, COLUMNS), (slices, found.slices, SLICE_COLUMNS), (lacunae, found.lacunae, LACUNA_COLUMNS))
    for path, lines, columns in tables:
        if path:
            write_table(path, lines, columns=columns)


def _loaded(
    volume: Path, masks: Volume, beside: Path, params: MorphometrySection
) -> tuple[Segmented, tuple[float, float, float]]:
    """Volume and labels, and the centre of the first voxel, (x, y, z) mm."""
    grey = open_volume(volume, ("attenuation_per_mm", "attenuation_per_voxel"))
    work = workspace(beside, grey.grid.shape, memory_gb=params.memory_gb, needs=MEASUREMENT)
    data = Segmented(
        volume=loaded(grey.data, np.float32, work=work),
        labels=loaded(masks.data, np.uint8, work=work),
        context=loaded(masks.arrays["context"], np.uint8, work=work),
        scale=Scale(grey.grid.voxel_mm, grey.calibrated),
        record=masks.record["segmentation"],
        work=work,
    )
    return data, grey.grid.first_voxel_mm


def _thickness(parts: list[Path]) -> dict[Phase, Regions]:
    """What the parts say, by phase."""
    documents = [read_document(path, kind="thickness") for path in parts]
    found: dict[Phase, Regions] = {
        said["phase"]: {
            name: (np.nan, np.nan) if None in values else tuple(values) for name, values in said["regions"].items()
        }
        for said in documents
    }
    if sorted(found) != sorted(PHASES):
        raise StoreError(
            f"parts: expected the thickness of {' and '.join(PHASES)}, got {' and '.join(found) or 'none'}"
        )
    return found


def _names(masks: Store) -> dict[str, str]:
    """Scan and volume, from results/<scan>/bone/<volume>.zarr."""
    return {"scan": masks.path.resolve().parent.parent.name, "volume": masks.path.stem}
