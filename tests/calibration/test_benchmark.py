import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/calibration.py"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("calibration_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    monkeypatch.setitem(sys.modules, "calibration_benchmark", module)
    spec.loader.exec_module(module)
    return module


def run(benchmark, monkeypatch, capsys, options):
    monkeypatch.setattr(sys, "argv", ["calibration.py", *options.split()])
    benchmark.main()
    return json.loads(capsys.readouterr().out)


def test_help_names_what_can_be_measured_and_the_options_of_the_one_that_was_asked_for(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["calibration.py", "--what", "geometry", "--help"])
    with pytest.raises(SystemExit):
        benchmark.main()
    shown = capsys.readouterr().out
    assert "--what motion" in shown
    assert "--route" in shown


def test_cupping_prints_one_line_of_json_with_the_figures(benchmark, monkeypatch, capsys):
    options = (
        "--what cupping --cases 1 --seed 3 --rows 8 --views 100 --counts 20000 --mineral-variation 0 --cost-cols 0"
    )
    figures = run(benchmark, monkeypatch, capsys, options)
    assert figures["settings"]["counts"] == 20000
    bones = figures["mineral_varies_0_percent"]
    assert bones["too_dark_before_percent"]["min"] > 20
    assert bones["mono_change_percent"]["max"] == 0
    for scope in ("scan", "protocol"):
        assert bones[scope]["applied"] == 1
        assert bones[scope]["reduction_percent"]["min"] > 85


def test_materials_prints_figures_for_no_one_and_two_coefficients(benchmark, monkeypatch, capsys):
    import calibration_materials

    for name, smaller in (("COLS", 64), ("ROWS", 8), ("VIEWS", 60)):
        monkeypatch.setattr(calibration_materials, name, smaller)
    figures = run(benchmark, monkeypatch, capsys, "--what materials --cases 1 --seed 2")
    shading = [figures[kind]["soft_shading_percent"]["median"] for kind in ("none", "one", "two")]
    # So few voxels of bone are refused, and what is refused changes nothing.
    assert figures["two"]["applied"]["max"] == 0
    assert shading[2] == shading[0] > 5


def test_biology_prints_the_effects(benchmark, monkeypatch, capsys):
    figures = run(benchmark, monkeypatch, capsys, "--what biology --cases 1 --seed 3 --rows 8 --views 100")
    assert figures["fixed"]["planted_percent"] == [3, 5]
    for scope in ("uncorrected", "scan", "protocol"):
        assert set(figures[scope]["error_of_the_effect_percent"]) == {"attenuation", "thickness"}


def test_the_table_of_the_ablation_has_a_row_a_loss(benchmark):
    import cupping_ablation

    cells = {"thick, 10000 counts": {"used": [90.0, 97.0, 99.0], "variance": [-20.4, 10.0, 30.0]}}
    assert cupping_ablation.table(cells).splitlines() == [
        "| loss | thick, 10000 counts |",
        "|---|---|",
        "| used | 97 (90) |",
        "| variance | 10 (-20) |",
    ]


def test_the_ablation_takes_the_least_loss(benchmark):
    import cupping_ablation
    import numpy as np

    basis = np.stack([np.linspace(1.0, 2.0, 8), -0.5 * np.linspace(1.0, 2.0, 8) + 1.0]).reshape(2, 2, 2, 2)
    assert cupping_ablation.minimiser(cupping_ablation.variance, basis, np.ones((2, 2, 2), bool)) == 2.0
