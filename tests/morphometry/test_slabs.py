"""No result depends on where a volume is cut, nor on whether its arrays lie in memory or on a disk."""

import cc3d
import edt
import numpy as np
import pytest
from scipy import ndimage

from xrmflow.arrays import InMemory
from xrmflow.morphometry import envelope, lacunae, pores, slabs
from xrmflow.morphometry.components import find_components
from xrmflow.morphometry.indices import measure
from xrmflow.morphometry.masks import dilated, eroded
from xrmflow.morphometry.moments import moments
from xrmflow.morphometry.ranks import median, percentiles
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.segmentation import Recipe, segment
from xrmflow.morphometry.segmented import Options, Segmented
from xrmflow.morphometry.slabs import WHOLE, Needs, Slab, Workspace
from xrmflow.morphometry.thickness import thickness_map

SHAPE = (40, 44, 48)
SCALE = Scale(0.002, True)
CUTS = (1, 8, 16, 37)


def cut(slices, shape=SHAPE):
    return Workspace(slab_voxels=slices * shape[1] * shape[2])


@pytest.fixture(scope="module")
def porous(shapes):
    """A tube of bone with pores of many sizes, some of them cut by the ends, in blur and noise."""
    rng = np.random.default_rng(0)
    grey = shapes.rendered(shapes.tube(11.0, radius=14), SHAPE)
    for n, (size, z) in enumerate(zip(rng.uniform(4.5, 6.5, 12), rng.uniform(-20, 20, 12), strict=True)):
        place = (z, 14 * np.sin(n / 2), 14 * np.cos(n / 2))
        grey *= 1 - shapes.rendered(shapes.ball(size, centre=place), SHAPE)
    for size, angle in ((4.0, 4.0), (9.0, 5.3)):
        hole = shapes.rod(size, centre=(0, 14 * np.sin(angle), 14 * np.cos(angle)))
        grey *= 1 - shapes.rendered(hole, SHAPE) * (np.abs(np.arange(SHAPE[0]) - 20) < 17)[:, None, None]
    noise = rng.standard_normal(SHAPE).astype(np.float32)
    return (0.2 + 1.8 * ndimage.gaussian_filter(grey, 0.6) + 0.25 * noise).astype(np.float32)


@pytest.mark.parametrize("slices", CUTS)
@pytest.mark.parametrize("method", ["midpoint", "otsu"])
def test_a_segmentation_does_not_depend_on_slabs(porous, slices, method):
    recipe = Recipe(method=method, lacuna_most_um3=1200.0, canal_width_um=14.0)
    whole = segment(porous, scale=SCALE, recipe=recipe)
    found = segment(porous, scale=SCALE, recipe=recipe, work=cut(slices))
    np.testing.assert_array_equal(found.labels, whole.labels)
    np.testing.assert_array_equal(found.context, whole.context)
    assert found.record == whole.record
    assert set(np.unique(whole.labels)) == {0, 1, 2, 3, 4}
    counts = whole.record["components"]
    assert min(counts[name] for name in ("too_large", "marrow", "lacunae")) >= 1


class Watched(np.ndarray):
    """A whole volume that notes the most voxels that lie between those which are looked at together."""

    most = 0

    def __getitem__(self, selection):
        if self.base is None and self.ndim == 3:
            given = selection if isinstance(selection, tuple) else (selection,)
            spans = [np.ptp(np.arange(n)[part]) + 1 for n, part in zip(self.shape, given, strict=False)]
            Watched.most = max(Watched.most, np.prod([*spans, *self.shape[len(given) :]]))
        return super().__getitem__(selection)


class Watching(InMemory):
    """Makes arrays that note what is looked at."""

    def array(self, shape, dtype):
        made = Watched(shape, dtype)
        made[...] = 0
        return made


def test_nothing_looks_at_a_whole_volume_at_a_time(porous, monkeypatch):
    """Mapped from a disk, it would be in memory as a whole until the next slab."""
    monkeypatch.setattr(Watched, "most", 0)
    monkeypatch.setattr(slabs, "CHUNK", 8)
    monkeypatch.setattr(pores, "TILE", 8)
    segment(porous, scale=SCALE, recipe=Recipe(canal_width_um=14.0), work=Workspace(Watching(), slab_voxels=1))
    assert 0 < Watched.most < np.prod(SHAPE) / 2


def test_a_cut_region_does_not_depend_on_slabs(porous):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, 10:] = 200
    recipe = Recipe(voi_start=3, voi_stop=21, voi="whole")
    whole = segment(porous, scale=SCALE, recipe=recipe, mask=mask)
    found = segment(porous, scale=SCALE, recipe=recipe, mask=mask, work=cut(7))
    np.testing.assert_array_equal(found.labels, whole.labels)
    assert found.record == whole.record
    assert whole.record["voi_slices"] == [3, 21]


@pytest.mark.parametrize("slices", CUTS)
def test_measurements_do_not_depend_on_slabs(porous, measured, slices):
    """Every row of every table, to the last bit; with cortex and trabeculae told apart, in a region that is cut."""
    result, whole = measured
    assert indices(porous, result, cut(slices)) == whole
    found = {one["symbol"]: one["value"] for one in whole.indices}
    assert None not in (found[symbol] for symbol in ("BV/TV.grey", "Tb.Th", "Tb.Sp", "Ct.Th", "Lc.V.grey", "mu"))
    assert len(whole.lacunae) > 5


@pytest.fixture(scope="module")
def measured(porous):
    result = segment(porous, scale=SCALE, recipe=Recipe(voi_start=2, voi_stop=39, lacuna_most_um3=1200.0))
    return result, indices(porous, result, WHOLE)


def test_lacunae_do_not_depend_on_blocks_of_rows(porous, measured, monkeypatch):
    monkeypatch.setattr(lacunae, "ROWS", 7)
    result, whole = measured
    assert indices(porous, result, cut(8)).lacunae == whole.lacunae


def indices(volume, result, work):
    data = Segmented(volume, result.labels, result.context, SCALE, result.record, work)
    return measure(data, options=Options(trabecula_um=6.0), first_voxel_mm=(0.0, 0.0, 0.0))


@pytest.mark.parametrize("slices", CUTS)
def test_large_balls_do_not_depend_on_slabs(shapes, slices):
    """Balls of more than twelve voxels are thinned in cells that slabs cut through."""
    shape = (64, 48, 48)
    grey = shapes.rendered(shapes.ball(41.0, centre=(3.2, 0.4, 0.1)), shape)
    grey = np.maximum(grey, shapes.rendered(shapes.rod(8.0, (1, 0.3, 0.2)), shape))
    whole, found = (
        thickness_map(grey, lambda z: grey[z] >= 0.5, 0.5, work=work) for work in (WHOLE, cut(slices, shape))
    )
    assert found.box == whole.box
    np.testing.assert_array_equal(found.values, whole.values)
    assert 39 < whole.values.max() < 42


@pytest.mark.parametrize("tile", [5, 128])
def test_closing_marrow_does_not_depend_on_tiles(monkeypatch, tile):
    monkeypatch.setattr(envelope, "TILE", tile)
    marrow = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 2) > 0.05
    inside = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(SHAPE), 8) > 0
    closed = edt.edt(edt.edt(~marrow) <= 2.5) > 2.5
    parts = cc3d.connected_components(inside & ~(closed | marrow), connectivity=6)
    outside = ~np.pad(inside, ((0, 0), (1, 1), (1, 1)))
    beside = outside[:, 2:, 1:-1] | outside[:, :-2, 1:-1] | outside[:, 1:-1, 2:] | outside[:, 1:-1, :-2]
    truth = np.isin(parts, np.unique(parts[beside])) & (parts > 0)
    found = envelope.cortex_of(lambda z: marrow[z], lambda z: inside[z], SHAPE, trabecula_voxels=5.0, work=cut(9))
    np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize("tile", [5, 128])
def test_large_pores_are_told_by_the_largest_ball_inside(shapes, monkeypatch, tile):
    """As the distance transform of the whole tells; the rods go on beyond the ends of the volume."""
    monkeypatch.setattr(pores, "TILE", tile)
    labels = np.zeros(SHAPE, np.int32)
    for n, (size, x) in enumerate(((5.0, -17), (9.0, -6), (13.0, 12)), start=1):
        labels[shapes.rendered(shapes.rod(size, centre=(0, 0, x)), SHAPE) > 0.5] = n
    truth = [2 * edt.edt(labels == n, black_border=False).max() for n in (1, 2, 3)]
    for width in (truth[0], truth[1] - 0.01, truth[1], truth[2]):
        found = pores._wider(labels, np.array([False, True, True, True]), width, cut(16))
        assert found.tolist() == [False, *(one > width for one in truth)]


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("slices", CUTS)
def test_components_are_those_of_the_whole_in_raster_order(connectivity, slices):
    mask = np.random.default_rng(0).random((40, 12, 13)) < (0.3 if connectivity == 6 else 0.09)
    truth = cc3d.connected_components(mask, connectivity=connectivity)
    work = cut(slices, mask.shape)
    found = find_components(lambda z: mask[z], mask.shape, connectivity=connectivity, work=work)
    np.testing.assert_array_equal(found[slice(None)], truth)
    np.testing.assert_array_equal(found.sizes[1:], np.bincount(truth.ravel())[1:])
    large = found.sizes > 3
    np.testing.assert_array_equal(found.having(large, slice(5, 9)), large[truth[5:9]])


def test_nothing_has_no_components():
    found = find_components(lambda z: np.zeros(SHAPE, bool)[z], SHAPE, connectivity=6, work=cut(8))
    assert found.sizes.tolist() == [0]


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_medians_and_percentiles_are_exact(count):
    rng = np.random.default_rng(count)
    values = (rng.standard_normal(3 * count) * 10.0 ** rng.integers(-3, 4, 3 * count)).astype(np.float32)
    values[::5] = values[0]
    mask = rng.random(values.size) < 0.7
    mask[0] = True

    def parts():
        yield from zip(np.array_split(values, 3), np.array_split(mask, 3), strict=True)

    assert median(parts) == np.median(values[mask])
    assert median(parts, least=values.size + 1) is None
    percents = (0.01, 30, 50, 99.99)
    np.testing.assert_allclose(percentiles(parts, percents), np.percentile(values[mask], percents), rtol=1e-6)


@pytest.mark.parametrize("slices", CUTS)
def test_moments_are_sums_whatever_the_slabs(slices):
    labels = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.int32)
    found = moments(labels, np.array([True, True, False, True]), work=cut(slices))
    z, y, x = np.nonzero(labels == 3)
    assert found.sums[3].tolist() == [
        z.size,
        *(int(t.sum()) for t in (z, y, x, z * z, y * y, x * x, z * y, z * x, y * x)),
    ]
    assert not found.sums[[0, 2]].any()
    assert found.last[3] == z.max()
    truth = np.sqrt(5 * (np.linalg.eigvalsh(np.cov([z, y, x], bias=True))[::-1] + 1 / 12))
    np.testing.assert_allclose(found.semi_axes(np.array([3]))[0], truth, rtol=1e-12)


def test_masks_grow_and_shrink_by_face_steps():
    mask = np.random.default_rng(0).random((9, 10, 11)) < 0.5
    for steps in (0, 1, 2):
        truth = ndimage.binary_erosion(mask, iterations=steps, border_value=1) if steps else mask
        np.testing.assert_array_equal(eroded(mask, steps), truth)
        truth = ndimage.binary_dilation(mask, iterations=steps) if steps else mask
        np.testing.assert_array_equal(dilated(mask, steps), truth)


def test_slabs_know_what_lies_around_them():
    slab = Slab(slice(4, 6), 7)
    assert (slab.around(3), slab.inner(3)) == (slice(1, 7), slice(3, 5))
    assert [slab.core for slab in cut(16).slabs(SHAPE)] == [slice(0, 16), slice(16, 32), slice(32, 40)]
    assert [slab.core for slab in Workspace(slab_voxels=1).slabs((2, 9, 9))] == [slice(0, 1), slice(1, 2)]
    assert WHOLE.cores((3, 8, 8)) == [slice(0, 3)]


def test_slabs_take_what_the_volume_leaves():
    needs, shape = Needs(volume_bytes=10, slab_bytes=50, halo_bytes=100), (20, 1000, 1000)
    assert needs.slab_voxels(shape, 0.5, on_disk=True) == pytest.approx(8e6)
    assert needs.slab_voxels(shape, 0.5, on_disk=False) == pytest.approx(4e6)
    assert needs.least_gb(shape) == pytest.approx(0.15)
