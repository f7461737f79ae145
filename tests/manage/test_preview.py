"""preview: binning keeps the geometry, and the slices show the object."""

import numpy as np
import pytest
import torch

from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError, UserError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.write_dataexchange import write_dataexchange
from xrmflow.manage.preview import preview, run
from xrmflow.manage.quicklook import bin_frames, binned_acquisition, slices

VIEWS, ROWS, COLS = 60, 6, 48
CENTRE = 25.0


def acquisition(rows=ROWS):
    return Acquisition(
        beam="cone",
        angles_deg=tuple(np.arange(VIEWS) * 6.0),
        rows=rows,
        cols=COLS,
        pixel_mm=0.1,
        source_to_axis_mm=50.0,
        source_to_detector_mm=100.0,
        centre_px=CENTRE,
        midplane_px=2.3,
        shift_u_px=tuple(np.linspace(-2, 2, VIEWS)),
        shift_v_px=tuple(np.linspace(1, -1, VIEWS)),
    )


def disc_counts(beam=10_000.0):
    """A parallel scan of a disc (radius 9 px, centred 5 px off the axis) whose axis is at column CENTRE."""
    angles = np.radians(np.arange(VIEWS) * 3.0)
    columns = np.arange(COLS) - CENTRE - 5 * np.cos(angles)[:, None]
    chords = 2 * np.sqrt(np.clip(81 - columns**2, 0, None))
    return np.repeat((beam * np.exp(-0.03 * chords))[:, None], ROWS, axis=1).astype(np.float32)


def test_binning_means_over_blocks():
    frames = np.random.default_rng(0).uniform(size=(3, 7, 10))
    binned = bin_frames(frames, (2, 3))
    assert binned.shape == (3, 3, 3)
    np.testing.assert_allclose(binned[1, 2, 1], frames[1, 4:6, 3:6].mean(), rtol=1e-6)


@pytest.mark.parametrize("binning", [(2, 2), (3, 3)])
def test_binned_pixels_lie_in_the_middle_of_those_they_are_made_of(binning):
    full, small = acquisition(), binned_acquisition(acquisition(), binning)
    one, other = scan_geometry(full), scan_geometry(small)
    b = binning[0]
    for row, col in ((0, 0), (1, 4), (ROWS // b - 1, COLS // b - 1)):
        members = [position(one, full, b * row + i, b * col + j) for i in range(b) for j in range(b)]
        torch.testing.assert_close(position(other, small, row, col), torch.stack(members).mean(dim=0))


def position(geometry, described, row, col):
    """(view, 3) where a pixel is, mm."""
    along = (row - (described.rows - 1) / 2) * geometry.v
    return geometry.detector + (col - (described.cols - 1) / 2) * geometry.u + along


def test_a_picture_and_slices_of_a_disc(tmp_path):
    flats = np.full((2, ROWS, COLS), 10_000, np.float32)
    write_dataexchange(tmp_path / "a.h5", projections=disc_counts(), flats=flats, angles_deg=np.arange(VIEWS) * 3.0)
    shown = preview(tmp_path / "a.h5", tmp_path / "a.png", IngestSection())
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert shown.slices.shape == (3, COLS, COLS)
    assert shown.centre_px == pytest.approx(CENTRE, abs=0.3)
    assert shown.montage_px[3] == shown.centre_px
    right = slices(shown.look, rows=[2.0], centre_px=CENTRE)[0]
    middle = (COLS - 1) / 2
    x, y = np.meshgrid(np.arange(COLS) - middle, np.arange(COLS) - middle)
    disc = np.hypot(x - 5, y) < 6
    assert right[disc].mean() == pytest.approx(0.03, rel=0.05)
    assert abs(right[np.hypot(x - 5, y) > 14].mean()) < 0.003


def test_without_flats_the_edges_of_the_scan_stand_in(tmp_path):
    write_dataexchange(tmp_path / "a.h5", projections=disc_counts(), angles_deg=np.arange(VIEWS) * 3.0)
    shown = preview(tmp_path / "a.h5", tmp_path / "a.png")
    assert float(shown.look.projections[:, :, :2].abs().max()) < 0.05
    assert float(shown.look.projections.max()) == pytest.approx(0.03 * 18, rel=0.05)


def test_a_large_scan_is_made_small(tmp_path):
    counts = np.full((400, 2, 300), 1000, np.uint16)
    counts[:, :, 100:200] = 600
    write_dataexchange(tmp_path / "a.h5", projections=counts, angles_deg=np.linspace(0, 180, 400))
    look = preview(tmp_path / "a.h5", tmp_path / "a.png").look
    assert look.binning == (2, 2)
    assert tuple(look.projections.shape) == (200, 1, 150)


def test_a_single_view_is_refused(tmp_path):
    write_dataexchange(tmp_path / "a.h5", projections=disc_counts()[:1], angles_deg=np.zeros(1))
    with pytest.raises(RawFileError, match="expected a scan of several views"):
        preview(tmp_path / "a.h5", tmp_path / "a.png")


def test_a_picture_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(UserError, match=r"x\.foo: expected a name ending in \.png"):
        run(tmp_path / "absent.h5", out=tmp_path / "x.foo")
