"""Stage import_volume: a volume that is reconstructed already, as stage fdk would have written it."""

import logging
from pathlib import Path

from xrmflow.config.import_volume import ImportVolumeSection
from xrmflow.io.log import track
from xrmflow.io.provenance import provenance
from xrmflow.io.raw_volume import RawVolume, copy_voxels
from xrmflow.io.stores import create_volume
from xrmflow.io.volume_files import open_volume_file, volume_record
from xrmflow.io.volume_kind import volume_kind

logger = logging.getLogger(__name__)


def run(*, source: Path, volume: Path, params: ImportVolumeSection) -> None:
    """Make a volume store of a reconstructed volume (Scanco .isq, Zeiss .txm), to be segmented and measured.

    Args:
        source: the volume.
        volume: the store to write (attenuation per mm).
        params: settings of this stage.
    """
    traced = provenance(stage="import_volume", params=params, inputs={"source": source})
    with _opened(source, params) as grey:
        with create_volume(
            volume,
            quantity="attenuation_per_mm",
            grid=grey.grid,
            calibrated=True,
            provenance=traced,
            loaded=volume_record(grey),
        ) as store:
            copy_voxels(grey, store, track=track)
        for note in grey.notes:
            logger.info("%s: %s", note.severity, note.text)


def _opened(source: Path, params: ImportVolumeSection) -> RawVolume:
    """The volume; one that states what its grey values mean is not told."""
    if volume_kind(source) == "isq":
        return open_volume_file(source)
    return open_volume_file(source, slope=params.slope_per_mm, intercept=params.intercept_per_mm)
