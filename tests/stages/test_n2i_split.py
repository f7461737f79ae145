import numpy as np
import pytest

from xrmflow.config.fdk import FdkSection
from xrmflow.config.n2i_split import N2iSplitSection
from xrmflow.errors import SettingsError, StoreError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.documents import write_document
from xrmflow.io.stores import create_projections, create_volume, open_volume
from xrmflow.manage import gather
from xrmflow.stages import fdk, n2i_split


def acquisition_of(beam, rows=4):
    cone = beam == "cone"
    return Acquisition(
        beam=beam,
        angles_deg=tuple(np.linspace(0, 360 if cone else 180, 24, endpoint=False)),
        rows=rows,
        cols=20,
        pixel_mm=0.02,
        source_to_axis_mm=10.0 if cone else None,
        source_to_detector_mm=20.0 if cone else None,
        centre_px=9.8,
        midplane_px=(rows - 1) / 2,
        shift_u_px=tuple(np.linspace(-1, 1, 24)),
        calibrated=cone,
    )


@pytest.fixture
def scan(tmp_path, request):
    """Projections of noise: any fault in the order of views shows. With geometry, cupping and volume."""
    acquisition = acquisition_of(*request.param)
    shape = (24, acquisition.rows, acquisition.cols)
    with create_projections(
        tmp_path / "p.zarr", quantity="line_integral", acquisition=acquisition, provenance={"stage": "flatfield"}
    ) as store:
        store["data"] = np.random.default_rng(0).random(shape, dtype=np.float32)
    paths = {
        "projections": tmp_path / "p.zarr",
        "geometry": tmp_path / "geometry.json",
        "cupping": tmp_path / "cupping.json",
        "volume": tmp_path / "volume.zarr",
    }
    made = {"stage": "test"}
    write_document(paths["geometry"], kind="geometry", payload={"acquisition": acquisition.to_dict()}, provenance=made)
    fitted = {"coefficients": [1.0, 0.3], "applied": True, "message": ""}
    write_document(paths["cupping"], kind="cupping", payload=fitted, provenance=made)
    fdk.run(**paths, params=FdkSection(window="hann", shape=(3, 16, 18), truncation_padding=0.3))
    return paths


def split_paths(scan, number):
    return [scan["volume"].parent / "splits" / f"{k}.zarr" / "manifest.json" for k in range(number)]


@pytest.mark.parametrize("scan", [("cone", 70)], indirect=True)
def test_parts_put_together_are_the_splits(scan, tmp_path):
    fdk.run(**scan, params=FdkSection(shape=(70, 16, 18)))
    whole, gathered = split_paths(scan, 2), [tmp_path / f"gathered{k}.zarr" for k in range(2)]
    n2i_split.run(**scan, splits=whole, params=N2iSplitSection(splits=2))
    parts = {cut: [tmp_path / f"{k}_{cut}.zarr" for k in range(2)] for cut in ("0-64", "64-70")}
    for cut, paths in parts.items():
        n2i_split.run(**scan, splits=paths, part=cut, params=N2iSplitSection(splits=2))
    gather.run(parts=[parts[cut][k] for k in range(2) for cut in parts], stores=gathered)
    for one, other in zip(whole, gathered, strict=True):
        assert (one.parent / "chunks.txt").read_text() == (other / "chunks.txt").read_text()
        assert open_volume(one).record["split"] == open_volume(other).record["split"]


@pytest.mark.parametrize("scan", [("cone",), ("parallel", 2)], indirect=True, ids=["cone", "parallel, two rows"])
def test_the_mean_of_the_splits_is_the_volume(scan):
    splits = split_paths(scan, 4)
    n2i_split.run(**scan, splits=splits, params=N2iSplitSection(splits=4))
    whole, parts = open_volume(scan["volume"]), [open_volume(path) for path in splits]
    mean = np.mean([part.data[...] for part in parts], axis=0)
    np.testing.assert_allclose(mean, whole.data[...], atol=1e-4 * np.abs(whole.data[...]).max())
    assert np.abs(parts[0].data[...] - whole.data[...]).max() > 0.1 * np.abs(whole.data[...]).max()
    for index, part in enumerate(parts):
        assert (part.grid, part.quantity, part.calibrated) == (whole.grid, whole.quantity, whole.calibrated)
        assert part.record["split"] == {"index": index, "of": 4}


@pytest.mark.parametrize("scan", [("cone",)], indirect=True)
def test_outputs_must_be_as_many_as_splits(scan):
    with pytest.raises(SettingsError, match=r"n2i_split.splits: expected as many outputs as splits \(4\), got 3"):
        n2i_split.run(**scan, splits=split_paths(scan, 3), params=N2iSplitSection(splits=4))


@pytest.mark.parametrize("scan", [("cone",)], indirect=True)
def test_only_volumes_of_fdk_have_splits(scan, tmp_path):
    whole = open_volume(scan["volume"])
    with create_volume(
        tmp_path / "d.zarr",
        quantity=whole.quantity,
        grid=whole.grid,
        calibrated=True,
        provenance={"stage": "n2i_apply"},
    ) as store:
        store["data"] = np.asarray(whole.data[...])
    with pytest.raises(StoreError, match="expected a volume written by fdk, got one written by n2i_apply"):
        n2i_split.run(**scan | {"volume": tmp_path / "d.zarr"}, splits=split_paths(scan, 4), params=N2iSplitSection())


@pytest.mark.parametrize("scan", [("cone",)], indirect=True)
def test_splits_remember_how_well_the_scan_is_aligned(scan, tmp_path):
    acquisition = acquisition_of("cone")
    payload = {"acquisition": acquisition.to_dict(), "score": {"mismatch_px": 0.7}}
    write_document(scan["geometry"], kind="geometry", payload=payload, provenance={"stage": "test"})
    paths = [tmp_path / "splits" / f"{index}.zarr" for index in range(2)]
    n2i_split.run(**scan, splits=paths, params=N2iSplitSection(splits=2))
    assert open_volume(paths[0]).record["alignment"]["mismatch_px"] == 0.7


@pytest.mark.parametrize("scan", [("cone",)], indirect=True)
def test_a_scan_of_too_few_views_is_refused_in_words(scan):
    splits = split_paths(scan, 13)
    with pytest.raises(SettingsError, match="at least two views a split, got 13 splits of 24 views; set fewer"):
        n2i_split.run(**scan, splits=splits, params=N2iSplitSection(splits=13))
    assert not splits[0].parent.exists()
