import json
from dataclasses import replace

import numpy as np
import pytest

from xrmflow.config.flatfield import FlatfieldSection
from xrmflow.errors import RawFileError, SettingsError, StoreError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.documents import read_document
from xrmflow.io.manifest import read_manifest, store_folder
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


def write_raw(path, with_flats=True, rows=ROWS, **described):
    u = np.linspace(-1, 1, COLS)
    truth = np.broadcast_to(np.sqrt(np.clip(0.5 - u**2, 0, None)), (VIEWS, rows, COLS))
    rng = np.random.default_rng(0)
    record = {"format": "test", "already": "counts", "exposure_s": 1.0, "flat_exposure_s": 1.0, **described}
    with create_projections(
        path, quantity="counts", acquisition=replace(ACQUISITION, rows=rows), provenance={"stage": "ingest"}, raw=record
    ) as store:
        store["data"] = rng.poisson(30000 * np.exp(-truth)).astype(np.uint16)
        if with_flats:
            store["flats"] = rng.poisson(30000, (5, rows, COLS)).astype(np.uint16)
    return truth


@pytest.fixture
def paths(tmp_path):
    return {
        "raw": tmp_path / "raw.zarr",
        "projections": tmp_path / "p.zarr" / "manifest.json",
        "document": tmp_path / "flatfield.json",
        "views": tmp_path / "views.npz",
    }


def test_line_integrals_and_statistics_are_published(paths):
    truth = write_raw(paths["raw"])
    flatfield.run(**paths, params=FlatfieldSection())
    result = open_projections(paths["projections"], "line_integral")
    assert result.acquisition == ACQUISITION
    assert np.sqrt(np.mean((result.data[...] - truth) ** 2)) < 0.02
    record = result.record["flatfield"]
    assert record["dark"] == "none"
    assert record["flat"] == "measured"
    assert record["open_beam_counts_median"] == pytest.approx(30000, rel=0.1)
    assert any("no dark frames" in note["text"] for note in record["notes"])


def test_what_a_report_needs_outlives_the_stores(paths):
    write_raw(paths["raw"], metadata={"voltage_kv": float("nan")})
    flatfield.run(**paths, params=FlatfieldSection())
    result = open_projections(paths["projections"])
    document = read_document(paths["document"], "flatfield")
    assert Acquisition.from_dict(document["acquisition"]) == ACQUISITION
    assert document["raw"] == result.record["raw"] | {"metadata": {"voltage_kv": None}}
    assert document["flatfield"] == json.loads(json.dumps(result.record["flatfield"]))
    assert document["frames"] == {"flats": 5, "darks": 0}
    assert document["provenance"]["stage"] == "flatfield"
    assert document["raw_provenance"] == {"stage": "ingest"}
    with np.load(paths["views"]) as views:
        view, row = document["views"]["view"], document["views"]["row"]
        np.testing.assert_array_equal(views["corrected_view"], result.data[view])
        np.testing.assert_array_equal(views["corrected_sinogram"], result.data[:, row])
        np.testing.assert_array_equal(views["raw_view"], open_projections(paths["raw"]).data[view])
        assert np.abs(views["plain_sinogram"] - views["corrected_sinogram"]).max() < 0.05


def test_a_missing_flat_stops_and_publishes_nothing(paths):
    write_raw(paths["raw"], with_flats=False)
    with pytest.raises(RawFileError, match="no flat"):
        flatfield.run(**paths, params=FlatfieldSection())
    with pytest.raises(StoreError, match="no such store"):
        open_projections(paths["projections"])
    assert not paths["document"].exists()
    assert not paths["views"].exists()


def test_even_ring_size_is_refused_in_the_settings():
    with pytest.raises(ValueError, match="expected an odd number of columns, got 4"):
        FlatfieldSection(ring_size_px=4)


def test_phase_is_retrieved_with_the_recorded_energy(paths):
    """On a real store, which is read and written in turn; the filter takes noise away and leaves the cylinder."""
    truth = write_raw(paths["raw"], metadata={"energy_kev": 20.0})
    params = FlatfieldSection(phase="paganin", delta_over_beta=500.0, phase_distance_mm=60.0)
    flatfield.run(**paths, params=params)
    result = open_projections(paths["projections"], "line_integral")
    assert result.record["flatfield"]["phase"]["filter_reach_px"] == 10
    middle = np.s_[:, :, 14:18]
    assert np.std(result.data[middle] - truth[middle]) < 0.007 < 1 / np.sqrt(30000 * np.exp(-0.7))
    with pytest.raises(SettingsError, match=r"flatfield\.phase_distance_mm: expected the distance"):
        flatfield.run(**paths, params=params.model_copy(update={"phase_distance_mm": None}))


def test_dynamic_flats_say_what_they_found(paths):
    write_raw(paths["raw"])
    flatfield.run(**paths, params=FlatfieldSection(flats="dynamic"))
    notes = open_projections(paths["projections"]).record["flatfield"]["notes"]
    assert any("no component of 5 flats stands out" in note["text"] for note in notes)


def test_parts_put_together_are_what_one_job_writes(tmp_path, paths):
    """The store file by file, its record with the sums over the parts, the document and the pictures."""
    write_raw(paths["raw"], rows=130)
    flatfield.run(**paths, params=FlatfieldSection())
    parts = [tmp_path / f"flatfield_{rows}.zarr" for rows in ("64-130", "0-64")]
    for rows, path in zip(("64-130", "0-64"), parts, strict=True):
        flatfield.run(raw=paths["raw"], projections=path, part=rows, params=FlatfieldSection())
    again = paths | {name: tmp_path / "again" / paths[name].name for name in ("document", "views")}
    again["projections"] = tmp_path / "again" / "p.zarr"
    flatfield.run(**again, parts=parts, params=FlatfieldSection())
    one, other = (given["projections"] for given in (paths, again))
    assert (store_folder(one) / "chunks.txt").read_bytes() == (store_folder(other) / "chunks.txt").read_bytes()
    np.testing.assert_array_equal(open_projections(one).data[...], open_projections(other).data[...])
    assert read_manifest(one)["record"] == read_manifest(other)["record"]
    said, expected = (read_document(given["document"], "flatfield") for given in (again, paths))
    assert {**said, "provenance": None} == {**expected, "provenance": None}
    assert paths["views"].read_bytes() == again["views"].read_bytes()


def test_whole_views_are_not_cut(paths):
    write_raw(paths["raw"], metadata={"energy_kev": 20.0})
    params = FlatfieldSection(phase="paganin", delta_over_beta=500.0, phase_distance_mm=60.0)
    with pytest.raises(SettingsError, match=r"flatfield\.phase: expected none to correct rows by themselves"):
        flatfield.run(raw=paths["raw"], projections=paths["projections"], part="0-8", params=params)
