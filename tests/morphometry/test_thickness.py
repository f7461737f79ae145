import numpy as np
import pytest
from scipy import ndimage

from xrmflow.morphometry.surface import find_surface
from xrmflow.morphometry.thickness import distance_to, local_thickness, paint, thinned

SHAPE = (32, 32, 32)
MARGIN = 7
OBLIQUE, STEEP = (1.0, 0.7, 0.4), (0.3, 1.0, 0.8)
SPECIMENS = [
    *(("plate", t, axis) for t in (3, 4, 5.4, 8) for axis in ((1, 0, 0), OBLIQUE)),
    *(("rod", t, axis) for t in (4, 7.5) for axis in ((1, 0, 0), STEEP)),
    *(("ball", t, (1, 0, 0)) for t in (6, 12, 20.3)),
    *(("tube", t, (1, 0, 0)) for t in (4, 5)),
]
SMALL_BLUR = 1 / np.sqrt(12)
"""Voxels: the standard deviation of a voxel's own averaging."""


def errors(shapes, *, blur=0.0, noise=0.0, smoothing=0.0, corrected=True):
    """Mean thickness minus truth, voxels, by shape; ends of plates, rods and tubes, which the array cuts, left out."""
    found = {}
    for seed, (kind, thickness, axis) in enumerate(SPECIMENS):
        rng = np.random.default_rng(seed)
        grey = shapes.rendered(getattr(shapes, kind)(thickness, axis, rng.uniform(-0.5, 0.5, 3)), SHAPE)
        grey = ndimage.gaussian_filter(grey, blur, mode="nearest") if blur else grey
        grey = grey + noise * rng.standard_normal(SHAPE).astype(np.float32)
        grey = ndimage.gaussian_filter(grey, smoothing, mode="nearest") if smoothing else grey
        total = np.sqrt(blur**2 + smoothing**2 + SMALL_BLUR**2) if corrected else 0.0
        local = local_thickness(grey, grey >= 0.5, 0.5, blur_voxels=total)
        inner = local if kind == "ball" else local[(slice(MARGIN, -MARGIN),) * 3]
        found.setdefault(kind, []).append(inner[inner > 0].mean() - thickness)
    return found


def rms(found):
    return np.sqrt(np.mean(np.concatenate(list(found.values())) ** 2))


def test_thickness_without_noise_is_a_quarter_of_a_voxel_right(shapes):
    found = errors(shapes)
    assert rms(found) < 0.25
    assert all(abs(np.mean(found[kind])) < 0.15 for kind in ("plate", "rod", "tube"))


def test_blur_is_corrected(shapes):
    seen, corrected = errors(shapes, smoothing=0.8, corrected=False), errors(shapes, smoothing=0.8)
    assert rms(corrected) < 0.2
    assert rms(corrected) < rms(seen)
    # Blur makes rods thinner by sigma^2 / R: the correction takes that back.
    assert np.mean(seen["rod"]) < -0.2
    assert abs(np.mean(corrected["rod"])) < 0.1


def test_blur_and_noise_leave_less_than_the_error_of_a_mask(shapes):
    # Binary methods are wrong by 0.58 voxels rms without blur or noise, the best of them by 0.8 with.
    found = errors(shapes, blur=0.7, noise=0.08, smoothing=0.6)
    assert rms(found) < 0.35


@pytest.mark.parametrize("axis", [(1, 0, 0), (1, 1, 0), (1, 1, 1), OBLIQUE])
def test_shift_and_rotation_do_not_matter(shapes, axis):
    means = []
    for shift in (0.0, 0.2, 0.4):
        grey = ndimage.gaussian_filter(
            shapes.rendered(shapes.plate(5.0, axis, (shift, shift / 2, 0)), SHAPE), 0.8, mode="nearest"
        )
        local = local_thickness(grey, grey >= 0.5, 0.5)[(slice(MARGIN, -MARGIN),) * 3]
        means.append(local[local > 0].mean())
    assert np.std(means) < 0.1
    assert np.mean(means) == pytest.approx(5.0, abs=0.2)


def test_grey_units_do_not_matter(shapes):
    grey = ndimage.gaussian_filter(shapes.rendered(shapes.rod(6, OBLIQUE), SHAPE), 0.8)
    once = local_thickness(grey, grey >= 0.5, 0.5)
    scaled = local_thickness(64 * grey, grey >= 0.5, 32.0)
    np.testing.assert_allclose(scaled, once, atol=1e-4)


def test_the_same_input_gives_the_same_bits(shapes):
    grey = shapes.rendered(shapes.tube(5, OBLIQUE), SHAPE)
    first, second = (local_thickness(grey, grey >= 0.5, 0.5) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_distances_are_those_to_the_nearest_disc():
    rng = np.random.default_rng(0)
    grey = ndimage.gaussian_filter(rng.standard_normal((14, 15, 16)), 2).astype(np.float32)
    domain = grey >= 0
    surface = find_surface(grey, domain, 0.0)
    distance, owner = distance_to(surface, domain)
    nearest = [slow_distances(np.array(place), surface).min() for place in np.argwhere(domain)]
    found = distance[domain]
    # A sweep may settle for a disc a little farther than the nearest, which is nearest to no neighbour.
    excess = found - nearest
    assert excess.min() > -1e-5
    assert np.median(excess) < 1e-5
    assert np.percentile(excess, 90) < 0.05
    assert excess.max() < 0.6
    assert (owner[domain] >= 0).all()


def slow_distances(place, surface, radius=0.5):
    """Distance of a point to every disc, written out."""
    offset = place - surface.position
    height = (offset * surface.normal).sum(1)
    lateral = np.linalg.norm(offset - height[:, None] * surface.normal, axis=1)
    beyond = np.maximum(lateral - radius, 0)
    distance = np.sqrt(np.where(beyond > 0, height, np.maximum(height, 0)) ** 2 + beyond**2)
    return np.where(height < -1, np.inf, distance)


def test_painting_is_exact():
    rng = np.random.default_rng(0)
    shape = (12, 13, 14)
    balls = np.column_stack([rng.uniform(0, 12, (30, 3)), rng.uniform(0.3, 4, 30)]).astype(np.float32)
    deep = np.full(shape, 5, np.float32)
    slow = np.zeros(shape, np.float32)
    for place in np.ndindex(shape):
        inside = ((balls[:, :3] - place) ** 2).sum(1) <= balls[:, 3] ** 2
        slow[place] = balls[inside, 3].max() if inside.any() else 0
    np.testing.assert_array_equal(paint([balls], deep), slow)


def test_local_thickness_of_a_mask_agrees_with_painting_every_ball():
    # Where the grey holds nothing but the mask, the result may differ from the classical one by a mask's own error.
    rng = np.random.default_rng(1)
    field = ndimage.gaussian_filter(rng.standard_normal((28, 28, 28)), 3, mode="wrap")
    domain = field > 0.3 * field.std()
    radius = ndimage.distance_transform_edt(domain)
    slow = np.zeros(domain.shape)
    z, y, x = np.indices(domain.shape)
    for place in np.argwhere(domain):
        r = radius[tuple(place)]
        inside = (z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2 < r**2
        slow[inside] = np.maximum(slow[inside], r)
    found = local_thickness(domain.astype(np.float32), domain, 0.5)
    inner = (slice(4, -4),) * 3
    kept = domain[inner]
    difference = found[inner][kept].mean() - 2 * slow[inner][kept].mean()
    assert -1.2 < difference < 0.2


def test_the_edge_of_the_region_is_no_surface(shapes):
    # The pores of a lattice of struts, 16 voxels apart: the separation of a window equals that of the whole.
    shape = (48, 48, 48)
    z, y, x = shapes.lattice(shape)
    wave = np.cos(2 * np.pi * z / 16) + np.cos(2 * np.pi * y / 16) + np.cos(2 * np.pi * x / 16)
    grey = (wave / 3).astype(np.float32)
    level = 0.35
    whole = local_thickness(grey, grey < level, level)
    period = whole[16:32, 16:32, 16:32]
    window = whole[12:28, 9:25, 14:30]
    assert window[window > 0].mean() == pytest.approx(period[period > 0].mean(), rel=0.01)
    walled = np.zeros(shape, bool)
    walled[12:28, 9:25, 14:30] = True
    cut = local_thickness(grey, (grey < level) & walled, level)
    assert cut[cut > 0].mean() < 0.9 * period[period > 0].mean()


def test_a_phase_without_a_surface_has_no_thickness():
    assert np.isinf(local_thickness(np.ones((4, 4, 4), np.float32), np.ones((4, 4, 4), bool), 0.5)).all()


def test_discs_lie_on_the_surface_of_a_ball(shapes):
    grey = ndimage.gaussian_filter(shapes.rendered(shapes.ball(16.4, centre=(0.2, -0.3, 0.4)), SHAPE), 0.7)
    surface = find_surface(grey, grey >= 0.5, 0.5, blur_voxels=np.sqrt(0.49 + 1 / 12))
    outward = surface.position - (np.array(SHAPE) - 1) / 2 - (0.2, -0.3, 0.4)
    radius = np.linalg.norm(outward, axis=1)
    assert radius.mean() == pytest.approx(8.2, abs=0.02)
    assert radius.std() < 0.05
    cosine = -(outward * surface.normal).sum(1) / radius
    assert cosine.min() > 0.98


def test_masks_of_another_shape_are_refused():
    with pytest.raises(
        ValueError, match=r"grey, domain: expected two volumes of one shape, got \(4, 4, 4\) and \(4, 4, 5\)"
    ):
        find_surface(np.zeros((4, 4, 4), np.float32), np.zeros((4, 4, 5), bool), 0.5)


def test_thinning_keeps_small_balls_and_hardly_changes_what_large_ones_cover():
    rng = np.random.default_rng(0)
    sheet = np.stack(np.meshgrid([30.0], np.arange(20.0, 40.0), np.arange(20.0, 40.0), indexing="ij"), -1).reshape(
        -1, 3
    )
    large = np.column_stack([sheet, 14 + 0.1 * rng.standard_normal(len(sheet))]).astype(np.float32)
    small = np.column_stack([rng.uniform(0, 60, (50, 3)), rng.uniform(0.5, 6, 50)]).astype(np.float32)
    kept = thinned(np.concatenate([large, small]))
    assert len(kept) <= len(large) / 3 + len(small)
    assert {tuple(ball) for ball in small} <= {tuple(ball) for ball in kept}
    deep = np.full((60, 60, 60), 5, np.float32)
    everything, fewer = paint([large], deep), paint([kept[kept[:, 3] > 10]], deep)
    middle = (slice(None), slice(23, 37), slice(23, 37))
    assert np.count_nonzero((everything > 0)[middle] & (fewer == 0)[middle]) < 0.02 * np.count_nonzero(
        everything[middle]
    )
    assert fewer.max() == everything.max()


def test_size_does_not_matter_relatively(shapes):
    # The same rod twice as large takes the path of large balls.
    means = []
    for factor in (1, 3):
        shape = (10, 16 * factor, 16 * factor)
        grey = ndimage.gaussian_filter(shapes.rendered(shapes.rod(10.0 * factor, (1, 0, 0)), shape), 0.7)
        local = local_thickness(grey, grey >= 0.5, 0.5, blur_voxels=np.sqrt(0.49 + 1 / 12))
        means.append(local[local > 0].mean() / factor)
    assert means == pytest.approx([10, 10], abs=0.15)


def test_a_rough_surface_with_a_large_blur_ends():
    """The correction for blur must not throw the discs of a noisy surface out of the array."""
    rng = np.random.default_rng(0)
    grey = rng.normal(size=(24, 24, 24)).astype(np.float32)
    surface = find_surface(grey, grey > 0, 0.0, blur_voxels=6.0)
    assert np.isfinite(surface.normal).all()
    assert surface.position.min() >= -2
    assert surface.position.max() <= 25
