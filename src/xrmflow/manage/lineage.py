"""Lineage: what a result depends on besides its input files: code and settings of its stage and its ancestors.

Snakemake sees neither edits to a module that a rule's command imports nor a settings value used only inside a
command. So each job carries a fingerprint: a hash over the static import closure of its stage (normalised syntax:
comments, docstrings and formatting do not count; data files of the packages in it do), its settings section, which may
be its scan's own, and the lineages of the steps above it.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from xrmflow.manage.steps import Step, steps_above

if TYPE_CHECKING:
    from xrmflow.manage.plan import Plan

PACKAGE = "xrmflow"
ROOT = Path(__file__).parents[1]
DATA_SUFFIXES = {".csv", ".json", ".html", ".css", ".js", ".jinja", ".cu"}


class Lineages:
    """The lineages of a run's steps, each computed once."""

    def __init__(self, plan: "Plan") -> None:
        """Of the steps of a plan, with the settings of its scans."""
        self._plan = plan
        self._known: dict[Step, str] = {}

    def of(self, step: Step) -> str:
        """Fingerprint of a step: 16 hexadecimal digits."""
        if step not in self._known:
            above = (f"{name} {lineage}" for name, lineage in sorted(self.above(step).items()))
            text = [step.stage, fingerprint(f"{PACKAGE}.stages.{step.stage}"), self.section(step), *above]
            self._known[step] = hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]
        return self._known[step]

    def above(self, step: Step) -> dict[str, str]:
        """The lineage of each step right above, by what it is to this one."""
        return {name: self.of(parent) for name, parent in self.steps_above(step).items()}

    def steps_above(self, step: Step) -> dict[str, Step]:
        """The steps right above, by what each is to this one."""
        return steps_above(self._plan, step)

    def section(self, step: Step) -> str:
        """The settings of a step as one JSON line."""
        return self._plan.section(step.stage, step.scan)


@cache
def fingerprint(module: str) -> str:
    """Hash of the code and data files that a module can reach by static imports inside the package."""
    text = "\n".join(f"{name} {digest}" for name, digest in parts(module).items())
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def parts(module: str) -> dict[str, str]:
    """Hash of each module and each data file that a module can reach, by its name or path in the package."""
    modules = closure(module)
    folders = {_file(name).parent for name in modules} - {ROOT}
    data = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix in DATA_SUFFIXES)
    code = {name: _syntax(name) for name in sorted(modules)}
    return code | {str(file.relative_to(ROOT)): hashlib.sha256(file.read_bytes()).hexdigest() for file in data}


def closure(module: str) -> set[str]:
    """The module and every module of the package it imports, directly or through others, anywhere in their code."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imports(name)
    return found


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text())


def _imports(module: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == PACKAGE and _exists(name)]


def _exists(module: str) -> bool:
    return _file(module).is_file()


def _file(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")


@cache
def _syntax(module: str) -> str:
    """Hash of a module's code with docstrings removed, as printed from its syntax tree."""
    tree = ast.parse(_file(module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
