"""Numbers as people read them."""

import csv
import io

import pytest

from xrmflow.report.numbers import as_csv, column, compare, difference_cell, number, passed, sentence, unit


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), ("0.5", "0.5"), (3.0, "3"), (123456.7, "123457"), (-0.25, "−0.25"), ("", "–"), (None, "–"),
     ("n/a", "n/a"), (float("nan"), "–"), (1e-7, "1e−07"), (9.99996, "10")],
)  # fmt: skip
def test_number(value, text):
    assert number(value) == text


def test_zeros_are_kept_on_request():
    assert number(0.5, zeros=True) == "0.5000"


def rows(volume, **values):
    same = {"volume": volume, "compartment": "c", "unit": "mm", "method": "m", "note": ""}
    return [same | {"symbol": symbol, "name": symbol, "value": str(value)} for symbol, value in values.items()]


def test_difference_is_a_percentage_of_the_first_volume():
    both = {"volume": rows("volume", A=2.0, B=-4.0), "denoised": rows("denoised", A=2.5, B=-5.0)}
    assert [c.difference_percent for c in compare(both)] == [{"denoised": 25.0}, {"denoised": -25.0}]


def test_no_difference_where_the_reference_is_zero_empty_or_absent():
    tables = {"volume": rows("volume", A=0, B=""), "denoised": rows("denoised", A=1, B=1, C=1)}
    assert [c.difference_percent for c in compare(tables)] == [{}, {}, {}]


def test_metrics_with_other_units_are_not_compared():
    tables = {"volume": rows("volume", A=1), "denoised": [row | {"unit": "voxel"} for row in rows("denoised", A=1)]}
    assert [c.difference_percent for c in compare(tables)] == [{}, {}]


def test_difference_beyond_the_limit_is_marked():
    assert difference_cell(-5.1, 5).state == "look"
    assert difference_cell(-5.1, 5).text == "−5.1 %"
    assert difference_cell(4.9, 5).state == ""


def test_column_takes_the_first_name_there_is():
    assert column([{"b": "1", "c": "2"}], "a", "c", "b") == ("c", [2.0])
    assert column([{"b": "1", "c": ""}, {"b": "2", "c": ""}], "c", "b") == ("b", [1.0, 2.0])
    assert column([{"b": "1"}], "a") is None
    assert column([], "a") is None


@pytest.mark.parametrize(("text", "state"), [("True", "pass"), ("false", "fail"), ("", "info")])
def test_passed(text, state):
    assert passed(text) == state


def test_csv_repeats_the_rows():
    table = rows("volume", A=1, B=2)
    assert list(csv.DictReader(io.StringIO(as_csv([table])))) == table


@pytest.mark.parametrize(
    ("written", "printed"),
    [("mm3", "mm³"), ("1/mm3", "1/mm³"), ("um3", "µm³"), ("voxel2", "voxel²"), ("mgHA/cm3", "mgHA/cm³"), ("1", "1")],
)
def test_unit(written, printed):
    assert unit(written) == printed


def test_sentence():
    assert sentence("converged") == "Converged."
    assert sentence("Done!") == "Done!"
    assert sentence("") == ""
    assert sentence("c2 = 1.5") == "c2 = 1.5."
    assert sentence("c_b = 0.2") == "c_b = 0.2."
