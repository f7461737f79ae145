"""A measured scan, from its file to its report, by the command of the documentation."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.real_data
def test_the_tooth_from_raw_file_to_report(real_data, tmp_path):
    """Two detector rows of a tooth in a parallel beam, with raw counts, flats and darks, and no pixel size."""
    for part in ("src", "workflow", "profiles", "envs", "config", "Snakefile"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, tmp_path / part)
    settings = tmp_path / "config" / "examples" / "tooth.yaml"
    settings.write_text(re.sub(r"steps: \d+", "steps: 60", settings.read_text()))
    table = settings.with_suffix(".tsv")
    table.write_text(f"scan\tsource\trole\ntooth\t{real_data / 'tomopy_tooth' / 'tooth.h5'}\ttrain\n")
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", "settings=config/examples/tooth.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    scan = tmp_path / "results" / "tooth" / "tooth"
    geometry = json.loads((scan / "geometry.json").read_text())
    assert geometry["acquisition"]["centre_px"] == pytest.approx(295.5, abs=0.25)
    assert geometry["acquisition"]["beam"] == "parallel"
    page = (scan / "report.html").read_text()
    assert "uncalibrated" in page
    rows = {row["symbol"]: row for row in csv.DictReader((scan / "morphometry/denoised.csv").read_text().splitlines())}
    assert rows["Tb.Th"]["value"] == ""
    assert rows["Tb.Th"]["note"].startswith("uncalibrated; skipped: ")
    assert "mineralised" in rows["BV/TV"]["name"]
    assert 0.3 < float(rows["BV/TV"]["value"]) <= 1
