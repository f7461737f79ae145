import argparse
import importlib
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = "--cases 1 --cols 48 --rows 24 --views 48 --centre-px 3 --drift-px 1 --jitter-px 0.5 --counts 0"


def test_the_benchmark_of_the_geometry_finds_a_small_scan(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("calibration_geometry")
    parser = argparse.ArgumentParser()
    benchmark.add_options(parser)
    figures = benchmark.run(parser.parse_args(SMALL.split()))
    assert figures["after_px"]["worst"] < 0.15 < 0.5 < figures["centre_only_px"]["worst"]
    assert figures["psnr_loss_db"]["worst"] < 0.3
    assert figures["trusted"] == 1
