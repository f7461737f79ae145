import numpy as np
import pytest

from xrmflow.errors import SettingsError
from xrmflow.networks.patches import PatchPool, cut_boxes, fitted_plan
from xrmflow.networks.training import Plan


def pool_of(volume, *, resident=10, memory_bytes=1e9, **options):
    boxes = cut_boxes([volume.shape[1:]], voxel_bytes=4 * len(volume), memory_bytes=memory_bytes)
    given = {"patch": 4, "neighbours": 1, "seed": 0, "resident": resident} | options
    return PatchPool(boxes, lambda box: volume[(slice(None), *box.region)], **given)


def test_boxes_cover_every_voxel_once():
    count = np.zeros((70, 300, 10), dtype=int)
    boxes = cut_boxes([count.shape], voxel_bytes=4, memory_bytes=1e5)
    for box in boxes:
        count[box.region] += 1
    assert len(boxes) == 4
    assert (count == 1).all()


def test_volumes_that_fit_are_not_cut():
    assert [box.shape for box in cut_boxes([(70, 300, 10), (3, 4, 5)], voxel_bytes=4, memory_bytes=1e9)] == [
        (70, 300, 10),
        (3, 4, 5),
    ]


def test_patches_are_turned_pieces_of_the_volume():
    volume = np.random.default_rng(0).random((2, 5, 9, 8)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(volume, (2, 3, 4, 4))[0].reshape(-1, 2, 3, 4, 4)
    known = {
        np.ascontiguousarray(np.rot90(w[:, ::dz, :, ::dx], k, axes=(2, 3))).tobytes()
        for w in windows
        for k in range(4)
        for dx in (1, -1)
        for dz in (1, -1)
    }
    drawn = pool_of(volume).draw(50, step=0)
    assert drawn.shape == (50, 2, 3, 4, 4)
    assert all(np.ascontiguousarray(patch).tobytes() in known for patch in drawn)
    assert len({patch.tobytes() for patch in drawn}) > 40


def test_a_draw_depends_on_seed_stream_and_step_alone():
    volume = np.random.default_rng(0).random((1, 5, 9, 8)).astype(np.float32)
    first = pool_of(volume)
    earlier = [first.draw(3, step=step) for step in range(4)]
    np.testing.assert_array_equal(pool_of(volume).draw(3, step=3), earlier[3])
    assert not np.array_equal(earlier[2], earlier[3])
    assert not np.array_equal(first.draw(3, step=3, stream=1), earlier[3])
    assert not np.array_equal(pool_of(volume, seed=1).draw(3, step=3), earlier[3])


def test_resident_boxes_change_and_resume_where_they_were():
    volume = np.arange(64 * 256 * 600, dtype=np.float32).reshape(1, 64, 256, 600)
    options = {"resident": 1, "memory_bytes": 1e5, "refresh_steps": 2}
    pool = pool_of(volume, **options)
    draws = [pool.draw(2, step=step) for step in range(12)]
    third = [set((draw % 600 // 256).astype(int).ravel()) for draw in draws]
    assert all(len(boxes) == 1 for boxes in third)
    assert len(set.union(*third)) > 1
    np.testing.assert_array_equal(pool_of(volume, **options).draw(2, step=7), draws[7])


def test_volumes_too_small_for_a_patch_are_named():
    with pytest.raises(ValueError, match=r"patch: expected volumes of at least \(3, 4, 4\) voxels, got \(2, 9, 9\)"):
        pool_of(np.zeros((1, 2, 9, 9), dtype=np.float32))


def test_neighbours_need_slices():
    plan = Plan(steps=1, neighbours=3)
    assert fitted_plan(plan, [(7, 90, 90), (50, 90, 90)]) == plan
    fitted = [fitted_plan(plan, [(slices, 90, 90), (50, 90, 90)]).neighbours for slices in (1, 2, 3, 6)]
    assert fitted == [0, 0, 1, 2]


def test_patch_fits_the_smallest_slice():
    plan = Plan(steps=1, patch_px=64, levels=3)
    assert fitted_plan(plan, [(9, 50, 90), (9, 200, 200)]).patch_px == 48
    with pytest.raises(SettingsError, match=r"levels: .* 7 pixels, got 8; lower levels"):
        fitted_plan(plan, [(9, 50, 7)])
