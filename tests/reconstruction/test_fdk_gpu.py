"""The streamed FDK on a GPU, its kernels run on the CPU by Triton's interpreter, is the FDK of the CPU."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from xrmflow.errors import SettingsError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.reconstruction.fdk import fdk, filter_views
from xrmflow.reconstruction.grids import natural_grid
from xrmflow.reconstruction.weights import missing_columns, view_weights

# Triton decides at import whether its kernels will be interpreted.
os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", minversion="3.7", reason="no Triton, or too old a one (pip install 'xrmflow[gpu-test]')")
from xrmflow.projectors.gpu_launch import Tiling
from xrmflow.reconstruction import fdk_gpu

del os.environ["TRITON_INTERPRET"]

SCAN = Acquisition(
    beam="cone",
    angles_deg=tuple(np.linspace(0, 360, 6, endpoint=False)),
    rows=9,
    cols=8,
    pixel_mm=1.5,
    source_to_axis_mm=20.0,
    source_to_detector_mm=28.0,
    centre_px=3.7,
    midplane_px=4.2,
)
# One program for everything: interpreting costs the same for a large tile as for a small one.
ONE = Tiling(views=2, side=8, places_x=8, places_y=8, places=16, pieces=2, lanes=4, planes=4)


def run(record, projections, **options):
    """`fdk_gpu.fdk_slabs` as `fdk_slabs` calls it."""
    geometry, grid = scan_geometry(record), natural_grid(record)
    added, weights = missing_columns(geometry), view_weights(geometry)

    def filtered(block, views, rows):
        return filter_views(
            block, geometry.with_views(views), weights[views], rows=rows, window="hann", truncation_px=2, added=added
        )

    volume = np.full(grid.shape, np.nan, np.float32)
    wide, device = geometry.widened(*added), torch.device("cpu")
    slices = slice(0, grid.shape[0])
    fdk_gpu.fdk_slabs(
        projections, volume, wide, grid, slices=slices, filtered=filtered, device=device, tiling=ONE, **options
    )
    return volume, fdk(torch.from_numpy(projections), geometry, grid, window="hann", truncation_px=2).numpy()


@pytest.mark.parametrize("changes", [{}, {"cols": 6, "centre_px": 4.3}, {"roll_deg": 1.0}], ids=str)
@pytest.mark.parametrize("memory_bytes", [1e9, 2e4], ids=["one slab", "slabs"])
def test_slabs_on_a_gpu_are_those_of_the_cpu(changes, memory_bytes, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(fdk_gpu, "VIEWS_AT_ONCE", 4)
    record = replace(SCAN, **changes)
    projections = np.random.default_rng(0).random((record.views, record.rows, record.cols), np.float32)
    volume, expected = run(record, projections, memory_bytes=memory_bytes)
    np.testing.assert_allclose(volume, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_card_too_small_for_a_slice_is_refused():
    with pytest.raises(SettingsError, match="device: expected a GPU with at least"):
        run(SCAN, np.zeros((6, 9, 8), np.float32), memory_bytes=100)
