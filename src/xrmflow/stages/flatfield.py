"""Stage flatfield: counts to line integrals, in detector coordinates."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.config.flatfield import FlatfieldSection
from xrmflow.correction.flatfield import correct
from xrmflow.correction.phase import filter_strength
from xrmflow.correction.references import references_for
from xrmflow.correction.steps import Steps
from xrmflow.correction.views import pick_views
from xrmflow.io import device, log
from xrmflow.io.archives import write_arrays
from xrmflow.io.documents import finite, write_document
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import Projections, create_projections, open_projections

logger = logging.getLogger(__name__)


def run(*, raw: Path, projections: Path, document: Path, views: Path, params: FlatfieldSection) -> None:
    """Correct dark, flat, outliers, dead pixels and rings, and take the logarithm.

    Args:
        raw: store of the raw counts.
        projections: the store to write (line integrals).
        document: the record to write: how the scan was taken and what was corrected.
        views: the picture archive to write: one view and one detector row, before and after.
        params: settings of this stage.
    """
    scan = open_projections(raw, "counts")
    described = scan.record["raw"]
    already = described.get("already", "counts")
    flats, darks = _frames(scan, "flats"), _frames(scan, "darks")
    steps = Steps(**params.model_dump(exclude={"memory_gb"}))
    where = device.pick()
    phase = filter_strength(scan.acquisition, steps, energy_kev=described.get("metadata", {}).get("energy_kev"))
    references = references_for(
        scan.data,
        flats=flats,
        darks=darks,
        steps=steps,
        already=already,
        exposure_s=described.get("exposure_s"),
        flat_exposure_s=described.get("flat_exposure_s"),
        flats_taken_at=described.get("flat_views"),
        device=where,
        track=log.track,
    )
    for note in references.notes:
        logger.info(note)
    record: dict[str, Any] = {"raw": described, "flatfield": {}}
    traced = provenance(stage="flatfield", params=params, inputs={"raw": raw})
    with create_projections(
        projections, quantity="line_integral", acquisition=scan.acquisition, provenance=traced, **record
    ) as store:
        data = store.add("data", scan.data.shape)
        statistics = correct(
            scan.data,
            data,
            references,
            steps=steps,
            already=already,
            phase_strength=phase,
            memory_gb=params.memory_gb,
            device=where,
            track=log.track,
        )
        notes = [{"severity": "assumption", "text": note} for note in references.notes]
        # Known only once the data have been written; the record is sealed when the block ends.
        record["flatfield"].update(statistics, **references.record, notes=notes)
        ratio = references.exposure_ratio
        seen = pick_views(scan.data, data, flats=flats, darks=darks, already=already, exposure_ratio=ratio)
    write_arrays(views, seen.pictures())
    payload = record | {
        "acquisition": scan.acquisition.to_dict(),
        "frames": {"flats": 0 if flats is None else len(flats), "darks": 0 if darks is None else len(darks)},
        "views": seen.to_dict(),
        "raw_provenance": scan.record["provenance"],
    }
    write_document(document, kind="flatfield", payload=finite(payload), provenance=traced)


def _frames(scan: Projections, name: str) -> np.ndarray | None:
    return np.asarray(scan.arrays[name][...]) if name in scan.arrays else None
