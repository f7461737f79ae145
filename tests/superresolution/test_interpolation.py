import numpy as np
import pytest

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.superresolution.interpolation import Resampled, overlap, refined

WHOLE = (slice(None), slice(None), slice(None))


def coordinates(grid):
    """x, y, z of each voxel, mm, each of the volume's shape."""
    axes = [
        first + grid.voxel_mm * np.arange(n) for first, n in zip(grid.first_voxel_mm[::-1], grid.shape, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return x, y, z


def quadratic(grid):
    x, y, z = coordinates(grid)
    return (1 + x - 2 * y + 3 * z + x * y - z**2 + 0.5 * y**2).astype(np.float32)


GRID = VolumeGrid((9, 11, 10), 0.2, (0.05, -0.1, 0.3))


@pytest.mark.parametrize(
    "onto",
    [
        refined(GRID, 2),
        VolumeGrid((5, 6, 7), 0.07, (0.11, -0.03, 0.24)),
        VolumeGrid((4, 4, 4), 0.2, (0.0, 0.0, 0.3)),
    ],
    ids=["twice finer", "part, fractional offset", "same size, shifted"],
)
def test_quadratics_are_reproduced_away_from_the_faces(onto):
    ours = Resampled(quadratic(GRID), GRID, onto)[WHOLE]
    x, y, z = coordinates(onto)
    first, last = np.array(GRID.first_voxel_mm), np.array(GRID.first_voxel_mm) + 0.2 * (np.array(GRID.shape[::-1]) - 1)
    inner = np.ones(onto.shape, dtype=bool)
    for values, low, high in zip((x, y, z), first, last, strict=True):
        inner &= (values >= low + 0.2 - 1e-9) & (values <= high - 0.2 + 1e-9)
    assert inner.sum() > 20
    np.testing.assert_allclose(ours[inner], quadratic(onto)[inner], atol=2e-6)


def test_the_same_grid_gives_the_same_volume():
    volume = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    np.testing.assert_allclose(Resampled(volume, GRID, GRID)[WHOLE], volume, atol=1e-6)


def test_blocks_equal_the_whole():
    volume = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    reader = Resampled(volume, GRID, refined(GRID, 3))
    whole, block = reader[WHOLE], (slice(0, 4), slice(20, 33), slice(7, 8))
    assert whole.shape == reader.shape == (27, 33, 30)
    np.testing.assert_allclose(reader[block], whole[block], atol=1e-6)


def test_a_constant_stays_constant_up_to_the_faces():
    values = Resampled(np.full(GRID.shape, 0.7, np.float32), GRID, refined(GRID, 2))[WHOLE]
    np.testing.assert_allclose(values, 0.7, atol=1e-6)


def test_refined_grid_covers_the_same_extent():
    fine = refined(GRID, 2)
    assert fine.shape == (18, 22, 20)
    assert fine.centre_mm == GRID.centre_mm
    assert np.array(fine.first_voxel_mm) - 0.05 == pytest.approx(np.array(GRID.first_voxel_mm) - 0.1)


def test_overlap_is_where_voxel_centres_lie_inside():
    region = overlap(GRID, VolumeGrid((40, 40, 4), 0.1, GRID.centre_mm))
    assert [part.stop - part.start for part in region] == [18, 22, 4]


def test_grids_apart_are_refused():
    with pytest.raises(ValueError, match="grid: expected grids that overlap"):
        overlap(GRID, VolumeGrid((4, 4, 4), 0.1, (9.0, 0.0, 0.0)))
