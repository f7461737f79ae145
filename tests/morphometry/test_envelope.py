import numpy as np
import pytest

from xrmflow.morphometry.envelope import keep_slices, main_bone, periosteal_envelope


def ring(size=40, outer=15, inner=10):
    y, x = np.indices((size, size)) - (size - 1) / 2
    radius = np.hypot(y, x)
    return (radius < outer) & (radius > inner), radius < outer


def test_envelope_of_a_ring_is_its_disc():
    bone, disc = ring()
    found = periosteal_envelope(np.stack([bone] * 3), closing_voxels=4)
    # Opening and closing by a disc may shave single voxels off a drawn circle, never more.
    assert np.count_nonzero(found ^ disc) <= 0.01 * np.count_nonzero(np.stack([disc] * 3))


@pytest.mark.parametrize(("gap", "closed"), [(3, True), (14, False)])
def test_gaps_of_the_cortex_are_bridged_up_to_the_disc(gap, closed):
    bone, disc = ring()
    middle = bone.shape[0] // 2
    bone[:middle, middle - gap // 2 : middle - gap // 2 + gap] = False
    found = periosteal_envelope(bone[None], closing_voxels=4)[0]
    marrow = disc & ~ring()[0]
    assert found[marrow].mean() == pytest.approx(1.0 if closed else 0.0, abs=0.1)


def test_a_shape_without_holes_keeps_its_size(shapes):
    grey = shapes.rendered(shapes.rod(14), (3, 40, 40))
    found = periosteal_envelope(grey > 0.5, closing_voxels=6)
    assert np.count_nonzero(found) == pytest.approx(np.count_nonzero(grey > 0.5), rel=0.01)


def test_bone_at_the_edge_is_not_cut(shapes):
    bone = np.ones((2, 12, 12), bool)
    assert periosteal_envelope(bone, closing_voxels=5).all()


def test_specks_are_no_bone_and_large_parts_are():
    bone = np.zeros((4, 30, 30), bool)
    bone[:, 5:15, 5:15] = True
    bone[:, 20:24, 20:24] = True
    bone[0, 28, 28] = True
    found = main_bone(bone)
    assert found[:, 20:24, 20:24].all()
    assert not found[0, 28, 28]
    assert not main_bone(np.zeros((2, 3, 3), bool)).any()


def test_slices_outside_the_volume_are_refused():
    with pytest.raises(ValueError, match="slices: expected 0 <= start < stop <= 4, got start 2, stop 9"):
        keep_slices((4, 3, 3), 2, 9)
    assert keep_slices((4, 3, 3), 1, 3).any(axis=(1, 2)).tolist() == [False, True, True, False]
