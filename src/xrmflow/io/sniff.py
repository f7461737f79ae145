"""Open a raw scan by what it contains, never by its name."""

import re
from pathlib import Path

import h5py

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.io.cfb import SIGNATURE as COMPOUND
from xrmflow.io.hdf5 import faults_in_words, lookup, open_hdf5
from xrmflow.io.nominal import beside
from xrmflow.io.raw_scan import RawScan
from xrmflow.io.read_dataexchange import read_dataexchange
from xrmflow.io.read_nexus import read_nexus
from xrmflow.io.read_nikon import read_nikon
from xrmflow.io.read_skyscan import read_skyscan
from xrmflow.io.read_tiff import read_tiff
from xrmflow.io.read_txrm import read_txrm
from xrmflow.io.volume_kind import SCANCO

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NIKON = re.compile(rb"^\s*\[XTekCT\]", re.IGNORECASE | re.MULTILINE)
SKYSCAN = re.compile(rb"^\s*\[Acquisition\]", re.IGNORECASE | re.MULTILINE)
HEAD_BYTES = 1 << 14
KNOWN = "txrm/xrm, Nikon xtekct, SkyScan log, Data Exchange HDF5, NeXus/NXtomo HDF5, TIFF"


def open_raw(path: Path | str, params: IngestSection | None = None) -> RawScan:
    """Open a raw scan; frames are read when asked for. Use it as a context manager, or call its `close`.

    Args:
        path: a file, a folder of TIFF files, or a pattern of TIFF files.
        params: settings that say which parts of a file to read; the defaults when None.

    Raises:
        RawFileError: no such file, none of the known formats, truncated or damaged.
    """
    path, params = Path(path), params or IngestSection()
    kind = sniff(path)
    if kind == "txrm":
        reference = None if params.reference_file is None else beside(path, params.reference_file)
        return read_txrm(path, reference_file=reference)
    if kind == "data_exchange":
        return read_dataexchange(path)
    if kind == "nxtomo":
        return read_nexus(path, detector=params.detector)
    if kind == "nikon":
        return read_nikon(path, params)
    if kind == "skyscan":
        return read_skyscan(path, params)
    return read_tiff(path, params)


def sniff(path: Path) -> str:
    """ "txrm", "data_exchange", "nxtomo", "nikon", "skyscan" or "tiff"."""
    if path.is_dir() or (not path.exists() and set(path.name) & set("*?[")):
        return "tiff"
    if not path.is_file():
        raise RawFileError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise RawFileError(f"{path}: cannot be read ({error.strerror})") from None
    if not head:
        raise RawFileError(f"{path}: the file is empty; copy it again from its source")
    if head.startswith(COMPOUND):
        return "txrm"
    if head[:4] in TIFF:
        return "tiff"
    if head.startswith(SCANCO):
        raise RawFileError(
            f"{path}: a reconstructed volume (Scanco ISQ), not a raw scan; name it in scans.tsv, or see `xrmflow load`"
        )
    if h5py.is_hdf5(path):
        return _sniff_hdf5(path)
    if NIKON.search(head):
        return "nikon"
    if SKYSCAN.search(head):
        return "skyscan"
    raise RawFileError(f"{path}: not a known raw format (begins with {head[:8].hex(' ')}); known are {KNOWN}")


def _sniff_hdf5(path: Path) -> str:
    with faults_in_words(path), open_hdf5(path) as file:
        if "exchange" in file:
            return "data_exchange"
        if any(
            "NX_class" in found.attrs for found in (lookup(file, name) for name in map(str, file)) if found is not None
        ):
            return "nxtomo"
        names = ", ".join(sorted(map(str, file))[:5]) or "nothing"
    raise RawFileError(f"{path}: HDF5, but neither Data Exchange (/exchange) nor NeXus (NX_class); it holds {names}")
