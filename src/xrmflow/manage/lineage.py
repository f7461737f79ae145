"""Lineage: what a result depends on besides its input files: code and settings of its stage and its ancestors.

Snakemake sees neither edits to a module that a rule's command imports nor a settings value used only inside a
command. So each rule carries a fingerprint: a hash over the static import closure of its stage (normalised syntax:
comments, docstrings and formatting do not count; data files of the packages in it do), its settings section, and the
lineages of the stages above it.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "xrmflow"
ROOT = Path(__file__).parents[1]
DATA_SUFFIXES = {".csv", ".json", ".html", ".css", ".js", ".jinja", ".cu"}

# Each stage and the stages whose results it reads, in the order of the data.
PARENTS: dict[str, tuple[str, ...]] = {
    "ingest": (),
    "flatfield": ("ingest",),
    "align": ("flatfield",),
    "cupping": ("align",),
    "cupping_protocol": ("cupping",),
    "fdk": ("cupping", "cupping_protocol"),
    "iterative": ("fdk",),
    "n2i_split": ("fdk",),
    "n2i_train": ("n2i_split",),
    "n2i_apply": ("n2i_train",),
    "sr_train": ("n2i_apply",),
    "sr_apply": ("sr_train",),
    "segment": ("fdk",),
    "morphometry": ("segment",),
    "validate": ("morphometry", "iterative", "n2i_apply", "sr_apply"),
    "collect": ("morphometry", "iterative", "n2i_apply", "sr_apply"),
    "report": ("validate", "morphometry", "iterative", "n2i_apply", "sr_apply"),
}
# The stage that writes each volume that can be measured.
WRITERS = {"volume": "fdk", "iterative": "iterative", "denoised": "n2i_apply", "superres": "sr_apply"}


def lineage(stage: str, sections: dict[str, str], *, volume: str = "volume") -> str:
    """Fingerprint of a stage: 16 hexadecimal digits.

    Args:
        stage: its name.
        sections: the canonical JSON of the settings section of every stage that takes part; an ancestor without one
        gives place to those above it.
        volume: which volume the stage works on, for `segment` and `morphometry`.
    """
    above = ancestors(stage, sections, volume=volume).values()
    text = "\n".join([stage, fingerprint(f"{PACKAGE}.stages.{stage}"), sections[stage], *above])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def ancestors(stage: str, sections: dict[str, str], *, volume: str = "volume") -> dict[str, str]:
    """The stages right above a stage, each with its lineage; see `lineage` for the arguments.

    One that takes no part in the run gives place to those above it.
    """
    found: dict[str, str] = {}
    for parent in (WRITERS[volume],) if stage == "segment" else PARENTS[stage]:
        if parent in sections:
            found[parent] = lineage(parent, sections, volume=volume)
        else:
            found |= ancestors(parent, sections, volume=volume)
    return found


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
