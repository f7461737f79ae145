"""What a file is, is decided by its content."""

import h5py
import numpy as np
import pytest
import tifffile

from xrmflow.errors import RawFileError
from xrmflow.io.sniff import open_raw, sniff
from xrmflow.io.write_dataexchange import write_dataexchange
from xrmflow.io.write_txrm import write_txrm

FRAMES = np.ones((2, 4, 6), np.uint16)


@pytest.fixture
def scans(tmp_path):
    """A scan of each format under a name that says something else."""
    write_txrm(
        tmp_path / "a.h5",
        projections=FRAMES,
        angles_deg=np.arange(2),
        pixel_size_um=1,
        source_to_axis_mm=1,
        detector_to_axis_mm=1,
    )
    write_dataexchange(tmp_path / "b.txrm", projections=FRAMES, angles_deg=np.arange(2.0))
    with h5py.File(tmp_path / "c.tif", "w") as file:
        file.create_group("entry").attrs["NX_class"] = "NXentry"
        detector = file.create_group("entry/instrument/detector")
        detector.attrs["NX_class"] = "NXdetector"
        detector["data"] = FRAMES
    tifffile.imwrite(tmp_path / "d.nxs", FRAMES)
    return tmp_path


def test_names_do_not_matter(scans):
    found = {name: sniff(scans / name) for name in ("a.h5", "b.txrm", "c.tif", "d.nxs")}
    assert found == {"a.h5": "txrm", "b.txrm": "data_exchange", "c.tif": "nxtomo", "d.nxs": "tiff"}
    for name, kind in found.items():
        with open_raw(scans / name) as scan:
            assert (scan.format, scan.projections.shape) == (kind, FRAMES.shape)


def test_unknown_content_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty.txrm").touch()
    (tmp_path / "text.txrm").write_text("hello, world")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["volume"] = FRAMES
    for name, message in {
        "absent.txrm": "no such file",
        "empty.txrm": "the file is empty",
        "text.txrm": "not a known raw format",
        "other.h5": "neither Data Exchange .* it holds volume",
    }.items():
        with pytest.raises(RawFileError, match=message) as caught:
            open_raw(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.h5", "b.txrm", "c.tif"])
def test_every_truncation_is_refused(scans, name):
    whole = (scans / name).read_bytes()
    for end in (1, 8, 60, 600, len(whole) // 2):
        (scans / name).write_bytes(whole[:end])
        with pytest.raises(RawFileError):
            open_raw(scans / name)
