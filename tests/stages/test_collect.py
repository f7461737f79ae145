import pytest

from xrmflow.config.collect import CollectSection
from xrmflow.errors import SettingsError
from xrmflow.io.tables import read_table, write_table
from xrmflow.stages import collect


def indices(folder, scan, volume, rows, *, voi="bone"):
    path = folder / scan / "morphometry" / f"{volume}.csv"
    common = {"scan": scan, "volume": volume, "compartment": voi, "name": "a name, with comma"}
    write_table(path, [common | row for row in rows], columns=collect.COLUMNS)
    return path


def one(symbol, value, unit="1", **more):
    return {"symbol": symbol, "value": value, "unit": unit, **more}


@pytest.fixture
def tables(tmp_path):
    """Two volumes of one scan, and a scan without a voxel size whose ends were cut."""
    cortical = one("BV/TV", 0.9, compartment="cortical")
    return [
        indices(tmp_path, "a", "volume", [one("BV/TV", 0.25), one("Tb.Th", 0.05, "mm"), cortical]),
        indices(tmp_path, "a", "denoised", [one("BV/TV", 0.26), one("Tb.Th", None, "mm", note="skipped: thin")]),
        indices(tmp_path, "b", "volume", [one("BV/TV", 1 / 3), one("Tb.Th", 4.5, "voxel")], voi="bone, cut"),
    ]


def run(folder, tables, *symbols):
    out = {"table": folder / "morphometry.csv", "wide": folder / "morphometry_wide.csv"}
    collect.run(tables=tables, **out, params=CollectSection(symbols=symbols))
    return read_table(out["table"]), read_table(out["wide"])


def test_every_row_of_every_table_is_kept_as_it_is(tmp_path, tables):
    long, _ = run(tmp_path, tables)
    assert long == [row for path in tables for row in read_table(path)]
    assert len(long) == 7
    assert long[4]["note"] == "skipped: thin"


def test_the_wide_table_has_a_row_a_scan_and_volume(tmp_path, tables):
    _, wide = run(tmp_path, tables)
    assert list(wide[0]) == [
        *("scan", "volume", "compartment", "BV/TV [1]", "Tb.Th [mm]", "cortical BV/TV [1]", "Tb.Th [voxel]")
    ]
    assert [list(row.values()) for row in wide] == [
        ["a", "volume", "bone", "0.25", "0.05", "0.9", ""],
        ["a", "denoised", "bone", "0.26", "", "", ""],
        ["b", "volume", "bone, cut", "0.333333333", "", "", "4.5"],
    ]


def test_symbols_choose_and_order_columns(tmp_path, tables):
    long, wide = run(tmp_path, tables, "Tb.Th", "BV/TV")
    assert [row["symbol"] for row in long[:3]] == ["Tb.Th", "BV/TV", "BV/TV"]
    assert list(wide[0])[3:5] == ["Tb.Th [mm]", "BV/TV [1]"]
    long, wide = run(tmp_path, tables, "BV/TV")
    assert {row["symbol"] for row in long} == {"BV/TV"}
    assert len(wide) == 3


def test_a_mistyped_symbol_is_named(tmp_path, tables):
    with pytest.raises(SettingsError, match=r"collect: symbols: expected some of BV/TV, Tb\.Th; got Tb\.TH"):
        run(tmp_path, tables, "Tb.TH")
    assert not (tmp_path / "morphometry.csv").exists()


def test_an_index_twice_in_one_table_is_a_fault(tmp_path):
    twice = indices(tmp_path, "a", "volume", [one("TV", 1.0, "mm3"), one("TV", 2.0, "mm3")])
    with pytest.raises(SettingsError, match=r"TV \[mm3\]: expected one value for a, volume; got two"):
        run(tmp_path, [twice])


def test_what_the_table_of_scans_says_comes_after_the_id(tmp_path, tables):
    scans = tmp_path / "scans.tsv"
    scans.write_text("scan\tsource\tgroup\tanimal\na\tgone.txrm\tsham\tm 1\nb\tgone.txrm\t\tm 2\n")
    out = {"table": tmp_path / "morphometry.csv", "wide": tmp_path / "morphometry_wide.csv"}
    collect.run(tables=tables, **out, params=CollectSection(), scans=scans)
    long, wide = read_table(out["table"]), read_table(out["wide"])
    assert list(long[0])[:4] == list(wide[0])[:4] == ["scan", "animal", "group", "volume"]
    assert [(row["scan"], row["animal"], row["group"]) for row in wide] == [
        ("a", "m 1", "sham"),
        ("a", "m 1", "sham"),
        ("b", "m 2", ""),
    ]
    assert {row["group"] for row in long if row["scan"] == "a"} == {"sham"}


def test_settings_of_a_scan_alone_are_told(tmp_path, tables):
    scans = tmp_path / "scans.tsv"
    scans.write_text("scan\tsource\tsettings\na\tgone.txrm\town/a.yaml\nb\tgone.txrm\t\n")
    out = {"table": tmp_path / "morphometry.csv", "wide": tmp_path / "morphometry_wide.csv"}
    collect.run(tables=tables, **out, scans=scans, params=CollectSection())
    for path in out.values():
        assert {(row["scan"], row["settings"]) for row in read_table(path)} == {("a", "own/a.yaml"), ("b", "")}
