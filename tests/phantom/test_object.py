import cc3d
import numpy as np
import pytest
from scipy import ndimage

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.metrics.labels import BONE, CANAL, LACUNA, MARROW, OUTSIDE
from xrmflow.phantom.materials import attenuation_per_mm, bone_attenuation_per_mm
from xrmflow.phantom.object import coarsened, coordinates_mm, make_bone, volume_fractions
from xrmflow.phantom.truth import coarse_attenuation, cortical_thickness_um


def test_listed_lacunae_are_the_labelled_ones(bone):
    """Each whole lacuna is one component of the labels, where the list says and as large as it says."""
    labels = bone.labels[bone.core] == LACUNA
    parts = cc3d.connected_components(labels, connectivity=26)
    x, y, z = coordinates_mm(bone.grid.slab(bone.core))
    seen = bone.seen_lacunae()
    whole = [one for one, complete in seen if complete]
    assert len(whole) >= 3
    assert parts.max() <= len(seen)
    for one in whole:
        place = tuple(int(np.argmin(abs(axis - c))) for axis, c in zip((z, y, x), one.centre_mm[::-1], strict=True))
        part = parts == parts[place]
        assert parts[place] > 0
        assert part.sum() * bone.grid.voxel_mm**3 == pytest.approx(one.volume_mm3, rel=0.06)
        nz, ny, nx = np.nonzero(part)
        centroid = [x[nx].mean(), y[ny].mean(), z[nz].mean()]
        np.testing.assert_allclose(centroid, one.centre_mm, atol=bone.grid.voxel_mm / 2)


def test_lacunae_are_empty_of_mineral_and_lie_in_bone(bone):
    inside = bone.labels == LACUNA
    assert bone.mineral[ndimage.binary_erosion(inside)].max() == 0
    rim = ndimage.binary_dilation(inside, iterations=2) & ~inside
    assert np.all(bone.labels[rim] == BONE)


def test_least_semi_axis_is_the_one_asked_for(bone):
    least = min(one.semi_axes_mm[0] for one in bone.lacunae) * 1e3
    assert least >= bone.recipe.lacuna_semi_axes_um[0] * 0.999


def test_every_kind_of_tissue_is_there(bone):
    counts = np.bincount(bone.labels[bone.core].ravel(), minlength=5)
    assert np.all(counts[[OUTSIDE, MARROW, BONE, LACUNA, CANAL]] > 50)


def test_volume_fractions_are_those_of_the_labels(bone):
    labels, found = bone.labels[bone.core], volume_fractions(bone)
    total = np.count_nonzero(labels != OUTSIDE)
    assert found["bone_fraction"] == pytest.approx(np.count_nonzero(labels == BONE) / total)
    assert found["total_mm3"] == pytest.approx(total * bone.grid.voxel_mm**3)


def test_attenuation_of_each_tissue(bone):
    energy = 15.0
    volume = bone.attenuation_per_mm(energy, bone.core)
    labels = bone.labels[bone.core]
    water, matrix = attenuation_per_mm("water", energy), bone_attenuation_per_mm(bone.recipe.mineral_fraction, energy)
    deep = ndimage.binary_erosion(labels == BONE, iterations=2)
    assert volume[deep].mean() == pytest.approx(matrix, rel=0.03)
    assert volume[deep].std() < 0.05 * matrix
    # Here and there a trabecula is thinner than a voxel and not labelled.
    marrow = volume[ndimage.binary_erosion(labels == MARROW, iterations=2)]
    assert np.mean(abs(marrow / water - 1) < 1e-3) > 0.999
    assert volume[:, 0, 0].max() == 0


def test_partial_volumes_do_not_depend_on_the_voxel(bone_recipe):
    """The same object sampled twice as finely holds the same mineral."""
    extent = 0.0672
    grids = [VolumeGrid((n // 4, n, n), extent / n) for n in (64, 128)]
    coarse, fine = (make_bone(bone_recipe, grid, seed=5) for grid in grids)
    amounts = [bone.mineral.sum(dtype=np.float64) * bone.grid.voxel_mm**3 for bone in (coarse, fine)]
    assert amounts[0] == pytest.approx(amounts[1], rel=3e-3)
    halved = coarsened(fine, 2)
    assert np.mean(abs(halved.mineral - coarse.mineral)) < 0.02 * coarse.mineral.max()
    assert np.mean(halved.labels != coarse.labels) < 0.01


def test_seed_decides_everything(bone_recipe):
    grid = VolumeGrid((8, 48, 48), 0.0014)
    first, again, other = (make_bone(bone_recipe, grid, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.mineral, again.mineral)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert np.mean(first.labels != other.labels) > 0.02


def test_coarse_attenuation_is_the_mean_of_the_fine(bone):
    coarse = coarse_attenuation(bone, 15.0, factor=2, slices=slice(2, 5))
    start = bone.margin + 4
    fine = bone.attenuation_per_mm(15.0, slice(start, start + 6))
    assert coarse.shape == (3, fine.shape[1] // 2, fine.shape[2] // 2)
    assert coarse[1, 10, 20] == pytest.approx(fine[2:4, 20:22, 40:42].mean(), rel=1e-5)


def test_cortical_thickness_is_near_what_was_asked_for(bone):
    found = cortical_thickness_um(bone)
    assert found["cortical_least"] < found["cortical_mean"] < found["cortical_most"]
    assert found["cortical_mean"] == pytest.approx(bone.recipe.cortex_um, rel=0.15)
