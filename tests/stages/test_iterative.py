"""The stage iterative: stores in, a store out."""

import logging
import re

import numpy as np
import pytest
import torch

from xrmflow.config.fdk import FdkSection
from xrmflow.config.iterative import IterativeSection
from xrmflow.errors import SettingsError, StoreError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.io.documents import write_document
from xrmflow.io.stores import create_projections, open_volume
from xrmflow.metrics.images import psnr
from xrmflow.projectors.analytic import ellipsoid, project_ellipsoid
from xrmflow.stages import fdk
from xrmflow.stages.iterative import run

MADE = {"stage": "test"}
# A rod that leaves the field of view at both ends, with a hole along it.
BODIES = (
    {"centre_mm": (0.02, 0.0, 0.0), "semi_axes_mm": (0.11, 0.1, 50.0), "attenuation_per_mm": 3.0},
    {"centre_mm": (0.05, 0.02, 0.0), "semi_axes_mm": (0.03, 0.03, 50.0), "attenuation_per_mm": -3.0},
)


def acquisition(**changes):
    record = {
        "beam": "cone",
        "angles_deg": tuple(np.linspace(0, 360, 20, endpoint=False)),
        "rows": 6,
        "cols": 36,
        "pixel_mm": 0.02,
        "source_to_axis_mm": 1.5,
        "source_to_detector_mm": 3.0,
        "centre_px": 17.0,
        "midplane_px": 2.5,
    }
    return Acquisition(**(record | changes))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def scan(tmp_path):
    """Writes a noisy scan and its FDK; returns the stage's arguments."""

    def write(acquired, **section):
        clean = sum(project_ellipsoid(scan_geometry(acquired), **body) for body in BODIES).float()
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        data = clean + 0.02 * torch.exp(0.5 * clean) * noise
        with create_projections(
            tmp_path / "projections.zarr", quantity="line_integral", acquisition=acquired, provenance=MADE
        ) as store:
            store["data"] = data.numpy()
        payload = {"acquisition": acquired.to_dict(), "fit": {}, "notes": []}
        write_document(tmp_path / "geometry.json", kind="geometry", payload=payload, provenance=MADE)
        paths = {"projections": "projections.zarr", "geometry": "geometry.json", "volume": "volume.zarr"}
        paths = {"cupping": None} | {name: tmp_path / file for name, file in paths.items()}
        fdk.run(**paths, params=FdkSection(window="hann", **section))
        return paths | {"iterative": tmp_path / "iterative.zarr"}

    return write


def quality(path):
    volume = open_volume(path)
    truth = sum(ellipsoid(volume.grid, samples=2, **body) for body in BODIES)
    return psnr(volume.data[...], truth, data_range=3.0)


def test_tv_on_the_grid_of_the_volume_is_far_better_than_it(scan):
    paths = scan(acquisition())
    run(**paths, params=IterativeSection(iterations=60))
    beside, found = open_volume(paths["volume"]), open_volume(paths["iterative"], "attenuation_per_mm")
    assert (found.grid, found.calibrated) == (beside.grid, True)
    assert float(np.min(found.data[...])) >= 0
    assert quality(paths["iterative"]) > quality(paths["volume"]) + 5
    done, made = found.record["iteration"], found.record["provenance"]
    assert (made["stage"], made["settings"]["method"]) == ("iterative", "tv")
    assert done["noise"] == pytest.approx(0.02, rel=0.15)
    assert done["strength_mm"] > 0
    assert len(done["residuals"]) <= 61
    # Slices above and below take up what oblique rays meet there.
    assert done["shape"][0] > found.grid.shape[0]


@pytest.mark.parametrize(("method", "gain_db"), [("os-sart", 1), ("sirt", 1), ("cgls", 0)])
def test_least_squares_ends_at_the_noise(scan, method, gain_db):
    paths = scan(acquisition())
    run(**paths, params=IterativeSection(method=method))
    done = open_volume(paths["iterative"]).record["iteration"]
    assert done["stopped_because"] == "noise"
    assert done["strength_mm"] is None
    assert quality(paths["iterative"]) > quality(paths["volume"]) + gain_db


def test_a_region_of_interest_is_cut_from_the_whole(scan):
    """Material around the region must not be drawn into it."""
    paths = scan(acquisition(), shape=(4, 12, 14), centre_um=(20.0, 10.0, 0.0))
    run(**paths, params=IterativeSection(iterations=60))
    found = open_volume(paths["iterative"])
    assert found.grid.shape == (4, 12, 14)
    assert found.record["iteration"]["shape"][1] >= 30
    inside = found.data[:, 2:-6, 2:4]
    assert inside.mean() == pytest.approx(3.0, rel=0.03)


def test_the_cupping_polynomial_is_applied(scan, tmp_path):
    paths = scan(acquisition())
    payload = {"coefficients": [1.0, 0.5], "applied": True, "trusted": True, "message": ""}
    write_document(tmp_path / "cupping.json", kind="cupping", payload=payload, provenance=MADE)
    params = IterativeSection(method="cgls", iterations=4)
    run(**paths, params=params)
    plain = open_volume(paths["iterative"]).data[...]
    run(**paths | {"cupping": tmp_path / "cupping.json"}, params=params)
    assert open_volume(paths["iterative"]).data[...].max() > 1.1 * plain.max()


def test_a_scan_without_pixel_size_gives_attenuation_per_voxel(scan):
    bodiless = acquisition(
        beam="parallel", pixel_mm=1.0, source_to_axis_mm=None, source_to_detector_mm=None, calibrated=False
    )
    paths = scan(bodiless)
    run(**paths, params=IterativeSection(method="cgls", iterations=2, stop_at_noise=False))
    assert not open_volume(paths["iterative"], "attenuation_per_voxel").calibrated


def test_what_it_needs_is_said_before_and_what_does_not_fit_is_refused(scan, caplog):
    paths = scan(acquisition())
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(
            SettingsError, match=r"iterative\.memory_gb: expected at least 0\.4\d for tv .* got 0\.30; allow"
        ),
    ):
        run(**paths, params=IterativeSection(memory_gb=0.3))
    assert re.search(r"tv of \d+ x \d+ x \d+ voxels from 20 views of 6 x 36 pixels, needs 0\.4\d GB", caplog.text)
    assert not paths["iterative"].exists()


def test_columns_that_are_left_out_may_be_anything(scan):
    paths = scan(acquisition())
    run(**paths, params=IterativeSection(method="cgls", iterations=3, left_out_columns=2))
    expected = open_volume(paths["iterative"]).data[...]
    record = acquisition()
    with create_projections(
        paths["projections"], quantity="line_integral", acquisition=record, provenance=MADE
    ) as store:
        data = sum(project_ellipsoid(scan_geometry(record), **body) for body in BODIES).float()
        data += 0.02 * torch.exp(0.5 * data) * torch.randn(data.shape, generator=torch.Generator().manual_seed(0))
        data[..., :2], data[..., -2:] = 7.0, -3.0
        store["data"] = data.numpy()
    run(**paths, params=IterativeSection(method="cgls", iterations=3, left_out_columns=2))
    np.testing.assert_allclose(open_volume(paths["iterative"]).data[...], expected, atol=1e-4)
    with pytest.raises(SettingsError, match=r"iterative\.left_out_columns: expected less than half of the 36 columns"):
        run(**paths, params=IterativeSection(left_out_columns=18))


def test_projections_that_are_not_finite_are_refused(scan):
    paths = scan(acquisition())
    with create_projections(
        paths["projections"], quantity="line_integral", acquisition=acquisition(), provenance=MADE
    ) as store:
        store["data"] = np.full((20, 6, 36), np.nan, np.float32)
    with pytest.raises(ValueError, match="projections: expected finite line integrals, got others in views 0 to 20"):
        run(**paths, params=IterativeSection())
    with create_projections(
        paths["projections"], quantity="counts", acquisition=acquisition(), provenance=MADE
    ) as store:
        store["data"] = np.ones((20, 6, 36), np.float32)
    with pytest.raises(StoreError, match="expected quantity line_integral, got counts"):
        run(**paths, params=IterativeSection())
