"""The command line: `xrmflow COMMAND …`, one command a stage and one a tool.

Nothing heavy is imported here. A command's module is imported when it is called, and its options are read off the
signature and docstring of its `run` function: keyword-only parameters are options, the others positional.
"""

import argparse
import ast
import errno
import inspect
import logging
import os
import re
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from xrmflow.config.loader import section_from_json
from xrmflow.config.section import Section
from xrmflow.errors import UserError

HERE = Path(__file__).parent
TOOLS = (
    *("init", "inspect", "preview", "simulate", "estimate", "why"),
    *("verify", "load", "export", "clean", "settings", "usage", "gather"),
)
# The last line of a stage's log, which `xrmflow usage` reads.
USED = "used %.1f s, %.0f MB"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger("xrmflow")


class Terminated(BaseException):
    """The process was asked to end: what is half done is cleared away on the way out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 a fault the user can mend, 2 wrong use, 70 a bug)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"xrmflow {version('xrmflow')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in (*stages(), *TOOLS):
        print(f"error: unknown command {name!r}{_nearest(name)}; `xrmflow --help` lists them", file=sys.stderr)
        return 2
    return _guarded(name, rest)


def stages() -> tuple[str, ...]:
    """Names of all stages, in the order of the data."""
    from xrmflow.manage.steps import STAGES

    return STAGES


def overview() -> str:
    """The text of `xrmflow --help`."""
    lines = ["usage: xrmflow COMMAND [options]     (`xrmflow COMMAND --help` explains one)", "", "Tools:"]
    width = max(map(len, (*TOOLS, *stages())))
    lines += [f"  {name:<{width}}  {_summary('manage', name)}" for name in TOOLS]
    lines += ["", "Stages (run for you by Snakemake, in this order):"]
    lines += [f"  {name:<{width}}  {_summary('stages', name)}" for name in stages()]
    lines += ["", "A first run:  xrmflow init scan.txrm && snakemake --cores all --config settings=config.yaml"]
    return "\n".join(lines)


def _guarded(name: str, rest: list[str]) -> int:
    """Run a command so that its last line says in words what went wrong."""
    _prepare_process()
    try:
        _call(name, rest)
    except Terminated:
        print(
            f"error: {name}: ended from outside (SIGTERM: time limit, preemption or cancelled); "
            "nothing half done is left, and the same command goes on from here",
            file=sys.stderr,
        )
        return 128 + signal.SIGTERM
    except UserError as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno in DISK_FULL:
            print(
                f"error: {name}: the disk is full ({error.filename or error}); free space and run the same command",
                file=sys.stderr,
            )
            return 1
        # Of a tool, a file it may not use needs no traceback; the log of a stage keeps it.
        if error.filename is None or name in stages():
            logger.exception("unexpected fault")
        named = f"{error.filename}: {error.strerror}" if error.filename else error
        print(f"error: {name}: {named}", file=sys.stderr)
        return 1
    except MemoryError:
        print(f"error: {name}: out of memory; lower memory_gb in the settings or give the job more", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"error: {name}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        logger.exception("unexpected fault: please report it")
        print(f"error: {name}: {type(error).__name__}: {error}", file=sys.stderr)
        return 70
    return 0


def _prepare_process() -> None:
    """Keep compiled kernels in one folder a user, machine and version of the code: see docs/decisions/0004."""
    import platform

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache / "xrmflow" / "numba" / platform.node() / _code_version()))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, _: Any) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Terminated


def _code_version() -> str:
    """Changes with any file of the package: numba itself does not see edits to what a kernel calls in another file."""
    import hashlib

    states = ((file, file.stat()) for file in sorted(HERE.rglob("*.py")))
    text = "\n".join(f"{file.relative_to(HERE)} {state.st_size} {state.st_mtime_ns}" for file, state in states)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _call(name: str, rest: list[str]) -> None:
    is_stage = name in stages()
    if is_stage:
        from xrmflow.io.heap import share_heap

        share_heap()
    function = import_module(f"xrmflow.{'stages' if is_stage else 'manage'}.{name}").run
    parser = parser_for(function, name)
    if is_stage:
        parser.add_argument("--lineage", help="fingerprint of code and settings, recorded in the provenance")
    values = vars(parser.parse_args(rest))
    from xrmflow.io.log import configure

    configure()
    if is_stage:
        os.environ["XRMFLOW_LINEAGE"] = values.pop("lineage") or ""
        _make_room()
    positional = [
        values.pop(p.name) for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY
    ]
    begin, before = time.monotonic(), _states(values)
    result = function(*positional, **values)
    if is_stage:
        _note_checksums(before, _states(values))
        logger.info(USED, time.monotonic() - begin, _peak_mb())
    if isinstance(result, str):
        print(result)


def _states(values: dict[str, Any]) -> dict[Path, tuple[int, int]]:
    """Inode and time of every file among a stage's arguments; stores have checksums of their own."""
    items = [item for value in values.values() for item in (value if isinstance(value, list) else [value])]
    files = {item for item in items if isinstance(item, Path) and item.is_file() and item.parent.suffix != ".zarr"}
    return {file: ((state := file.stat()).st_ino, state.st_mtime_ns) for file in files}


def _note_checksums(before: dict[Path, tuple[int, int]], after: dict[Path, tuple[int, int]]) -> None:
    """Keep the checksums of what a stage has written, for `xrmflow verify`."""
    from xrmflow.io.sums import note

    for file in sorted(file for file, state in after.items() if before.get(file) != state):
        note(file)


def _peak_mb() -> float:
    """Peak memory of this program, 1e6 bytes; getrusage would count what its parent held when it was forked."""
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _make_room() -> None:
    """Delete the chunks of stores whose manifest Snakemake has removed, because the settings do not keep them."""
    results = os.environ.get("XRMFLOW_RESULTS")
    if results:
        from xrmflow.manage.clean import sweep

        sweep(Path(results))


def parser_for(function: Callable[..., Any], name: str) -> argparse.ArgumentParser:
    """Build the parser of a command from the signature and docstring of its function."""
    text, helps = _docstring(function)
    parser = argparse.ArgumentParser(
        prog=f"xrmflow {name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        keywords = _argument(parameter.annotation)
        given_help = helps.get(parameter.name, "")
        required = parameter.default is parameter.empty and not _optional(parameter.annotation)
        if parameter.kind is not parameter.KEYWORD_ONLY:
            parser.add_argument(parameter.name, help=given_help, **keywords)
            continue
        default = None if parameter.default is parameter.empty else parameter.default
        shown = f" (default: {default})" if default not in (None, False, ()) else ""
        flag = f"--{parameter.name.replace('_', '-')}"
        if name in TOOLS and keywords.get("nargs") == "?":
            # Rules give stages an option without a value where there is nothing; of a person that is a slip.
            del keywords["nargs"]
        if keywords.get("action") != "store_true":
            keywords |= {"required": required, "default": default}
        parser.add_argument(flag, dest=parameter.name, help=given_help + shown, **keywords)
    return parser


def _argument(annotation: Any) -> dict[str, Any]:
    """Argparse keywords for a type: Path, str, int, float, bool, Literal, a settings section; a list of it, or None."""
    if _optional(annotation):
        inner = next(a for a in get_args(annotation) if a is not type(None))
        keywords = _argument(inner)
        return keywords if "nargs" in keywords else keywords | {"nargs": "?"}
    origin = get_origin(annotation)
    if origin is list:
        return _argument(get_args(annotation)[0]) | {"nargs": "*"}
    if origin is Literal:
        return {"choices": get_args(annotation)}
    if annotation is bool:
        return {"action": "store_true"}
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return {"type": lambda text: section_from_json(text, annotation), "metavar": "JSON"}
    return {"type": annotation}


def _optional(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Split a docstring into its text and the help of each argument."""
    text = inspect.getdoc(function) or ""
    body, _, arguments = text.partition("\nArgs:\n")
    arguments = re.split(r"\n(?=\S)", arguments)[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", arguments, flags=re.MULTILINE)
    return body.strip(), {name: " ".join(line.split()).replace("%", "%%") for name, line in found}


def _summary(package: str, name: str) -> str:
    """First line of a command's module docstring, read without importing it."""
    file = HERE / package / f"{name}.py"
    text = ast.get_docstring(ast.parse(file.read_text())) if file.exists() else None
    line = (text or "").split("\n")[0].removeprefix(f"Stage {name}: ")
    return line[:1].upper() + line[1:]


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, (*stages(), *TOOLS), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


if __name__ == "__main__":
    sys.exit(main())
