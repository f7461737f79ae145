"""What the pages name exists: modules and functions, files, commands with their options, settings."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from xrmflow import cli
from xrmflow.config.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
FOLDERS = "src|docs|tests|workflow|config|envs|profiles|benchmarks"
# `xrmflow.sif`, `report.html`: files of a user, which look like a name in the package or a key of a section.
FILES = ("csv", "html", "sif", "tsv")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def exists(name):
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def code(page):
    """What stands between backticks, and the lines of code blocks."""
    text = page.read_text()
    blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text) + [line for block in blocks for line in block.splitlines()]


def missing_options(line):
    """Options that a line gives to a command of ours, which has none of that name."""
    name, _, rest = line.partition("xrmflow ")[2].partition(" ")
    if not re.fullmatch(r"[a-z_0-9]+", name):
        return []
    package = "stages" if name in cli.stages() else "manage"
    text = cli.parser_for(import_module(f"xrmflow.{package}.{name}").run, name).format_help()
    known = set(re.findall(r"--[a-z-]+", text))
    given = re.findall(r"--[a-z-]+", re.split(r" && |  +|#", rest)[0])
    return [f"{name} {option}" for option in given if option not in known]


@each_page
def test_names_of_the_package_exist(page):
    named = {
        name for name in re.findall(r"(?<!/)xrmflow(?:\.[A-Za-z_]\w*)+", page.read_text()) if not name.endswith(FILES)
    }
    assert [name for name in sorted(named) if not exists(name)] == []


@each_page
def test_files_exist(page):
    named = re.findall(rf"(?<![\w/.<>*-])((?:{FOLDERS})/[\w./-]+\w)", "\n".join(code(page)))
    linked = re.findall(r"\]\((?!http)([^)#]+)", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [path for path in linked if not (page.parent / path).exists()] == []


@each_page
def test_commands_and_their_options_exist(page):
    lines = [line for line in code(page) if re.search(r"(^|&& |/)xrmflow ", line)]
    assert [option for line in lines for option in missing_options(line)] == []


@each_page
def test_settings_exist(page):
    settings = Settings()
    named = re.findall(r"`([a-z_0-9]+)\.([a-z_0-9]+)[`: ]", page.read_text())
    keys = [(name, key) for name, key in named if name in Settings.model_fields and key not in FILES]
    assert [f"{name}.{key}" for name, key in keys if not hasattr(getattr(settings, name), key)] == []
