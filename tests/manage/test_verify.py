"""What `xrmflow verify` says of stores and of other results, whole and damaged."""

import pytest

from xrmflow.errors import StoreError
from xrmflow.io import sums
from xrmflow.io.manifest import seal
from xrmflow.manage.verify import run


@pytest.fixture
def results(tmp_path):
    """A store and a table with its checksum."""
    store = tmp_path / "bone" / "volume.zarr"
    store.mkdir(parents=True)
    (store / "chunk").write_bytes(b"12345")
    seal(store, {})
    table = tmp_path / "bone" / "morphometry.csv"
    table.write_text("BV/TV,0.3\n")
    sums.note(table)
    return tmp_path


def test_whole_results_are_counted(results):
    assert run(results) == "1 stores and 1 other files: every chunk matches its manifest"
    assert run(results / "bone" / "volume.zarr") == "1 stores: every chunk matches its manifest"


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("morphometry.csv", "BV/TV,0.4\n", "morphometry.csv: damaged"),
        ("morphometry.csv", None, "morphometry.csv: is missing"),
        (".morphometry.csv.sha256", "", "morphometry.csv: damaged"),
        ("volume.zarr/chunk", "12346", "volume.zarr: damaged chunks: chunk"),
        ("volume.zarr/chunk", "1", "volume.zarr: damaged store"),
        ("volume.zarr/manifest.json", None, "volume.zarr: incomplete store"),
        ("volume.zarr/chunks.txt", None, "volume.zarr: damaged store"),
    ],
)
def test_damage_is_named_and_taken_away_to_be_made_anew(results, name, damage, says):
    file = results / "bone" / name
    file.unlink() if damage is None else file.write_text(damage)
    with pytest.raises(
        StoreError, match=r"1 of 2 results \(1 stores and 1 other files\) are damaged or missing; run again with"
    ) as found:
        run(results)
    assert str(found.value).splitlines()[0].startswith(str(results / "bone" / says))
    with pytest.raises(StoreError, match="the same snakemake command makes them anew"):
        run(results, mend=True)
    gone = "volume.zarr/manifest.json" if "zarr" in name else "morphometry.csv"
    assert not (results / "bone" / gone).exists()


def test_an_empty_folder_has_nothing_to_verify(tmp_path):
    with pytest.raises(StoreError, match="no stores found"):
        run(tmp_path)
