"""Stage flatfield: counts to line integrals, in detector coordinates."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.arrays import Already
from xrmflow.config.flatfield import FlatfieldSection
from xrmflow.correction.flatfield import correct
from xrmflow.correction.phase import filter_strength
from xrmflow.correction.references import references_for
from xrmflow.correction.steps import Steps
from xrmflow.correction.sums import Sums
from xrmflow.correction.views import pick_views
from xrmflow.errors import SettingsError
from xrmflow.io import device, log
from xrmflow.io.archives import write_arrays
from xrmflow.io.documents import finite, write_document
from xrmflow.io.parts import Part
from xrmflow.io.provenance import provenance
from xrmflow.io.scratch import OnDisk, scratch_folder
from xrmflow.io.stores import Projections, create_projections, gathered, open_projections

logger = logging.getLogger(__name__)


def run(
    *,
    raw: Path,
    projections: Path,
    document: Path | None = None,
    views: Path | None = None,
    part: str | None = None,
    parts: list[Path] | None = None,
    params: FlatfieldSection,
) -> None:
    """Correct dark, flat, outliers, dead pixels and rings, and take the logarithm.

    Args:
        raw: store of the raw counts.
        projections: the store to write (line integrals).
        document: the record to write: how the scan was taken and what was corrected. Not of a part.
        views: the picture archive to write: one view and one detector row, before and after. Not of a part.
        part: START-STOP, the only detector rows to correct: the store is then a part of the projections.
        parts: all parts of the projections: they are put together, and nothing is corrected again.
        params: settings of this stage.
    """
    scan = open_projections(raw, "counts")
    traced = provenance(stage="flatfield", params=params, inputs={"raw": raw})
    if parts:
        with gathered(parts, projections) as (record, shares):
            record["flatfield"].update(Sums.of_parts(shares).summary())
    else:
        _correct(scan, projections, Part.read(part) if part else None, params, traced)
    if not part:
        _describe(scan, open_projections(projections), document, views, traced)


def _correct(
    scan: Projections, projections: Path, part: Part | None, params: FlatfieldSection, traced: dict[str, Any]
) -> None:
    """Write the projections, or a part of them."""
    described, already = scan.record["raw"], _already(scan)
    steps = Steps(**params.model_dump(exclude={"memory_gb"}))
    phase = filter_strength(scan.acquisition, steps, energy_kev=described.get("metadata", {}).get("energy_kev"))
    if part and phase:
        raise SettingsError("flatfield.phase: expected none to correct rows by themselves, got paganin: whole views")
    references = references_for(
        scan.data,
        flats=_frames(scan, "flats"),
        darks=_frames(scan, "darks"),
        steps=steps,
        already=already,
        exposure_s=described.get("exposure_s"),
        flat_exposure_s=described.get("flat_exposure_s"),
        flats_taken_at=described.get("flat_views"),
        device=device.pick(),
        track=log.track,
    )
    for note in references.notes:
        logger.info(note)
    # Known only once the data have been written; the record is sealed when the block ends.
    found: dict[str, Any] = {"notes": [{"severity": "assumption", "text": note} for note in references.notes]}
    share: dict[str, Any] = {}
    with create_projections(
        projections,
        quantity="line_integral",
        acquisition=scan.acquisition,
        provenance=traced,
        part=part,
        share=share,
        raw=described,
        flatfield=found,
    ) as store:
        statistics = correct(
            scan.data,
            store.add("data", scan.data.shape),
            references,
            steps=steps,
            rows=part.slices if part else None,
            already=already,
            phase_strength=phase,
            memory_gb=params.memory_gb,
            scratch=OnDisk(scratch_folder(store.folder)),
            device=device.pick(),
            track=log.track,
        )
        found.update((statistics.known if part else statistics.summary()) | references.record)
        share.update(statistics.sums.to_dict())


def _describe(
    scan: Projections, corrected: Projections, document: Path | None, views: Path | None, traced: dict[str, Any]
) -> None:
    """Write the record and the pictures, for which both stores are looked at."""
    flats, darks = _frames(scan, "flats"), _frames(scan, "darks")
    record = {name: corrected.record[name] for name in ("raw", "flatfield")}
    seen = pick_views(
        scan.data,
        corrected.data,
        flats=flats,
        darks=darks,
        already=_already(scan),
        exposure_ratio=record["flatfield"]["exposure_ratio"],
    )
    payload = record | {
        "acquisition": scan.acquisition.to_dict(),
        "frames": {"flats": 0 if flats is None else len(flats), "darks": 0 if darks is None else len(darks)},
        "views": seen.to_dict(),
        "raw_provenance": scan.record["provenance"],
    }
    if views is not None:
        write_arrays(views, seen.pictures())
    if document is not None:
        write_document(document, kind="flatfield", payload=finite(payload), provenance=traced)


def _already(scan: Projections) -> Already:
    return scan.record["raw"].get("already", "counts")


def _frames(scan: Projections, name: str) -> np.ndarray | None:
    return np.asarray(scan.arrays[name][...]) if name in scan.arrays else None
