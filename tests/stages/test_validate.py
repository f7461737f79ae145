import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from xrmflow.config.validate import ValidateSection
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.documents import read_document, write_document
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import create_volume, open_volume
from xrmflow.io.tables import number, write_table
from xrmflow.manage.simulate import simulate
from xrmflow.phantom.comparison import cubic_upsampled
from xrmflow.stages import validate

PARAMS = ValidateSection(filter_slices=4, border_slices=5, erosion_voxels=1)
ORIGIN = provenance(stage="test")


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Path:
    return simulate(tmp_path_factory.mktemp("scan"), preset="tiny", seed=2)[0].truth / "truth.json"


def store(path: Path, values: np.ndarray, voxel_mm: float, quantity="attenuation_per_mm") -> Path:
    grid, inside = VolumeGrid(values.shape, voxel_mm), np.flatnonzero((values > 0).any(axis=(1, 2)))
    record = {"segmentation": {"voi_slices": [int(inside[0]), int(inside[-1]) + 1]}} if quantity == "label" else {}
    with create_volume(path, quantity=quantity, grid=grid, calibrated=True, provenance=ORIGIN, **record) as out:
        out["data"] = values
    return path


@pytest.fixture
def results(truth, tmp_path):
    """Results of a good run: the reference with noise, with little noise, and the object itself, slightly blurred."""
    folder = tmp_path / "results" / "mouse"
    known, record = open_volume(truth.parent / "truth.zarr"), read_document(truth, "truth")
    fine = open_volume(truth.parent / "truth_fine.zarr")
    reference = np.asarray(known.arrays["fdk_reference"][...])
    rng, voxel = np.random.default_rng(0), known.grid.voxel_mm
    noise = rng.normal(size=reference.shape).astype(np.float32)
    labels = np.asarray(fine.arrays["labels"][...])[::2, ::2, ::2]
    sharp = ndimage.gaussian_filter(np.asarray(fine.data[...]), 0.5)
    geometry = folder / "geometry.json"
    write_document(geometry, kind="geometry", payload={"acquisition": record["acquisition"]}, provenance=ORIGIN)
    tables, lacunae = [], []
    for name in ("volume", "denoised", "superres"):
        tables.append(folder / f"morphometry/{name}.csv")
        rows = [
            {"symbol": "BV/TV", "value": record["volumes"]["bone_fraction"] * 1.01},
            {"symbol": "Tb.Th", "value": record["thickness_um"]["bone_mean"] / 1e3},
        ]
        write_table(tables[-1], rows, columns=("symbol", "value"))
        lacunae.append(folder / f"morphometry/{name}_lacunae.csv")
        points = [dict(zip(("x_mm", "y_mm", "z_mm"), one["centroid_mm"], strict=True)) for one in record["lacunae"]]
        write_table(lacunae[-1], points, columns=("x_mm", "y_mm", "z_mm"))
    return {
        "truth": truth,
        "geometry": geometry,
        "volume": store(folder / "volume.zarr", reference + noise, voxel),
        "iterative": store(folder / "iterative.zarr", reference + 0.1 * noise, voxel),
        "denoised": store(folder / "denoised.zarr", reference + 0.02 * noise, voxel),
        "superres": store(folder / "superres.zarr", sharp, voxel / 2),
        "bones": [
            store(folder / "bone/volume.zarr", labels, voxel, "label"),
            store(folder / "bone/denoised.zarr", labels, voxel, "label"),
            store(folder / "bone/superres.zarr", np.asarray(fine.arrays["labels"][...]), voxel / 2, "label"),
        ],
        "morphometry": tables,
        "lacunae": lacunae,
        "validation": folder / "validation.csv",
    }


def rows(results, **changes) -> dict[tuple[str, str], dict[str, str]]:
    validate.run(**{**results, **changes}, params=PARAMS)
    with results["validation"].open() as file:
        return {(row["volume"], row["check"]): row for row in csv.DictReader(file)}


def test_a_good_run_passes_every_check(results):
    table = rows(results)
    assert {row["scan"] for row in table.values()} == {"mouse"}
    judged = [row for row in table.values() if row["passed"]]
    assert len(judged) >= 9
    assert all(row["passed"] == "true" for row in judged), [row for row in judged if row["passed"] != "true"]
    assert table["", "centre of rotation"]["difference"] == "0"
    assert float(table["denoised", "BV/TV"]["difference"]) == pytest.approx(1, abs=4)
    assert table["iterative", "mean attenuation of bone"]["passed"] == "true"
    assert float(table["denoised", "lacunae, F1"]["value"]) == 1


def test_noisy_volume_is_not_judged_beside_a_denoised_one(results):
    table = rows(results)
    assert table["volume", "lacunae, F1"]["passed"] == ""
    assert table["denoised", "lacunae, F1"]["passed"] == "true"
    alone = rows(results, morphometry=results["morphometry"][:1], lacunae=results["lacunae"][:1])
    assert alone["volume", "lacunae, F1"]["passed"] == "true"


@pytest.mark.parametrize(("shift", "passed"), [(0.2, "true"), (-0.3, "false")])
def test_centre_is_judged_by_its_limit(results, truth, shift, passed):
    acquisition = dict(read_document(truth, "truth")["acquisition"])
    acquisition["centre_px"] += shift
    write_document(results["geometry"], kind="geometry", payload={"acquisition": acquisition}, provenance=ORIGIN)
    row = rows(results)["", "centre of rotation"]
    assert row["passed"] == passed
    assert float(row["difference"]) == pytest.approx(shift)


def test_faults_are_seen(results, tmp_path):
    """A wrong grey level, a filter no better than a Gaussian, plain interpolation: each fails its own check only."""
    volume = open_volume(results["volume"])
    noisy, voxel = np.asarray(volume.data[...]), volume.grid.voxel_mm
    smooth = ndimage.gaussian_filter(noisy, 1.0)
    brighter = store(tmp_path / "brighter.zarr", 1.1 * noisy, voxel)
    gaussian = store(tmp_path / "gaussian.zarr", smooth, voxel)
    cubic = store(tmp_path / "cubic.zarr", cubic_upsampled(smooth, 2), voxel / 2)
    grainy = store(tmp_path / "grainy.zarr", cubic_upsampled(noisy, 2), voxel / 2)
    assert rows(results, volume=brighter)["volume", "mean attenuation of bone"]["passed"] == "false"
    table = rows(results, denoised=gaussian, superres=cubic)
    assert table["denoised", "PSNR above best Gaussian"]["passed"] == "false"
    assert float(table["superres", "PSNR above cubic interpolation"]["difference"]) == pytest.approx(0, abs=0.05)
    table = rows(results, denoised=gaussian, superres=grainy)
    assert table["superres", "PSNR above cubic interpolation"]["passed"] == "false"


def test_missing_results_are_named(results):
    table = rows(results, denoised=None, superres=None)
    notes = [row["note"] for row in table.values() if row["note"].startswith("not run")]
    assert notes == ["not run: no denoised volume", "not run: no super-resolved volume"]


def test_missing_reference_is_named(results, truth, tmp_path):
    from shutil import copytree

    copy = tmp_path / "copy.truth"
    copytree(truth.parent, copy)
    known = open_volume(copy / "truth.zarr")
    store(copy / "truth.zarr", np.asarray(known.data[...]), known.grid.voxel_mm)
    row = rows(results, truth=copy / "truth.json")["denoised", "PSNR above best Gaussian"]
    assert row["note"] == "not run: the truth has no reference reconstruction"


def test_bone_is_compared_between_the_heights_each_table_measured(results, truth):
    """Masks of other slices, and of finer ones: the truth is that of the same heights."""
    fine = open_volume(truth.parent / "truth_fine.zarr")
    labels, voxel = np.asarray(fine.arrays["labels"][...]), fine.grid.voxel_mm
    part = np.where(np.isin(np.arange(len(labels)), range(10, 20))[:, None, None], labels, 0)
    store(results["bones"][2], part, voxel, "label")
    table = rows(results)
    expected = np.count_nonzero(part == 2) / np.count_nonzero(part)
    assert float(table["superres", "BV/TV"]["truth"]) == pytest.approx(expected)
    whole = np.count_nonzero(labels == 2) / np.count_nonzero(labels)
    assert float(table["denoised", "BV/TV"]["truth"]) == pytest.approx(whole)
    assert expected != pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("change", ["smaller", "moved", "coarser"])
def test_volumes_on_another_grid_are_not_compared(results, change):
    """A region of interest, one beside the truth's, or other voxels; what goes by coordinates still runs."""
    for path in (results["volume"], results["denoised"], *results["bones"][:2]):
        volume = open_volume(path)
        values, grid = np.asarray(volume.data[...]), volume.grid
        if change == "smaller":
            values = values[:, 4:-4, 4:-4]
        shift = 5 * grid.voxel_mm if change == "moved" else 0.0
        grid = VolumeGrid(values.shape, grid.voxel_mm * (1.5 if change == "coarser" else 1), (shift, 0.0, 0.0))
        record = {name: volume.record[name] for name in ("segmentation",) if name in volume.record}
        with create_volume(
            path, quantity=volume.quantity, grid=grid, calibrated=True, provenance=ORIGIN, **record
        ) as out:
            out["data"] = values
    table = rows(results)
    for name, check in [
        ("volume", "mean attenuation of bone"),
        ("denoised", "mean attenuation of bone"),
        ("denoised", "BV/TV"),
        ("denoised", "PSNR above best filter"),
        ("superres", "PSNR above cubic interpolation"),
    ]:
        assert table[name, check]["note"] == "not run: reconstructed on another grid than the truth"
        assert table[name, check]["passed"] == ""
    assert table["", "centre of rotation"]["passed"] == "true"
    assert table["superres", "BV/TV"]["passed"] == "true"
    assert table["volume", "lacunae, F1"]["value"] == "1"


def test_rows_do_not_depend_on_blocks(results, monkeypatch):
    whole = rows(results)
    monkeypatch.setattr(validate.checks, "BLOCK", 5)
    blocked = rows(results)
    for key, row in whole.items():
        for name in ("value", "truth"):
            assert number(blocked[key][name]) == pytest.approx(number(row[name]), rel=1e-12), key
