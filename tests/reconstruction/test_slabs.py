"""Slab by slab equals all at once, whatever the budget; and what is planned is what is done."""

import logging

import numpy as np
import pytest
import torch

from xrmflow.errors import SettingsError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.scan import scan_geometry
from xrmflow.projectors.matrices import row_window, voxel_to_pixel
from xrmflow.reconstruction import slabs
from xrmflow.reconstruction.fdk import fdk, fdk_slabs
from xrmflow.reconstruction.grids import natural_grid, region_grid


def acquisition(beam="cone", rows=48, cols=40, views=45, **changes):
    rng = np.random.default_rng(1)
    record = {
        "beam": beam,
        "angles_deg": tuple(np.linspace(0, 360, views, endpoint=False)),
        "rows": rows,
        "cols": cols,
        "pixel_mm": 1.6,
        "source_to_axis_mm": 160.0 if beam == "cone" else None,
        "source_to_detector_mm": 256.0 if beam == "cone" else None,
        "centre_px": (cols - 1) / 2 + 1,
        "midplane_px": (rows - 1) / 2 + 0.5,
        "shift_v_px": tuple(rng.normal(size=views)),
    }
    return Acquisition(**(record | changes))


def random(record):
    shape = (record.views, record.rows, record.cols)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


class Counting:
    """A Reader that counts how often each detector row of each view is read."""

    def __init__(self, data):
        self.data, self.shape, self.dtype = data, data.shape, data.dtype
        self.reads = np.zeros(data.shape[:2], int)

    def __getitem__(self, selection):
        self.reads[selection[:2]] += 1
        return self.data[selection]


@pytest.fixture
def no_runtime(monkeypatch):
    """Budgets in the tests count arrays only."""
    monkeypatch.setattr(slabs, "RUNTIME_BYTES", 0)


def plan_of(record, grid, megabytes):
    matrices = voxel_to_pixel(scan_geometry(record), grid).numpy()
    return slabs.plan_slabs(matrices, grid, detector=(record.rows, record.cols), memory_bytes=megabytes * 1e6)


TURNED = [{}, {"roll_deg": 0.5, "tilt_deg": 0.5}, {"roll_deg": 180.0}, {"roll_deg": 3.0, "tilt_deg": 5.0}]


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize("beam", ["cone", "parallel"])
@pytest.mark.parametrize("turned", TURNED, ids=str)
def test_any_budget_and_any_cut_give_the_same_bits(turned, beam):
    """All at once in memory = large budget = budgets that make slabs, held and not held = slices asked for alone."""
    record = acquisition(beam, rows=150, **turned)
    geometry, grid, projections = scan_geometry(record), natural_grid(record), random(record)
    options: dict = {"window": "hann", "truncation_px": 4}
    expected = fdk(projections, geometry, grid, **options).numpy()
    for megabytes in (100.0, 5.7, 5.445 if beam == "cone" else 4.8):
        volume = np.full(grid.shape, np.nan, np.float32)
        fdk_slabs(projections.numpy(), volume, geometry, grid, memory_gb=megabytes / 1e3, **options)
        np.testing.assert_array_equal(volume, expected)
    parts = np.full(grid.shape, np.nan, np.float32)
    for slices in (slice(64, None), slice(0, 64)):
        fdk_slabs(projections.numpy(), parts, geometry, grid, slices=slices, **options)
    np.testing.assert_array_equal(parts, expected)


def test_slices_begin_where_slabs_do():
    record = acquisition(rows=4)
    grid = natural_grid(record)
    for slices in (slice(1, 4), slice(2, 2), slice(0, 4, 2), slice(64, None)):
        with pytest.raises(ValueError, match="slices: expected some of 4 from a multiple of 64 on"):
            fdk_slabs(
                random(record).numpy(), np.empty(grid.shape, np.float32), scan_geometry(record), grid, slices=slices
            )


@pytest.mark.usefixtures("no_runtime")
def test_smaller_budgets_make_more_slabs_and_never_exceed_themselves():
    record = acquisition(rows=150)
    plans = {megabytes: plan_of(record, natural_grid(record), megabytes) for megabytes in (100.0, 5.0, 4.8)}
    assert [len(plan.slabs) for plan in plans.values()] == [1, 3, 3]
    assert all(plan.total_bytes <= megabytes * 1e6 for megabytes, plan in plans.items())
    assert [plan.hold for plan in plans.values()] == [True, True, False]


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize("turned", [{}, {"roll_deg": 180.0}], ids=str)
def test_each_row_is_read_once_where_memory_allows(turned):
    record = acquisition(rows=150, **turned)
    grid, reader = natural_grid(record), Counting(random(record).numpy())
    plan = plan_of(record, grid, 5.0)
    assert plan.hold
    assert len(plan.slabs) > 1
    fdk_slabs(reader, np.empty(grid.shape, np.float32), scan_geometry(record), grid, memory_gb=5e-3)
    assert reader.reads.max() == 1
    assert plan.rows_filtered == reader.reads.sum(axis=1).max()


@pytest.mark.usefixtures("no_runtime")
def test_a_region_reads_only_its_rows():
    record = acquisition()
    grid = region_grid(record, shape=(4, 40, 40))
    reader = Counting(random(record).numpy())
    fdk_slabs(reader, np.empty(grid.shape, np.float32), scan_geometry(record), grid)
    assert reader.reads[:, 20:28].min() == 1
    assert reader.reads.sum(axis=1).max() < 30


@pytest.mark.usefixtures("no_runtime")
def test_every_voxel_of_a_slab_projects_into_its_window():
    record = acquisition(roll_deg=1.0, tilt_deg=2.0)
    grid = natural_grid(record)
    matrices = voxel_to_pixel(scan_geometry(record), grid).numpy()
    k, j, i = np.meshgrid(np.arange(8, 16), np.arange(40), np.arange(40), indexing="ij")
    points = np.stack([i, j, k, np.ones_like(i)]).reshape(4, -1)
    _, row, w = np.moveaxis(matrices @ points, 1, 0)
    first, last = row_window(matrices, grid, slice(8, 16), record.rows)
    assert first <= max(0, np.floor((row / w).min()))
    assert last >= min(record.rows, np.floor((row / w).max()) + 2)
    assert last - first < record.rows


@pytest.mark.parametrize("rows", [1, 2])
def test_stacks_of_one_or_two_rows(rows):
    record = acquisition("parallel", rows=rows, midplane_px=(rows - 1) / 2, shift_v_px=())
    geometry, grid, projections = scan_geometry(record), natural_grid(record), random(record)
    volume = np.empty(grid.shape, np.float32)
    fdk_slabs(projections.numpy(), volume, geometry, grid)
    np.testing.assert_allclose(volume, fdk(projections, geometry, grid).numpy(), rtol=0, atol=1e-6)
    assert np.abs(volume).max() > 0


def test_line_integrals_are_prepared_before_anything_else():
    record = acquisition(rows=4)
    geometry, grid, projections = scan_geometry(record), natural_grid(record), random(record)
    prepare = lambda p: p + 0.3 * p**2  # noqa: E731
    volume = np.empty(grid.shape, np.float32)
    fdk_slabs(projections.numpy(), volume, geometry, grid, prepare=prepare)
    expected = fdk(prepare(projections), geometry, grid).numpy()
    np.testing.assert_allclose(volume, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_the_plan_is_logged_and_progress_is_tracked(caplog):
    record = acquisition(rows=4)
    grid, seen = natural_grid(record), []

    def track(items, *, total=None, label=""):
        seen.append((total, label))
        return iter(items)

    with caplog.at_level(logging.INFO):
        fdk_slabs(random(record).numpy(), np.empty(grid.shape), scan_geometry(record), grid, track=track)
    assert "4 x 40 x 40 voxels from 45 views in 1 slab(s)" in caplog.text
    assert "GB of memory" in caplog.text
    assert seen == [(2, "fdk")]


def test_too_small_a_budget_says_what_is_needed():
    record = acquisition()
    with pytest.raises(SettingsError, match=r"fdk\.memory_gb: expected at least 0\.4\d .* got 0.01"):
        plan_of(record, natural_grid(record), 10)


def test_what_does_not_fit_is_refused_by_name():
    record = acquisition(rows=4)
    geometry, grid, data = scan_geometry(record), natural_grid(record), random(record).numpy()
    with pytest.raises(ValueError, match="projections: expected shape"):
        fdk_slabs(data[1:], np.empty(grid.shape), geometry, grid)
    with pytest.raises(ValueError, match="volume: expected shape"):
        fdk_slabs(data, np.empty((1, 2, 3)), geometry, grid)
    data[40, 2, 7] = np.nan
    with pytest.raises(ValueError, match=r"projections: expected finite .* views 32 to 45"):
        fdk_slabs(data, np.empty(grid.shape), geometry, grid)
