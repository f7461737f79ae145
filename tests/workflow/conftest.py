"""A finished run of the whole workflow on a tiny simulated scan, in a copy of the project that tests may edit."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from xrmflow.io.write_dataexchange import write_dataexchange

ROOT = Path(__file__).parents[2]
PARTS = ("src", "workflow", "profiles", "envs", "Snakefile")


@dataclass(frozen=True)
class Project:
    """A copy of the project with a run in `run/`: settings, raw scans, results."""

    root: Path

    @property
    def settings(self) -> dict:
        """The settings file as plain values."""
        return yaml.safe_load((self.root / "run" / "config.yaml").read_text())

    def change(self, section: str, **values: object) -> None:
        """Set keys of a section in the settings file."""
        settings = self.settings
        settings.setdefault(section, {}).update(values)
        (self.root / "run" / "config.yaml").write_text(yaml.safe_dump(settings))

    def measure(self, *volumes: str) -> None:
        """Set what is measured: without networks a run is shorter."""
        settings = self.settings | {"measure": list(volumes)}
        (self.root / "run" / "config.yaml").write_text(yaml.safe_dump(settings))

    def edit(self, module: str, old: str, new: str) -> None:
        """Replace text in a source file of the copy."""
        file = self.root / "src" / "xrmflow" / module
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    def command(self, *arguments: str) -> list[str]:
        """The snakemake command, as a user types it."""
        return [sys.executable, "-m", "snakemake", "--cores", "2", "--config", "settings=run/config.yaml", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """The copy's package goes before the installed one."""
        return os.environ | {"PYTHONPATH": str(self.root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}

    def snakemake(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the workflow; output and errors together in `stdout`."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )

    def make(self, target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the workflow for one file."""
        return self.snakemake(*arguments, "--", target)

    def xrmflow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one xrmflow command in the copy."""
        command = [sys.executable, "-m", "xrmflow.cli", *arguments]
        return subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False, timeout=600
        )

    def planned(self, *arguments: str) -> set[str]:
        """Names of the rules that would run now."""
        shown = self.snakemake("--dry-run", "--quiet", "reason", *arguments).stdout
        if "Nothing to be done" in shown:
            return set()
        table = re.findall(r"^(\w+)\s+\d+$", shown, flags=re.MULTILINE)
        assert table, shown
        return set(table) - {"all", "total"}


def _copy_of_the_project(root: Path) -> Project:
    root.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        shutil.rmtree(root / part, ignore_errors=True)
        if source.is_dir():
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, root / part)
    return Project(root)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny scan, run to its report once for all tests. Do not change it: take `project`.

    XRMFLOW_TEST_RUN names a folder to keep it in, where the next tests rerun only what has changed since.
    """
    kept = os.environ.get("XRMFLOW_TEST_RUN")
    project = _copy_of_the_project(Path(kept) if kept else tmp_path_factory.mktemp("finished") / "project")
    if not (project.root / "run" / "config.yaml").exists():
        simulated = project.xrmflow("simulate", "run", "--preset", "tiny")
        assert simulated.returncode == 0, simulated.stderr
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished run that a test may change."""
    root = tmp_path / "project"
    subprocess.run(["cp", "-a", str(finished.root), str(root)], check=True)
    return Project(root)


@pytest.fixture
def cut(project: Project) -> Project:
    """The finished run with a taller volume, made by one job."""
    project.change("fdk", shape=[150, 64, 64])
    done = project.make("run/results/bone/volume.zarr/manifest.json")
    assert done.returncode == 0, done.stdout
    assert "fdk_part" not in done.stdout
    return project


@pytest.fixture
def tall(project: Project) -> Project:
    """A scan of 72 rows, which reach into a second layer of chunks, and networks trained before; no results yet."""
    run = project.root / "run"
    along, across = np.linspace(-1, 1, 72)[:, None], np.linspace(-1, 1, 32)
    seen = np.exp(-np.sqrt(np.clip(0.5 - across**2, 0, None)) * (1 + 0.3 * along))
    rng = np.random.default_rng(0)
    write_dataexchange(
        run / "tall.h5",
        projections=rng.poisson(20000 * seen, (48, 72, 32)).astype(np.uint16),
        flats=rng.poisson(20000, (4, 72, 32)).astype(np.uint16),
        angles_deg=np.linspace(0, 180, 48, endpoint=False),
        pixel_size_um=10.0,
    )
    (run / "scans.tsv").write_text("scan\tsource\ntall\ttall.h5\n")
    (run / "models/default").rename(run / "trained")
    shutil.rmtree(run / "results")
    trained = {f"trained_{network}": f"run/trained/{network}.safetensors" for network in ("n2i", "sr")}
    (run / "config.yaml").write_text(yaml.safe_dump(project.settings | {"measure": ["superres"]} | trained))
    return project
