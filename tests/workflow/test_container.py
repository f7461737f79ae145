"""Jobs in a container image: what a stand-in for apptainer is asked to do. Images themselves are not built here."""

import os
import subprocess
import sys
from pathlib import Path

STAND_IN = """#!/bin/bash
case $1 in version|--version) echo "apptainer version 1.3.4"; exit 0 ;; esac
echo "$*" >> {log}
# As in an image: its own Python, and nothing of the caller's search path.
export PATH={python}:/usr/bin:/bin
exec bash -c "${{@: -1}}"
"""


def test_jobs_run_in_the_image_with_the_code_that_planned_them(project, tmp_path):
    called = tmp_path / "called.log"
    for name in ("apptainer", "singularity"):
        stand_in = tmp_path / "bin" / name
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(STAND_IN.format(log=called, python=Path(sys.executable).parent))
        stand_in.chmod(0o755)
    (project.root / "xrmflow.sif").touch()
    (project.root / "run" / "scans.tsv").write_text("scan\tsource\nother\tbone.txrm\n")
    command = [*project.command("container=xrmflow.sif", "--sdm", "apptainer", "--until", "ingest")]
    environment = project.environment | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (job,) = (line for line in called.read_text().splitlines() if "xrmflow ingest" in line)
    assert " xrmflow.sif bash -c " in job
    assert f"PYTHONPATH={project.root / 'src'} " in job
    assert "PATH=/" not in job.replace("PYTHONPATH=/", "")
    assert (project.root / "run" / "results" / "other" / "logs" / "ingest.log").is_file()
