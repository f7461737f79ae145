import numpy as np
import pytest

from xrmflow.morphometry.envelope import cortex_of, keep_slices, main_bone, periosteal_envelope


def cortex(marrow, envelope, **settings):
    return cortex_of(lambda z: marrow[z], lambda z: envelope[z], marrow.shape, **settings)


def ring(size=40, outer=15, inner=10):
    y, x = np.indices((size, size)) - (size - 1) / 2
    radius = np.hypot(y, x)
    return (radius < outer) & (radius > inner), radius < outer


def test_envelope_of_a_ring_is_its_disc():
    bone, disc = ring()
    found = periosteal_envelope(np.stack([bone] * 3), closing_voxels=4, least_part=0.1)
    # Opening and closing by a disc may shave single voxels off a drawn circle, never more.
    assert np.count_nonzero(found ^ disc) <= 0.01 * np.count_nonzero(np.stack([disc] * 3))


@pytest.mark.parametrize(("gap", "closed"), [(3, True), (14, False)])
def test_gaps_of_the_cortex_are_bridged_up_to_the_disc(gap, closed):
    bone, disc = ring()
    middle = bone.shape[0] // 2
    bone[:middle, middle - gap // 2 : middle - gap // 2 + gap] = False
    found = periosteal_envelope(bone[None], closing_voxels=4, least_part=0.1)[0]
    marrow = disc & ~ring()[0]
    assert found[marrow].mean() == pytest.approx(1.0 if closed else 0.0, abs=0.1)


def test_a_shape_without_holes_keeps_its_size(shapes):
    grey = shapes.rendered(shapes.rod(14), (3, 40, 40))
    found = periosteal_envelope(grey > 0.5, closing_voxels=6, least_part=0.1)
    assert np.count_nonzero(found) == pytest.approx(np.count_nonzero(grey > 0.5), rel=0.01)


def test_bone_at_the_edge_is_not_cut(shapes):
    bone = np.ones((2, 12, 12), bool)
    assert periosteal_envelope(bone, closing_voxels=5, least_part=0.1).all()


def test_specks_are_no_bone_and_large_parts_are():
    bone = np.zeros((4, 30, 30), bool)
    bone[:, 5:15, 5:15] = True
    bone[:, 20:24, 20:24] = True
    bone[0, 28, 28] = True
    found = main_bone(bone, 0.1)
    assert found[:, 20:24, 20:24].all()
    assert not found[0, 28, 28]
    assert not main_bone(np.zeros((2, 3, 3), bool), 0.1).any()


def test_slices_outside_the_volume_are_refused():
    with pytest.raises(ValueError, match="slices: expected 0 <= start < stop <= 4, got start 2, stop 9"):
        keep_slices(4, 2, 9)
    assert keep_slices(4, 1, 3).tolist() == [False, True, True, False]


def test_cortex_and_trabeculae_are_told_apart_by_thickness():
    wall, disc = ring(size=64, outer=28, inner=20)
    strut = disc & (np.abs(np.indices(disc.shape)[0] - 31.5) < 2)
    island = np.hypot(*(np.indices(disc.shape) - 31.5 + np.array([[[10]], [[0]]]))) < 4
    section = wall | strut | island
    bone, envelope = np.stack([section] * 12), np.stack([disc] * 12)
    found = cortex(envelope & ~bone, envelope, trabecula_voxels=7)
    true = np.stack([wall] * 12)
    assert not found[:, 31, 20:44].any()
    assert not found[:, 20:24, 31].any()
    assert np.count_nonzero(found ^ true) < 0.03 * np.count_nonzero(true)
    thick = cortex(envelope & ~bone, envelope, trabecula_voxels=2)
    assert thick[:, 31, 20:44].all()


def test_a_thin_cortex_stays_and_solid_bone_is_cortex():
    wall, disc = ring(size=64, outer=28, inner=26)
    envelope = np.stack([disc] * 8)
    found = cortex(np.stack([disc & ~wall] * 8), envelope, trabecula_voxels=9)
    assert found[:, wall].mean() > 0.99
    assert cortex(np.zeros_like(envelope), envelope, trabecula_voxels=9).sum() == envelope.sum()
