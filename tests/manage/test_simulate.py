import json
from dataclasses import replace

import numpy as np
import pytest

from xrmflow.cli import main
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.documents import read_document
from xrmflow.io.read_dataexchange import read_dataexchange
from xrmflow.io.read_txrm import read_txrm
from xrmflow.io.stores import open_volume
from xrmflow.manage import simulate as module
from xrmflow.metrics.labels import LACUNA
from xrmflow.phantom.presets import PRESETS, PlannedScan, Specimen


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    return folder, module.simulate(folder, preset="tiny", seed=4)


def test_truth_lies_beside_the_raw_file(files):
    folder, (file, *_) = files
    assert file.path == folder / "bone.txrm"
    assert sorted(path.name for path in file.truth.iterdir() if path.name[0] != ".") == [
        "truth.json",
        "truth.zarr",
        "truth_fine.zarr",
    ]


def test_file_records_the_nominal_geometry(files):
    """Shifts are recorded as what must be added; centre and roll are not recorded."""
    _, (file, *_) = files
    true = Acquisition.from_dict(read_document(file.truth / "truth.json", "truth")["acquisition"])
    with read_txrm(file.path) as raw:
        np.testing.assert_allclose(raw.angles_deg, true.angles_deg)
        np.testing.assert_allclose(raw.shifts_to_add_px, -true.shifts_px, atol=1e-6)
        assert raw.projections.shape == (true.views, true.rows, true.cols)
        assert raw.pixel_mm == pytest.approx(true.pixel_mm)
        assert raw.source_to_axis_mm == pytest.approx(true.source_to_axis_mm)
        counts = np.asarray(raw.projections[0])
        flat = np.asarray(raw.flats[0])
    assert counts.dtype == np.uint16
    expected = PRESETS["tiny"][0].scans[0].recipe.detector.counts
    assert np.median(flat) == pytest.approx(expected, rel=0.1)
    assert np.median(counts[:, :4]) == pytest.approx(expected, rel=0.15)


def test_truth_volumes_agree(files):
    _, (file, *_) = files
    own, fine = open_volume(file.truth / "truth.zarr"), open_volume(file.truth / "truth_fine.zarr")
    truth = read_document(file.truth / "truth.json", "truth")
    assert fine.grid.shape == tuple(2 * n for n in own.grid.shape)
    assert fine.grid.voxel_mm == pytest.approx(own.grid.voxel_mm / 2)
    data, reference = np.asarray(own.data[...]), np.asarray(own.arrays["fdk_reference"][...])
    np.testing.assert_allclose(data[3, 4, 5], np.asarray(fine.data[6:8, 8:10, 10:12]).mean(), rtol=1e-5)
    np.testing.assert_allclose(data.mean(), np.asarray(fine.data[...]).mean(dtype=np.float64), rtol=1e-5)
    bone = truth["attenuation_per_mm"]["bone"]
    inner = slice(6, -6)
    assert np.sqrt(np.mean((reference[inner] - data[inner]) ** 2)) < 0.1 * bone
    labels = np.asarray(fine.arrays["labels"][...])
    assert np.count_nonzero(labels == LACUNA) * fine.grid.voxel_mm**3 == pytest.approx(truth["volumes"]["lacunae_mm3"])


def test_truth_holds_what_is_promised(files):
    _, (file, *_) = files
    truth = read_document(file.truth / "truth.json", "truth")
    assert 5 < truth["effective_energy_kev"] < 30
    assert sum(truth["spectrum"]["weights"]) == pytest.approx(1)
    assert 0 < truth["volumes"]["bone_fraction"] < 1
    assert truth["thickness_um"]["bone_mean"] > truth["thickness_um"]["cortical_mean"] / 2
    assert {"centroid_mm", "volume_um3", "semi_axes_um", "whole"} <= set(truth["lacunae"][0])
    json.dumps(truth, allow_nan=False)


def test_seed_decides_the_files(files, tmp_path):
    _, (file, *_) = files
    again, *_ = module.simulate(tmp_path, preset="tiny", seed=4)
    assert again.path.read_bytes() == file.path.read_bytes()


def test_pair_shares_its_object(tmp_path, monkeypatch):
    """Two resolutions of one bone, as Data Exchange files with flats and darks."""
    high, low = (plan for plan in PRESETS["demo"][1].scans)

    def small(plan: PlannedScan, factor: int) -> PlannedScan:
        recipe = replace(plan.recipe, rows=8 * factor, cols=96 * factor, views=6)
        return replace(plan, recipe=recipe)

    pair = Specimen(PRESETS["demo"][1].bone, (small(high, 2), small(low, 1)))
    monkeypatch.setitem(PRESETS, "tiny", (pair,))
    fine, coarse = module.simulate(tmp_path, preset="tiny", seed=1)
    assert (fine.role, coarse.role, coarse.pair) == ("reference", "train-only", "pair_high")
    with read_dataexchange(fine.path) as raw:
        assert raw.flats is not None
        assert raw.darks is not None
        assert raw.projections.shape == (6, 16, 192)
    volumes = [np.asarray(open_volume(file.truth / "truth.zarr").data[...]) for file in (fine, coarse)]
    halved = volumes[0].reshape(8, 2, 96, 2, 96, 2).mean(axis=(1, 3, 5))
    # The outline of the soft tissue is sampled anew on each grid.
    np.testing.assert_allclose(halved, volumes[1], atol=5e-3 * halved.max())


def test_command_says_where_things_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        module, "simulate", lambda folder, **_: [module.SimulatedFile("a", folder / "a.txrm", folder, "train", "")]
    )
    assert main(["simulate", str(tmp_path), "--preset", "tiny"]) == 0
    assert "a.txrm" in capsys.readouterr().out


def test_unknown_preset_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["simulate", str(tmp_path), "--preset", "huge"])
    assert "tiny" in capsys.readouterr().err
