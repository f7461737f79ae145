from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from xrmflow.metrics.labels import BONE, CANAL, LACUNA, MARROW, OUTSIDE
from xrmflow.morphometry.indices import measure
from xrmflow.morphometry.lacunae import measure_lacunae
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.segmentation import Recipe, drop_specks, segment
from xrmflow.morphometry.segmented import Options, Segmented

SHAPE = (40, 64, 64)
SCALE = Scale(0.002, True)
SEMI_AXES = (5.0, 3.2, 2.2)
PLACES = ((-10, 21, 0), (0, 0, 21.5), (8, -21, 2), (-6, 3, -21), (10, 15, 15), (2, -15, -15))
BONE_GREY, SOFT_GREY = 2.0, 0.2


@pytest.fixture(scope="session")
def phantom(shapes):
    """A tube of bone with lacunae, a canal along its wall and marrow: grey (1/mm), shares of lacunae."""
    depth = shapes.tube(15.0, radius=21.5)
    bone = shapes.rendered(depth, SHAPE)
    pores = np.zeros(SHAPE, np.float32)
    turns = Rotation.random(len(PLACES), rng=np.random.default_rng(0)).as_matrix()
    for place, turn in zip(PLACES, turns, strict=True):
        pores += shapes.rendered(shapes.ellipsoid(SEMI_AXES, place, turn), SHAPE)
    canal = shapes.rendered(shapes.rod(6.0, centre=(0, 15, -15)), SHAPE)
    grey = SOFT_GREY + (BONE_GREY - SOFT_GREY) * bone * (1 - pores) * (1 - canal)
    return grey.astype(np.float32), pores


def noisy(grey, sigma=0.12, blur=0.6):
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(grey.shape).astype(np.float32) * sigma * (BONE_GREY - SOFT_GREY)
    return ndimage.gaussian_filter(grey, blur) + noise


def table(volume, result, scale=SCALE, **options):
    data = Segmented(volume, result.labels, result.context, scale, result.record)
    found = measure(data, options=Options(**options), first_voxel_mm=(0.0, 0.0, 0.0))
    return {row["symbol"]: row for row in found.indices}, found


def test_every_part_is_found_in_blur_and_noise(phantom):
    grey, _ = phantom
    found = segment(noisy(grey), scale=SCALE, recipe=Recipe())
    counts = found.record["components"]
    assert counts["lacunae"] == len(PLACES)
    assert counts["too_large"] + counts["too_elongated"] == 1
    assert counts["marrow"] == 1
    middle = [tuple(np.round((np.array(SHAPE) - 1) / 2 + place).astype(int)) for place in PLACES]
    assert {int(found.labels[place]) for place in middle} == {LACUNA}
    assert found.labels[20, 32 + 15, 32 - 15] == CANAL
    assert found.labels[20, 32, 32] == MARROW
    assert found.labels[20, 2, 2] == OUTSIDE


def test_numbers_are_those_of_the_phantom(phantom):
    grey, _ = phantom
    volume = noisy(grey)
    rows, tables = table(volume, segment(volume, scale=SCALE, recipe=Recipe()))
    total = np.pi * 29.0**2 * SHAPE[0]
    bone = ((grey - SOFT_GREY) / (BONE_GREY - SOFT_GREY)).sum()
    assert rows["TV"]["value"] == pytest.approx(total * SCALE.voxel_mm**3, rel=0.01)
    assert rows["BV/TV"]["value"] == pytest.approx(bone / total, rel=0.03)
    assert rows["BV/TV.grey"]["value"] == pytest.approx(bone / total, rel=0.01)
    assert rows["BA/TA"]["value"] == pytest.approx(rows["BV/TV"]["value"], rel=1e-3)
    assert rows["Lc.N"]["value"] == len(PLACES)
    truth = 4 / 3 * np.pi * np.prod(SEMI_AXES) * SCALE.um**3
    assert rows["Lc.V.grey"]["value"] == pytest.approx(truth, rel=0.06)
    assert rows["Lc.V"]["value"] < 0.9 * truth
    assert rows["Tb.Th"]["value"] == pytest.approx(15.0 * SCALE.voxel_mm, rel=0.03)
    assert rows["Tb.Sp"]["value"] == pytest.approx(28.0 * SCALE.voxel_mm, rel=0.03)
    assert rows["mu"]["value"] == pytest.approx(10 * BONE_GREY, rel=0.01)
    assert rows["Ca.V"]["value"] > 0
    assert {row["compartment"] for row in tables.indices} == {"periosteal"}
    assert [one["touching_border"] for one in tables.lacunae] == [False] * len(PLACES)


def test_lacunae_are_where_they_were_put(phantom):
    grey, _ = phantom
    volume = noisy(grey)
    _, tables = table(volume, segment(volume, scale=SCALE, recipe=Recipe()))
    truth = (np.array(PLACES) + (np.array(SHAPE) - 1) / 2)[:, ::-1] * SCALE.voxel_mm
    found = np.array([[one["x_mm"], one["y_mm"], one["z_mm"]] for one in tables.lacunae])
    distance = np.linalg.norm(truth[:, None] - found, axis=-1).min(1)
    assert distance.max() < 0.5 * SCALE.voxel_mm


def test_the_voxel_size_scales_the_numbers(phantom):
    grey, _ = phantom
    volume = noisy(grey)
    recipe = Recipe()
    one, _ = table(volume, segment(volume, scale=Scale(0.002, True), recipe=recipe))
    lengths = {name: 4 * getattr(recipe, name) for name in ("closing_um", "canal_width_um")}
    volumes = ("lacuna_least_um3", "lacuna_most_um3", "least_bone_um3")
    wide = replace(recipe, **lengths, **{name: 64 * getattr(recipe, name) for name in volumes})
    coarse = Scale(0.008, True)
    four, _ = table(volume, segment(volume, scale=coarse, recipe=wide), coarse)
    for symbol, power in (("Tb.Th", 1), ("Tb.Sp", 1), ("TV", 3), ("Lc.V", 3), ("BV/TV", 0), ("Lc.N/BV", -3), ("mu", 0)):
        assert four[symbol]["value"] == pytest.approx(4**power * one[symbol]["value"], rel=1e-6), symbol


@pytest.mark.parametrize("semi_axes", [(6, 3, 2), (7, 5, 4)])
def test_axes_and_volumes_of_ellipsoids(shapes, semi_axes):
    shape = (32, 32, 32)
    errors, volumes = [], []
    for seed, turn in enumerate(Rotation.random(6, rng=np.random.default_rng(2)).as_matrix()):
        centre = np.random.default_rng(seed).uniform(-0.5, 0.5, 3)
        share = shapes.rendered(shapes.ellipsoid(semi_axes, centre, turn), shape)
        labels = np.where(share > 0.5, LACUNA, BONE).astype(np.uint8)
        (one,) = measure_lacunae(ndimage.gaussian_filter(1 - share, 1.0), labels, soft=0.0, blur_voxels=1.0)
        errors.append(one.semi_axes / semi_axes - 1)
        volumes.append(one.grey_voxels / (4 / 3 * np.pi * np.prod(semi_axes)) - 1)
        np.testing.assert_allclose(one.centre, centre + 15.5, atol=0.15)
    assert np.abs(np.mean(errors, axis=0)).max() < 0.05
    assert abs(np.mean(volumes)) < 0.01
    assert np.std(volumes) < 0.02


def test_gates_reject_and_count(phantom):
    grey, _ = phantom
    volume = noisy(grey)
    volume_um3 = 4 / 3 * np.pi * np.prod(SEMI_AXES) * SCALE.um**3
    small = segment(volume, scale=SCALE, recipe=Recipe(lacuna_least_um3=1.5 * volume_um3, lacuna_most_um3=1e4))
    assert small.record["components"]["lacunae"] == 0
    assert small.record["components"]["too_small"] >= len(PLACES)
    assert not (small.labels == LACUNA).any()
    large = segment(volume, scale=SCALE, recipe=Recipe(lacuna_least_um3=1, lacuna_most_um3=0.2 * volume_um3))
    assert large.record["components"]["too_large"] == len(PLACES) + 1
    long = segment(volume, scale=SCALE, recipe=Recipe(lacuna_elongation=1.0))
    assert long.record["components"]["too_elongated"] == len(PLACES)
    none = segment(volume, scale=SCALE, recipe=Recipe(lacunae=False))
    assert set(np.unique(none.labels)) == {OUTSIDE, MARROW, BONE}


def test_a_lacuna_at_the_end_of_the_volume_is_marked_cut(phantom):
    grey, _ = phantom
    volume = noisy(grey)[10:]
    rows, tables = table(volume, segment(volume, scale=SCALE, recipe=Recipe()))
    assert sum(one["touching_border"] for one in tables.lacunae) == 1
    assert rows["Lc.N"]["value"] == len(PLACES) - 1
    assert "left out: 1" in rows["Lc.N"]["note"]


def test_slices_and_masks_cut_the_region_but_not_what_is_seen(phantom):
    grey, _ = phantom
    volume = noisy(grey)
    whole, _ = table(volume, segment(volume, scale=SCALE, recipe=Recipe()))
    cut = segment(volume, scale=SCALE, recipe=Recipe(voi_start=10, voi_stop=24))
    assert np.flatnonzero((cut.labels > 0).any(axis=(1, 2)))[[0, -1]].tolist() == [10, 23]
    assert cut.record["voi_slices"] == [10, 24]
    rows, tables = table(volume, cut)
    assert [one["z"] for one in tables.slices] == list(range(10, 24))
    assert rows["Tb.Sp"]["value"] == pytest.approx(whole["Tb.Sp"]["value"], rel=0.01)
    assert rows["TV"]["compartment"] == "periosteal, cut"
    half = np.zeros(SHAPE, bool)
    half[:, 32:] = True
    masked, _ = table(volume, segment(volume, scale=SCALE, recipe=Recipe(), mask=half))
    assert masked["Tb.Th"]["value"] == pytest.approx(whole["Tb.Th"]["value"], rel=0.01)
    assert masked["TV"]["value"] == pytest.approx(whole["TV"]["value"] / 2, rel=0.02)


def test_the_whole_volume_can_be_the_region(phantom):
    grey, _ = phantom
    found = segment(noisy(grey), scale=SCALE, recipe=Recipe(voi="whole"))
    assert (found.labels > 0).all()
    assert any("air around the sample included" in note["text"] for note in found.record["notes"])


def test_thresholds_in_every_unit_agree(phantom):
    volume = noisy(phantom[0])
    line = {"density_slope_mgha_per_cm2": 60.0, "density_intercept_mgha_per_cm3": -100.0}
    found = [
        segment(volume, scale=SCALE, recipe=Recipe(method=method, threshold=value, **line))
        for method, value in (
            ("grey", 1.1),
            ("attenuation_per_mm", 1.1),
            ("attenuation_per_cm", 11.0),
            ("density_mgha_per_cm3", 560.0),
        )
    ]
    for one in found:
        assert one.record["threshold_per_mm"] == pytest.approx(1.1)
        assert one.record["threshold_per_cm"] == pytest.approx(11.0)
        assert one.record["threshold_mgha_cm3"] == pytest.approx(560.0)
        np.testing.assert_array_equal(one.labels, found[0].labels)
    rows, _ = table(volume, found[0])
    assert rows["TMD"]["value"] == pytest.approx(60 * rows["mu"]["value"] - 100)
    assert rows["TMD"]["unit"] == "mgHA/cm3"


def test_density_without_a_line_says_uncalibrated(phantom):
    volume = noisy(phantom[0])
    rows, _ = table(volume, segment(volume, scale=SCALE, recipe=Recipe()), thickness=False)
    assert rows["TMD"]["value"] is None
    assert rows["TMD"]["note"] == "skipped: uncalibrated, no density calibration line"
    assert rows["Tb.Th"]["note"] == "skipped: switched off in the settings"


def test_without_a_voxel_size_everything_is_in_voxels(phantom):
    volume = noisy(phantom[0])
    scale = Scale(1.0, False)
    result = segment(volume, scale=scale, recipe=Recipe(method="otsu"))
    rows, tables = table(volume, result, scale)
    assert {rows[s]["unit"] for s in ("TV", "Tb.Th", "Lc.V", "Lc.N/BV", "mu")} == {
        "voxel3",
        "voxel",
        "1/voxel3",
        "1/voxel",
    }
    assert all(
        "uncalibrated" in rows[s]["note"]
        for s in ("TV", "BV/TV", "BA/TA", "Tb.Th", "Lc.N", "Lc.V", "Lc.TV/BV", "Ca.V", "mu")
    )
    assert rows["BV/TV"]["name"] == "mineralised fraction"
    assert rows["Tb.Th"]["value"] == pytest.approx(15, rel=0.03)
    assert tables.slices[0]["z_mm"] is None
    assert tables.slices[0]["area_unit"] == "voxel2"
    assert tables.lacunae[0]["volume_um3"] is None
    assert tables.lacunae[0]["volume_voxels"] > 50
    assert "threshold_per_voxel" in result.record
    texts = [note["text"] for note in result.record["notes"] if note["severity"] == "warning"]
    assert any("Otsu" in text for text in texts)
    assert any("uncalibrated" in text for text in texts)


def test_two_slices_are_measured_as_slices(phantom):
    volume = noisy(phantom[0])[18:20]
    scale = Scale(1.0, False)
    rows, tables = table(volume, segment(volume, scale=scale, recipe=Recipe()), scale)
    reason = "skipped: 2 slices, at least 8 are needed in three dimensions"
    assert [rows[s]["value"] for s in ("Tb.Th", "Tb.Sp", "Lc.N")] == [None] * 3
    assert {rows[s]["note"] for s in ("Tb.Th", "Tb.Sp", "Lc.N")} == {f"uncalibrated; {reason}"}
    assert rows["BA/TA.1"]["name"] == "mineralised fraction of slice 1"
    assert rows["BA/TA.1"]["value"] == tables.slices[1]["BA_TA"]
    assert tables.lacunae == []


def test_thin_bone_is_warned_of(shapes):
    volume = 0.1 + ndimage.gaussian_filter(shapes.rendered(shapes.tube(2.4, radius=12), (12, 40, 40)), 0.3)
    rows, _ = table(volume, segment(volume, scale=SCALE, recipe=Recipe(sigma_voxels=0.0, least_bone_um3=0)))
    assert "poorly resolved" in rows["Tb.Th"]["note"]


def test_two_tissues_are_no_partial_volumes(shapes):
    # Dentine inside enamel: a third of the hard tissue is half as grey, and not half empty.
    depth = shapes.rendered(shapes.rod(40), (12, 64, 64)) + shapes.rendered(shapes.rod(30), (12, 64, 64))
    volume = 0.1 + 0.5 * (depth > 0) + np.where(depth > 1, 0.0, 0.5 * (depth > 0))
    volume = ndimage.gaussian_filter(volume, 0.5)
    rows, _ = table(volume, segment(volume, scale=SCALE, recipe=Recipe(method="grey", threshold=0.4)))
    assert rows["BV/TV.grey"]["value"] is None
    assert "differs in grey from the rest" in rows["BV/TV.grey"]["note"]
    assert rows["BV/TV"]["value"] == pytest.approx(1.0, abs=0.01)


def test_cortex_and_trabeculae_get_rows_of_their_own(phantom, shapes):
    strut = shapes.rendered(shapes.plate(5.0, (0, 1, 0)), SHAPE) * shapes.rendered(shapes.rod(34), SHAPE)
    grey, _ = phantom
    volume = noisy(np.maximum(grey, SOFT_GREY + (BONE_GREY - SOFT_GREY) * strut).astype(np.float32), sigma=0.05)
    result = segment(volume, scale=SCALE, recipe=Recipe())
    data = Segmented(volume, result.labels, result.context, SCALE, result.record)
    rows = measure(data, options=Options(trabecula_um=16.0), first_voxel_mm=(0.0, 0.0, 0.0)).indices
    found = {(one["compartment"], one["symbol"]): one["value"] for one in rows}
    assert len(found) == len(rows)
    assert found["cortical", "Ct.Th"] == pytest.approx(15 * SCALE.voxel_mm, rel=0.03)
    assert found["trabecular", "Tb.Th"] == pytest.approx(5 * SCALE.voxel_mm, rel=0.1)
    assert found["trabecular", "BV/TV"] == pytest.approx(5 * 28 / (np.pi * 14**2), rel=0.15)
    assert found["cortical", "Tt.Ar"] == pytest.approx(np.pi * (29 * SCALE.voxel_mm) ** 2, rel=0.01)
    assert found["cortical", "Ct.Ar/Tt.Ar"] == pytest.approx(1 - (14 / 29) ** 2, rel=0.05)


def test_specks_are_dropped_and_counted():
    bone = np.zeros((6, 6, 6), bool)
    bone[:4, :4, :4] = True
    bone[5, 5, 5] = bone[0, 5, 5] = True
    kept, dropped = drop_specks(lambda z: bone[z], bone.shape, 2)
    assert dropped == 2
    assert np.count_nonzero(kept) == 64


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(method="grey", threshold=9.0), "expected some bone above 9 1/mm, got none"),
        (Recipe(method="grey", threshold=-9.0), "bone: expected a mask with and without bone, got 100% bone"),
        (Recipe(method="grey"), "expected a number for threshold_method grey, got none"),
        (Recipe(method="density_mgha_per_cm3", threshold=400.0), "expected density_slope_mgha_per_cm2 and"),
        (Recipe(voi_start=4, voi_stop=99), "expected 0 <= start < stop <= 12, got start 4, stop 99"),
    ],
)
def test_what_cannot_be_is_refused(shapes, recipe, words):
    volume = shapes.rendered(shapes.tube(6, radius=10), (12, 40, 40))
    with pytest.raises(ValueError, match=words):
        segment(volume, scale=SCALE, recipe=recipe)


def test_attenuation_per_length_needs_a_voxel_size(shapes):
    volume = shapes.rendered(shapes.tube(6, radius=10), (12, 40, 40))
    with pytest.raises(
        ValueError, match="expected midpoint, otsu or grey for data without a voxel size, got attenuation_per_cm"
    ):
        segment(volume, scale=Scale(1.0, False), recipe=Recipe(method="attenuation_per_cm", threshold=4.0))


def test_a_mask_of_another_shape_is_refused(shapes):
    volume = shapes.rendered(shapes.tube(6, radius=10), (12, 40, 40))
    with pytest.raises(
        ValueError, match=r"voi mask: expected the shape of the volume \(12, 40, 40\), got \(12, 40, 41\)"
    ):
        segment(volume, scale=SCALE, recipe=Recipe(), mask=np.ones((12, 40, 41), bool))


def test_solid_bone_has_no_separation(shapes):
    volume = 0.1 + ndimage.gaussian_filter(shapes.rendered(shapes.rod(24), (12, 40, 40)), 0.5)
    rows, _ = table(volume, segment(volume, scale=SCALE, recipe=Recipe()))
    assert rows["BV/TV"]["value"] == pytest.approx(1.0, abs=0.01)
    assert rows["Tb.Th"]["value"] == pytest.approx(24 * SCALE.voxel_mm, rel=0.02)
    assert rows["Tb.Sp"]["value"] is None
    assert rows["Tb.Sp"]["note"] == "skipped: nothing to measure"
    assert rows["Lc.N"]["value"] == 0
    assert rows["Lc.V"]["value"] is None


def test_a_ball_has_its_volume_and_diameter(shapes):
    volume = ndimage.gaussian_filter(shapes.rendered(shapes.ball(20.0, centre=(0.3, 0.1, -0.2)), (32, 40, 40)), 0.5)
    rows, _ = table(volume, segment(volume, scale=SCALE, recipe=Recipe(voi="whole")))
    truth = np.pi / 6 * 20.0**3
    assert rows["BV"]["value"] == pytest.approx(truth * SCALE.voxel_mm**3, rel=0.03)
    assert rows["BV/TV.grey"]["value"] == pytest.approx(truth / volume.size, rel=0.01)
    assert rows["Tb.Th"]["value"] == pytest.approx(20 * SCALE.voxel_mm, rel=0.02)
