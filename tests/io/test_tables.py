import math

import pytest

from xrmflow.errors import StoreError
from xrmflow.io.tables import number, read_table, write_table

COLUMNS = ("scan", "value", "note")


def test_what_is_written_is_read(tmp_path):
    rows = [{"scan": "a", "value": 0.1 + 0.2, "note": 'said "so", twice'}, {"scan": "b", "value": 3, "note": "µm³"}]
    write_table(tmp_path / "deep" / "t.csv", rows, columns=COLUMNS)
    found = read_table(tmp_path / "deep" / "t.csv")
    assert [number(row["value"]) for row in found] == [pytest.approx(0.3, rel=1e-8), 3]
    assert [row["note"] for row in found] == ['said "so", twice', "µm³"]


def test_the_unknown_is_an_empty_field(tmp_path):
    write_table(
        tmp_path / "t.csv", [{"scan": None, "value": math.nan}, {"value": math.inf, "note": True}], columns=COLUMNS
    )
    assert (tmp_path / "t.csv").read_text() == "scan,value,note\n,,\n,,true\n"
    assert number(read_table(tmp_path / "t.csv")[0]["value"]) is None


def test_a_table_without_rows_has_its_header(tmp_path):
    write_table(tmp_path / "t.csv", [], columns=COLUMNS)
    assert (tmp_path / "t.csv").read_text() == "scan,value,note\n"
    assert read_table(tmp_path / "t.csv") == []


def test_a_column_that_is_not_listed_is_refused_and_the_old_table_stays(tmp_path):
    write_table(tmp_path / "t.csv", [{"scan": "a"}], columns=COLUMNS)
    with pytest.raises(ValueError, match="unit"):
        write_table(tmp_path / "t.csv", [{"scan": "b", "unit": "mm"}], columns=COLUMNS)
    assert read_table(tmp_path / "t.csv")[0]["scan"] == "a"
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such table; run the stage that writes it"),
        (b"", "an empty file, not a table"),
        (b"\xff\xfe\x00", "not a table of text"),
        (b"a,b\n1,2\n3\n", "line 3 has other columns than line 1"),
        (b"a,b\n1,2,3\n", "line 2 has other columns than line 1"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, content, words):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=words):
        read_table(path)
