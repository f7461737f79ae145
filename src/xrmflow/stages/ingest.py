"""Read a raw scan of any known format into a store, with its nominal geometry and whatever was assumed."""

import logging
from pathlib import Path

from xrmflow.config.ingest import IngestSection
from xrmflow.io.log import track
from xrmflow.io.nominal import nominal_acquisition
from xrmflow.io.provenance import provenance
from xrmflow.io.raw_store import copy_frames, raw_record
from xrmflow.io.sniff import open_raw
from xrmflow.io.stores import create_projections

logger = logging.getLogger(__name__)


def run(*, source: Path, raw: Path, params: IngestSection) -> None:
    """Read a raw scan of any known format into a store, with its nominal geometry and whatever was assumed.

    Args:
        source: the raw scan: a file, or a folder of TIFF frames.
        raw: the store to write (counts).
        params: settings of this stage.
    """
    with open_raw(source, params) as scan:
        acquisition, assumed = nominal_acquisition(scan, params)
        record = raw_record(scan, params, acquisition, assumed)
        origin = provenance(stage="ingest", params=params, inputs={"source": source})
        with create_projections(
            raw, quantity="counts", acquisition=acquisition, provenance=origin, raw=record
        ) as store:
            # The record is sealed when the block ends, so what copying notices still gets into it.
            record["notes"] += [note.to_dict() for note in copy_frames(scan, params, store, track=track)]
    for note in record["notes"]:
        logger.log(logging.WARNING if note["severity"] == "warning" else logging.INFO, "%s: %s", *note.values())
