"""The container recipes name the version and pins of the package, copy what there is, and never run as root."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKER = (ROOT / "envs" / "Dockerfile").read_text()
APPTAINER = (ROOT / "envs" / "apptainer.def").read_text()
RECIPES = pytest.mark.parametrize("recipe", [DOCKER, APPTAINER], ids=["docker", "apptainer"])


@RECIPES
def test_torch_is_pinned_as_the_package_does_in_both_variants(recipe):
    (pin,) = (pin for pin in PROJECT["dependencies"] if pin.startswith("torch"))
    assert re.findall(r'pip install .*"(torch[^"]*)"', recipe) == [pin, pin]
    assert re.findall(r"^ +(cpu|gpu)\)", recipe, flags=re.MULTILINE) == ["cpu", "gpu"]
    assert recipe.count("download.pytorch.org/whl/cpu") == 1


@RECIPES
def test_all_other_pins_are_taken_from_the_package_itself(recipe):
    assert 'pip install --no-cache-dir -e "/opt/xrmflow[workflow]"' in recipe
    assert "workflow" in PROJECT["optional-dependencies"]
    named = {re.match(r"[\w-]+", pin)[0] for pin in PROJECT["dependencies"]} - {"torch"}
    installed = " ".join(line for line in recipe.splitlines() if "pip install" in line)
    assert not {name for name in named if re.search(rf"\b{name}\b", installed)}


def test_version_and_python_are_those_of_the_package():
    assert f"ARG VERSION={PROJECT['version']}\n" in DOCKER
    assert f"image.version {PROJECT['version']}\n" in APPTAINER
    python = PROJECT["requires-python"].removeprefix(">=")
    assert f"ARG PYTHON={python}\n" in DOCKER
    assert f"PYTHON={python}\n" in APPTAINER
    conda = (ROOT / "envs" / "xrmflow.yaml").read_text()
    assert f"python={python}\n" in conda


def test_what_is_copied_exists_and_reaches_the_builder():
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", DOCKER, flags=re.MULTILINE) for name in line.split()]
    files = APPTAINER.split("%files")[1].split("%post")[0]
    assert sorted(copied) == sorted(line.split()[0] for line in files.split("\n") if line.strip())
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_nothing_runs_as_root():
    assert re.findall(r"^USER (\S+)", DOCKER, flags=re.MULTILINE) == ["xrmflow"]
    assert DOCKER.index("USER xrmflow") > DOCKER.rindex("RUN ")
