"""Every symbol that morphometry writes is explained."""

import ast
from pathlib import Path

import pytest

from xrmflow.report.glossary import GLOSSARY, entries

MORPHOMETRY = Path(__file__).parents[2] / "src/xrmflow/morphometry"


def written() -> set[str]:
    """Symbols given as they stand to the functions that make rows of the tables."""
    nodes = [node for file in MORPHOMETRY.glob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    calls = [n for n in nodes if isinstance(n, ast.Call) and n.args]
    firsts = [call.args[0] for call in calls if ast.unparse(call.func).rpartition(".")[2] in ("row", "rows")]
    return {first.value for first in firsts if isinstance(first, ast.Constant)}


def test_every_symbol_of_the_tables_is_explained():
    symbols = written()
    assert {"BV/TV", "BV/TV.grey", "Tb.Th", "Ct.Th", "Lc.V.SD", "Lc.V.grey", "mu"} <= symbols
    assert {symbol.removesuffix(".SD").removesuffix(".grey") for symbol in symbols} <= GLOSSARY.keys()


@pytest.mark.parametrize("symbol", ["BV/TV.grey", "Lc.V.grey", "Tb.Th.SD"])
def test_what_is_appended_to_a_symbol_is_explained_with_it(symbol):
    base, _, ending = symbol.rpartition(".")
    assert [entry[0] for entry in entries({symbol})] == [base, f".{ending}"]
