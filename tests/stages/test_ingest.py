"""The ingest stage: what is in the store, and what was assumed."""

import hashlib

import numpy as np
import pytest
import tifffile
import torch

from xrmflow.config.fdk import FdkSection
from xrmflow.config.flatfield import FlatfieldSection
from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.documents import write_document
from xrmflow.io.stores import open_projections, open_volume
from xrmflow.io.write_dataexchange import write_dataexchange
from xrmflow.io.write_txrm import write_txrm
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.grids import natural_grid
from xrmflow.stages import fdk, flatfield
from xrmflow.stages.ingest import run

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 60_000, (70, 5, 8), dtype=np.uint16)
# Nothing but the logarithm: a tiny object has sharp corners.
AS_IT_IS = {"rings": "none", "outlier_sigmas": None, "dead_pixel_tolerance": None}
GEOMETRY = {"pixel_size_um": 20.0, "source_to_axis_mm": 30.0, "detector_to_axis_mm": 70.0}


def test_a_scan_becomes_a_store(tmp_path):
    shifts = RNG.uniform(-4, 4, (70, 2)).astype(np.float32)
    write_txrm(
        tmp_path / "a.txrm",
        projections=FRAMES,
        angles_deg=np.arange(70),
        reference=FRAMES[0] + np.float32(0.5),
        shifts_px=shifts,
        exposure_s=2.0,
        **GEOMETRY,
    )
    run(source=tmp_path / "a.txrm", raw=tmp_path / "raw.zarr", params=IngestSection())
    store = open_projections(tmp_path / "raw.zarr", "counts")
    assert store.data.dtype == np.uint16
    np.testing.assert_array_equal(store.data[:], FRAMES)
    np.testing.assert_array_equal(store.arrays["flats"][:], FRAMES[:1] + np.float32(0.5))
    assert "darks" not in store.arrays
    acquisition = store.acquisition
    np.testing.assert_allclose(acquisition.shifts_px, -shifts)
    assert (acquisition.beam, acquisition.voxel_mm) == ("cone", pytest.approx(0.020))
    raw = store.record["raw"]
    assert raw["source_sha256"] == hashlib.sha256((tmp_path / "a.txrm").read_bytes()).hexdigest()
    assert (raw["format"], raw["exposure_s"], raw["flat_exposure_s"], raw["already"]) == ("txrm", 2.0, 2.0, "counts")
    assert {note["severity"] for note in raw["notes"]} == {"missing", "assumption", "warning"}
    assert store.record["provenance"]["stage"] == "ingest"


def test_rows_of_a_format_that_stores_them_top_down_are_turned(tmp_path):
    write_dataexchange(tmp_path / "a", projections=FRAMES, flats=FRAMES[:2], angles_deg=np.arange(70.0))
    run(source=tmp_path / "a", raw=tmp_path / "raw.zarr", params=IngestSection())
    store = open_projections(tmp_path / "raw.zarr")
    np.testing.assert_array_equal(store.data[:], FRAMES)
    np.testing.assert_array_equal(store.arrays["flats"][:], FRAMES[:2])


def test_every_file_of_a_stack_is_in_the_checksum(tmp_path):
    for k in range(3):
        tifffile.imwrite(tmp_path / f"p{k}.tif", FRAMES[k].astype(np.uint8))
    params = IngestSection(angles_first_deg=0.0, angles_last_deg=180.0)
    run(source=tmp_path, raw=tmp_path / "out" / "raw.zarr", params=params)
    first = open_projections(tmp_path / "out" / "raw.zarr")
    assert first.data.dtype == np.uint16
    assert [file["name"] for file in first.record["raw"]["source_files"]] == ["p0.tif", "p1.tif", "p2.tif"]
    tifffile.imwrite(tmp_path / "p1.tif", FRAMES[4].astype(np.uint8))
    run(source=tmp_path, raw=tmp_path / "out" / "raw.zarr", params=params)
    second = open_projections(tmp_path / "out" / "raw.zarr")
    assert first.record["raw"]["source_sha256"] != second.record["raw"]["source_sha256"]


def test_frames_that_hold_transmission_are_scaled(tmp_path):
    write_dataexchange(tmp_path / "a", projections=FRAMES, angles_deg=np.arange(70.0))
    params = IngestSection(already="transmission", transmission_scale=50_000.0)
    run(source=tmp_path / "a", raw=tmp_path / "raw.zarr", params=params)
    store = open_projections(tmp_path / "raw.zarr")
    np.testing.assert_allclose(store.data[:], FRAMES / 50_000, rtol=1e-6)
    assert store.record["raw"]["already"] == "transmission"


def test_saturation_and_lost_pixels_are_noticed(tmp_path):
    frames = FRAMES.astype(np.float32)
    frames[3, 2, 2:4] = np.nan
    flats = np.full((2, 5, 8), 65535, np.uint16)
    write_dataexchange(tmp_path / "a", projections=frames, flats=flats, angles_deg=np.arange(70.0))
    run(source=tmp_path / "a", raw=tmp_path / "raw.zarr", params=IngestSection())
    notes = open_projections(tmp_path / "raw.zarr").record["raw"]["notes"]
    warnings = [note["text"] for note in notes if note["severity"] == "warning"]
    assert warnings[-2:] == [
        "projections: 2 pixels are NaN or infinite",
        "flats: 1e+02 % of the pixels are saturated (at 65535)",
    ]
    assert not any("sampled pixels" in text for text in warnings)


def test_what_is_suspicious_about_the_scan_is_in_the_store(tmp_path):
    frames = np.full_like(FRAMES, 30_000) + FRAMES // 60
    frames[60:] //= 4
    short = {"projections": frames, "angles_deg": np.arange(70) * 2.6, "exposure_s": 1.0}
    write_txrm(tmp_path / "a.txrm", pixel_size_um=400.0, source_to_axis_mm=30.0, detector_to_axis_mm=70.0, **short)
    run(source=tmp_path / "a.txrm", raw=tmp_path / "raw.zarr", params=IngestSection())
    notes = open_projections(tmp_path / "raw.zarr").record["raw"]["notes"]
    warnings = [note["text"] for note in notes if note["severity"] == "warning"]
    assert "angles: limited, 179.4 of the 186.1 deg that are needed; attenuation will be too low" in warnings
    assert any("less than half as bright as the rest" in text for text in warnings)


def test_a_full_scan_has_no_warning(tmp_path):
    frames = np.full_like(FRAMES, 30_000) + FRAMES // 60
    flats = np.full((2, 5, 8), 31_500, np.uint16) + np.arange(8, dtype=np.uint16)
    write_dataexchange(tmp_path / "a", projections=frames, flats=flats, angles_deg=np.arange(70) * 180 / 70)
    run(source=tmp_path / "a", raw=tmp_path / "raw.zarr", params=IngestSection())
    notes = open_projections(tmp_path / "raw.zarr").record["raw"]["notes"]
    assert [note for note in notes if note["severity"] == "warning"] == []


def test_nothing_is_left_behind_when_the_scan_cannot_be_used(tmp_path):
    write_dataexchange(tmp_path / "a", projections=FRAMES)
    with pytest.raises(RawFileError, match="no angles"):
        run(source=tmp_path / "a", raw=tmp_path / "out" / "raw.zarr", params=IngestSection())
    assert not (tmp_path / "out").exists()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "shape", "references"),
    [
        ("tomopy_tooth/tooth.h5", (181, 2, 640), {"flats": 10, "darks": 10}),
        ("dxchange/txrm_test_chip_tomo.txrm", (7, 256, 256), {}),
        ("dxchange/test_chip00.xrm", (1, 512, 512), {"flats": 1}),
        ("httomo_k11/k11_diad/k11-18014.nxs", (3001, 22, 26), {"flats": 100, "darks": 100}),
    ],
)
def test_real_scans(real_data, tmp_path, name, shape, references):
    run(source=real_data / name, raw=tmp_path / "raw.zarr", params=IngestSection())
    store = open_projections(tmp_path / "raw.zarr")
    assert store.data.shape == shape
    assert {key: array.shape[0] for key, array in store.arrays.items() if key != "data"} == references
    assert store.acquisition.views == shape[0]
    assert store.acquisition.beam == "parallel"


def test_a_nikon_scan_is_reconstructed_the_right_way_round(tmp_path):
    """From frames as CIL says such a machine stores them: divided, top down, columns from right to left."""
    acquisition = Acquisition(
        beam="cone",
        angles_deg=tuple(30 + 6.0 * np.arange(60)),
        rows=20,
        cols=24,
        pixel_mm=0.2,
        source_to_axis_mm=20.0,
        source_to_detector_mm=100.0,
        centre_px=11.5 - 1.0,
        midplane_px=9.5,
    )
    grid = natural_grid(acquisition)
    truth = np.zeros(grid.shape, np.float32)
    truth[4:14, 6:18, 7:16] = 0.3
    truth[4:8, 8:12, 13:16] = 2.0
    projections = project(torch.from_numpy(truth), scan_geometry(acquisition), grid).numpy()
    for k, frame in enumerate(projections, start=1):
        tifffile.imwrite(tmp_path / f"cube{k:04d}.tif", np.round(50_000 * np.exp(-frame[::-1, ::-1])).astype(np.uint16))
    (tmp_path / "cube.xtekct").write_text(
        "[XTekCT]\nName=cube\nSrcToObject=20\nSrcToDetector=100\nDetectorPixelsX=24\nDetectorPixelsY=20\n"
        "DetectorPixelSizeX=0.2\nDetectorPixelSizeY=0.2\nWhiteLevel=50000\nProjections=60\nInitialAngle=30\n"
        "AngularStep=6\nObjectOffsetX=0.04\n"
    )
    raw, corrected, volume = (tmp_path / name for name in ("raw.zarr", "projections.zarr", "volume.zarr"))
    run(source=tmp_path / "cube.xtekct", raw=raw, params=IngestSection())
    documents = {"document": tmp_path / "flatfield.json", "views": tmp_path / "views.npz"}
    flatfield.run(raw=raw, projections=corrected, **documents, params=FlatfieldSection(**AS_IT_IS))
    found = open_projections(corrected)
    np.testing.assert_allclose(found.data[...], projections, atol=2e-3)
    assert found.acquisition == acquisition
    geometry = tmp_path / "geometry.json"
    write_document(geometry, kind="geometry", payload={"acquisition": found.acquisition.to_dict()}, provenance={})
    fdk.run(projections=corrected, geometry=geometry, cupping=None, volume=volume, params=FdkSection())
    made = open_volume(volume, "attenuation_per_mm").data[...]
    alike = [np.corrcoef(made.ravel(), other.ravel())[0, 1] for other in (truth, truth[..., ::-1], truth[::-1])]
    assert alike[0] > 0.9 > max(alike[1:]) + 0.1
