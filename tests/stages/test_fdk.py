"""The stage fdk: stores in, a store out."""

import numpy as np
import pytest
import torch

from xrmflow.config.fdk import FdkSection
from xrmflow.errors import SettingsError, StoreError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.documents import write_document
from xrmflow.io.stores import create_projections, open_volume
from xrmflow.projectors.analytic import project_ellipsoid
from xrmflow.reconstruction.fdk import fdk
from xrmflow.reconstruction.grids import natural_grid
from xrmflow.stages.fdk import run

MADE = {"stage": "test"}


def acquisition(**changes):
    record = {
        "beam": "parallel",
        "angles_deg": tuple(np.linspace(0, 180, 60, endpoint=False)),
        "rows": 2,
        "cols": 32,
        "pixel_mm": 0.01,
        "source_to_axis_mm": None,
        "source_to_detector_mm": None,
        "centre_px": 15.0,
        "midplane_px": 0.5,
    }
    return Acquisition(**(record | changes))


@pytest.fixture
def scan(tmp_path):
    """Writes projections with one geometry and geometry.json with another; returns the stage's arguments."""

    def write(nominal, fitted=None):
        body = {"centre_mm": (0.02, 0.0, 0.0), "semi_axes_mm": (0.08,) * 3, "attenuation_per_mm": 2.0}
        data = project_ellipsoid(scan_geometry(fitted or nominal), **body).float().numpy()
        with create_projections(
            tmp_path / "projections.zarr", quantity="line_integral", acquisition=nominal, provenance=MADE
        ) as store:
            store["data"] = data
        payload = {"acquisition": (fitted or nominal).to_dict(), "fit": {}, "notes": []}
        write_document(tmp_path / "geometry.json", kind="geometry", payload=payload, provenance=MADE)
        paths = {"projections": "projections.zarr", "geometry": "geometry.json", "volume": "volume.zarr"}
        return {"cupping": None} | {name: tmp_path / file for name, file in paths.items()}, torch.from_numpy(data)

    return write


def cupping(tmp_path, applied):
    payload = {"coefficients": [1.0, 0.5], "applied": applied, "trusted": True, "message": "no curve was found"}
    write_document(tmp_path / "cupping.json", kind="cupping", payload=payload, provenance=MADE)
    return tmp_path / "cupping.json"


def test_reconstructs_with_the_fitted_geometry_and_says_what_it_wrote(scan):
    fitted = acquisition(centre_px=13.7)
    paths, data = scan(acquisition(), fitted)
    run(**paths, params=FdkSection(truncation_padding=0.0))
    volume = open_volume(paths["volume"], "attenuation_per_mm")
    assert volume.calibrated
    assert volume.grid == natural_grid(fitted)
    expected = fdk(data, scan_geometry(fitted), volume.grid).numpy()
    np.testing.assert_allclose(volume.data[...], expected, atol=1e-5)
    assert expected[0, 14:18, 16:20].mean() == pytest.approx(2.0, rel=0.02)
    assert volume.record["provenance"]["stage"] == "fdk"


def test_a_scan_without_pixel_size_gives_attenuation_per_voxel(scan):
    paths, _ = scan(acquisition(pixel_mm=1.0, calibrated=False))
    run(**paths, params=FdkSection())
    volume = open_volume(paths["volume"], "attenuation_per_voxel")
    assert not volume.calibrated
    assert volume.grid.voxel_mm == 1.0


@pytest.mark.parametrize("applied", [True, False])
def test_the_cupping_polynomial_is_applied_when_the_fit_says_so(scan, tmp_path, applied):
    paths, data = scan(acquisition())
    run(**paths | {"cupping": cupping(tmp_path, applied)}, params=FdkSection(truncation_padding=0.0))
    volume = open_volume(paths["volume"])
    prepared = data + 0.5 * data**2 if applied else data
    expected = fdk(prepared, scan_geometry(acquisition()), volume.grid).numpy()
    np.testing.assert_allclose(volume.data[...], expected, atol=1e-5)


def test_a_region_of_interest_in_micrometres(scan):
    paths, _ = scan(acquisition())
    run(**paths, params=FdkSection(voxel_size_um=5.0, shape=(3, 8, 6), centre_um=(20.0, 0.0, 1.0)))
    grid = open_volume(paths["volume"]).grid
    assert (grid.shape, grid.voxel_mm, grid.centre_mm) == ((3, 8, 6), 0.005, (0.02, 0.0, 0.001))


def test_voxel_size_of_a_scan_without_pixel_size_is_refused_and_nothing_is_written(scan):
    paths, _ = scan(acquisition(pixel_mm=1.0, calibrated=False))
    with pytest.raises(
        SettingsError, match=r"fdk\.voxel_size_um: expected null .* got 5\.0; set ingest\.pixel_size_um"
    ):
        run(**paths, params=FdkSection(voxel_size_um=5.0))
    assert not paths["volume"].exists()


def test_projections_of_another_quantity_are_refused(scan):
    paths, data = scan(acquisition())
    with create_projections(
        paths["projections"], quantity="counts", acquisition=acquisition(), provenance=MADE
    ) as store:
        store["data"] = data.numpy()
    with pytest.raises(StoreError, match="expected quantity line_integral, got counts"):
        run(**paths, params=FdkSection())
