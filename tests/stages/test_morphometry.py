import numpy as np
import pytest
from scipy import ndimage

from xrmflow.config.morphometry import MorphometrySection
from xrmflow.config.segment import SegmentSection
from xrmflow.errors import StoreError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.stores import create_volume
from xrmflow.io.tables import number, read_table
from xrmflow.morphometry import structure
from xrmflow.stages import morphometry, segment


def prepare(folder, slices=12, calibrated=True):
    y, x = np.indices((36, 36)) - 17.5
    radius = np.hypot(y, x)
    volume = np.tile(np.where((radius < 15) & (radius > 6), 2.0, 0.2).astype(np.float32), (slices, 1, 1))
    if slices > 8:
        volume[4:8, 5:9, 16:20] = 0.2
    volume = ndimage.gaussian_filter(volume, 0.5)
    quantity = "attenuation_per_mm" if calibrated else "attenuation_per_voxel"
    grid = VolumeGrid(volume.shape, 0.002 if calibrated else 1.0, (0.0, 0.0, 0.5 if calibrated else 0.0))
    with create_volume(
        folder / "denoised.zarr", quantity=quantity, grid=grid, calibrated=calibrated, provenance={"stage": "n2i_apply"}
    ) as store:
        store["data"] = volume
    segment.run(volume=folder / "denoised.zarr", bone=folder / "bone" / "denoised.zarr", params=SegmentSection())


def run(folder, parts=None, **settings):
    out = {name: folder / "morphometry" / f"denoised{end}.csv" for name, end in OUTPUTS.items()}
    morphometry.run(
        volume=folder / "denoised.zarr",
        bone=folder / "bone" / "denoised.zarr" / "manifest.json",
        **out,
        parts=parts,
        params=MorphometrySection(**settings),
    )
    return {name: read_table(path) for name, path in out.items()}


OUTPUTS = {"table": "", "slices": "_slices", "lacunae": "_lacunae"}


def test_tables_are_tidy_and_say_whose_they_are(tmp_path):
    prepare(tmp_path / "mouse7")
    found = run(tmp_path / "mouse7")
    assert list(found["table"][0]) == [
        *("scan", "volume", "compartment", "symbol", "name", "value", "unit", "method", "note")
    ]
    assert {(row["scan"], row["volume"]) for row in found["table"]} == {("mouse7", "denoised")}
    rows = {row["symbol"]: row for row in found["table"]}
    assert len(rows) == len(found["table"])
    assert number(rows["TV"]["value"]) == pytest.approx(np.pi * 15**2 * 12 * 8e-9, rel=0.03)
    assert number(rows["Tb.Th"]["value"]) == pytest.approx(0.018, rel=0.06)
    assert rows["Tb.Th"]["unit"] == "mm"
    assert number(rows["mu"]["value"]) == pytest.approx(20, rel=0.02)
    assert rows["TMD"]["value"] == ""
    assert len(found["slices"]) == 12
    assert number(found["slices"][0]["z_mm"]) == pytest.approx(0.5 - 0.002 * 5.5)
    (lacuna,) = found["lacunae"]
    assert number(lacuna["x_mm"]) == pytest.approx(0.0, abs=1e-3)
    assert number(lacuna["z_mm"]) == pytest.approx(0.5, abs=1e-3)
    assert number(lacuna["grey_volume_um3"]) == pytest.approx(64 * 8, rel=0.1)
    assert lacuna["touching_border"] == "false"


def run_part(folder, phase, **settings):
    path = folder / "parts" / f"{phase}.json"
    stores = {"volume": folder / "denoised.zarr", "bone": folder / "bone" / "denoised.zarr"}
    morphometry.run(**stores, part=phase, thickness=path, params=MorphometrySection(**settings))
    return path


@pytest.mark.parametrize("settings", [{}, {"trabecula_um": 8.0}], ids=str)
def test_thickness_measured_elsewhere_gives_the_same_tables(tmp_path, settings):
    prepare(tmp_path)
    whole = run(tmp_path, **settings)
    parts = [run_part(tmp_path, phase, **settings) for phase in ("bone", "marrow")]
    assert run(tmp_path, parts, **settings) == whole
    with pytest.raises(StoreError, match="parts: expected the thickness of bone and marrow, got marrow"):
        run(tmp_path, parts[1:], **settings)


def test_a_phase_that_is_not_there_has_no_thickness_elsewhere_either(tmp_path, monkeypatch):
    """What is no number survives its document."""
    prepare(tmp_path)
    monkeypatch.setitem(structure.PHASES, "marrow", ())
    whole = run(tmp_path)
    (separation,) = (row for row in whole["table"] if row["symbol"] == "Tb.Sp")
    assert separation["value"] == ""
    assert run(tmp_path, [run_part(tmp_path, phase) for phase in ("bone", "marrow")]) == whole


def test_two_uncalibrated_slices_end_in_a_table_that_says_so(tmp_path):
    prepare(tmp_path / "tooth", slices=2, calibrated=False)
    found = run(tmp_path / "tooth")
    rows = {row["symbol"]: row for row in found["table"]}
    assert rows["Tb.Th"]["value"] == ""
    assert rows["Tb.Th"]["note"].startswith("uncalibrated; skipped: 2 slices")
    assert rows["BV/TV"]["name"] == "mineralised fraction"
    assert rows["BA/TA.0"]["name"] == "mineralised fraction of slice 0"
    assert rows["BV/TV"]["note"] == "uncalibrated"
    assert rows["TV"]["unit"] == "voxel3"
    assert [row["z_mm"] for row in found["slices"]] == ["", ""]
    assert found["lacunae"] == []


def test_what_is_switched_off_is_a_row_with_the_reason(tmp_path):
    prepare(tmp_path / "mouse7")
    rows = {row["symbol"]: row for row in run(tmp_path / "mouse7", thickness=False, lacunae=False)["table"]}
    assert rows["Tb.Th"]["note"] == rows["Lc.N"]["note"] == "skipped: switched off in the settings"


def test_masks_are_needed(tmp_path):
    prepare(tmp_path / "mouse7")
    with pytest.raises(StoreError, match="expected quantity label, got attenuation_per_mm"):
        morphometry.run(
            volume=tmp_path / "mouse7" / "denoised.zarr",
            bone=tmp_path / "mouse7" / "denoised.zarr",
            table=tmp_path / "t.csv",
            slices=tmp_path / "s.csv",
            lacunae=tmp_path / "l.csv",
            params=MorphometrySection(),
        )
