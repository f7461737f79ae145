import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/calibration.py"


@pytest.fixture
def benchmark(monkeypatch):
    spec = importlib.util.spec_from_file_location("calibration_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    monkeypatch.setitem(sys.modules, "calibration_benchmark", module)
    spec.loader.exec_module(module)
    return module


def test_one_line_of_json_with_the_figures(benchmark, monkeypatch, capsys):
    options = "--what cupping --cases 1 --seed 3 --rows 8 --views 100 --counts 20000"
    monkeypatch.setattr(sys, "argv", ["calibration.py", *options.split()])
    benchmark.main()
    figures = json.loads(capsys.readouterr().out)
    assert figures["settings"]["counts"] == 20000
    assert figures["applied"] == 1
    assert figures["reduction_percent"]["min"] > 75
    assert figures["too_dark_before_percent"]["min"] > 20
    assert figures["mono_change_percent"]["max"] == 0
