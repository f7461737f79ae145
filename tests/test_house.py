"""The shape of the house: one name a stage everywhere, empty package files, light start-up."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xrmflow.config.settings import Settings
from xrmflow.manage.steps import STAGES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "xrmflow"
RULES = "".join(file.read_text() for file in (ROOT / "workflow" / "rules").glob("*.smk"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_name_everywhere(stage):
    assert re.search(rf"^rule {stage}:$", RULES, flags=re.MULTILINE)
    assert (SOURCE / "stages" / f"{stage}.py").is_file()
    assert (SOURCE / "config" / f"{stage}.py").is_file()
    assert (ROOT / "tests" / "stages" / f"test_{stage}.py").is_file()
    assert f"/logs/{stage}" in RULES
    assert f"/benchmarks/{stage}" in RULES
    assert type(Settings().section(stage)).__module__ == f"xrmflow.config.{stage}"


def test_no_stage_is_left_out_of_the_graph():
    files = {file.stem for file in (SOURCE / "stages").glob("*.py")} - {"__init__"}
    assert files == set(STAGES)


def test_package_files_import_nothing():
    for file in SOURCE.rglob("__init__.py"):
        assert not [node for node in ast.parse(file.read_text()).body if not isinstance(node, ast.Expr)], file


@pytest.mark.parametrize("module", ["xrmflow.cli", "xrmflow.config.settings", "xrmflow.manage.lifecycle"])
def test_starting_up_imports_nothing_heavy(module):
    heavy = ("torch", "numba", "zarr", "scipy", "matplotlib")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_rule_declares_log_benchmark_memory_and_two_params():
    rules = re.split(r"^rule ", RULES, flags=re.MULTILINE)[1:]
    for rule in rules:
        name = rule.split(":")[0]
        for part in ("log:", "benchmark:", "mem_mb=", "conda:", "message:"):
            assert part in rule, f"rule {name}: no {part}"
        params = re.search(r"params:\n((?: {8}.*\n)+)", rule)
        assert params
        assert re.findall(r"^ {8}(\w+)=", params.group(1), flags=re.MULTILINE) == ["section", "lineage"], name


def test_every_command_quotes_its_paths():
    """Folders of results and models may have spaces in their names, as those of raw scans."""
    commands = re.findall(r"^ {4}shell:\n((?: {8}.*\n)+)", RULES, flags=re.MULTILINE)
    assert len(commands) == len(re.findall(r"^rule ", RULES, flags=re.MULTILINE))
    assert not re.findall(r"\{(?:input|output|log)[\w.]*\}", "".join(commands))


def test_the_settings_page_is_up_to_date():
    from xrmflow.manage.settings import explanation

    assert (ROOT / "config" / "README.md").read_text() == explanation(), (
        "run: xrmflow settings --explain > config/README.md"
    )


def test_every_setting_says_what_it_means():
    for stage in STAGES:
        for name, field in type(Settings().section(stage)).model_fields.items():
            said = field.description or ""
            assert said.endswith((".", ".)")), f"{stage}.{name}: a sentence that says what it means"
            assert said[:1].isupper() or not said[:1].isalpha(), f"{stage}.{name}: a sentence begins with a capital"


def test_conda_environments_hold_the_same_pins():
    """The same versions whichever way it is installed; some packages have other names on conda-forge."""
    import tomllib

    import yaml

    names = {"matplotlib": "matplotlib-base", "torch": "pytorch", "snakemake": "snakemake-minimal"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [*project["dependencies"], *project["optional-dependencies"]["workflow"]]
    wanted = {re.sub(r"^[\w-]+", lambda m: names.get(m[0], m[0]), pin) for pin in pins}
    for variant, torch in (("xrmflow", "pytorch"), ("xrmflow-gpu", "pytorch-gpu")):
        listed = yaml.safe_load((ROOT / "envs" / f"{variant}.yaml").read_text())["dependencies"]
        found = {pin.replace(torch, "pytorch") for pin in listed if isinstance(pin, str)}
        assert found - {"pip", "python=3.11"} == wanted
