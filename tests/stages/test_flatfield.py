import numpy as np
import pytest

from xrmflow.config.flatfield import FlatfieldSection
from xrmflow.errors import RawFileError, StoreError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.stores import create_projections, open_projections
from xrmflow.stages import flatfield

VIEWS, ROWS, COLS = 20, 8, 32
ACQUISITION = Acquisition(
    beam="parallel",
    angles_deg=tuple(np.linspace(0, 180, VIEWS)),
    rows=ROWS,
    cols=COLS,
    pixel_mm=0.01,
    source_to_axis_mm=None,
    source_to_detector_mm=None,
    centre_px=15.5,
    midplane_px=3.5,
)


def write_raw(path, with_flats=True, **described):
    u = np.linspace(-1, 1, COLS)
    truth = np.broadcast_to(np.sqrt(np.clip(0.5 - u**2, 0, None)), (VIEWS, ROWS, COLS))
    rng = np.random.default_rng(0)
    record = {"format": "test", "already": "counts", "exposure_s": 1.0, "flat_exposure_s": 1.0, **described}
    with create_projections(
        path, quantity="counts", acquisition=ACQUISITION, provenance={"stage": "ingest"}, raw=record
    ) as store:
        store["data"] = rng.poisson(30000 * np.exp(-truth)).astype(np.uint16)
        if with_flats:
            store["flats"] = rng.poisson(30000, (5, ROWS, COLS)).astype(np.uint16)
    return truth


def test_line_integrals_and_statistics_are_published(tmp_path):
    truth = write_raw(tmp_path / "raw.zarr")
    flatfield.run(
        raw=tmp_path / "raw.zarr", projections=tmp_path / "p.zarr" / "manifest.json", params=FlatfieldSection()
    )
    result = open_projections(tmp_path / "p.zarr", "line_integral")
    assert result.acquisition == ACQUISITION
    assert np.sqrt(np.mean((result.data[...] - truth) ** 2)) < 0.02
    record = result.record["flatfield"]
    assert record["dark"] == "none"
    assert record["flat"] == "measured"
    assert record["open_beam_counts_median"] == pytest.approx(30000, rel=0.1)
    assert any("no dark frames" in note["text"] for note in record["notes"])


def test_a_missing_flat_stops_and_publishes_nothing(tmp_path):
    write_raw(tmp_path / "raw.zarr", with_flats=False)
    with pytest.raises(RawFileError, match="no flat"):
        flatfield.run(raw=tmp_path / "raw.zarr", projections=tmp_path / "p.zarr", params=FlatfieldSection())
    with pytest.raises(StoreError, match="no such store"):
        open_projections(tmp_path / "p.zarr")


def test_even_ring_size_is_refused_in_the_settings():
    with pytest.raises(ValueError, match="expected an odd number of columns, got 4"):
        FlatfieldSection(ring_size_px=4)
