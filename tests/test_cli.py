import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from xrmflow import cli
from xrmflow.config.section import Section
from xrmflow.errors import UserError


class Params(Section):
    width_um: float = 1.0


def example(
    source: Path,
    *,
    out: Path,
    extra: Path | None,
    many: list[Path],
    mode: Literal["a", "b"] = "a",
    fast: bool = False,
    params: Params,
) -> str:
    """Do a thing.

    Args:
        source: what is read, 100 % of it.
        out: what is written,
            over two lines.
        many: several.
    """
    return f"{source} {out} {extra} {many} {mode} {fast} {params.width_um}"


def test_options_are_read_off_the_signature():
    parser = cli.parser_for(example, "example")
    arguments = ["in", "--out", "o", "--extra", "--many", "a", "b", "--fast", "--params", '{"width_um":2}']
    values = parser.parse_args(arguments)
    assert values.source == Path("in")
    assert values.out == Path("o")
    assert values.extra is None
    assert values.many == [Path("a"), Path("b")]
    assert (values.mode, values.fast, values.params.width_um) == ("a", True, 2.0)


def test_an_option_without_a_value_is_nothing_for_a_stage_and_a_slip_of_a_person(capsys):
    def tool(*, settings: Path | None = None) -> None:
        """Do a thing."""

    assert cli.parser_for(tool, "fdk").parse_args(["--settings"]).settings is None
    with pytest.raises(SystemExit):
        cli.parser_for(tool, "preview").parse_args(["--settings"])
    assert "--settings: expected one argument" in capsys.readouterr().err


def test_help_comes_from_the_docstring():
    text = cli.parser_for(example, "example").format_help()
    assert "Do a thing." in text
    assert "what is read, 100 % of it." in text
    assert "what is written, over two lines." in text
    assert "(default: a)" in text


def test_a_missing_option_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli.parser_for(example, "example").parse_args(["in"])
    assert "--out" in capsys.readouterr().err


def test_overview_lists_every_stage(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for stage in cli.stages():
        assert f"  {stage} " in shown


def test_overview_says_what_each_command_does_in_one_column():
    lines = [line for line in cli.overview().splitlines() if line.startswith("  ")]
    said = [re.fullmatch(r"  (\w+) +(\S.*)", line) for line in lines]
    assert {match[1] for match in said if match} == {*cli.stages(), *cli.TOOLS}
    assert len({match.start(2) for match in said if match}) == 1
    assert not [match[0] for match in said if match and match[2].startswith(("Stage ", match[1]))]


def test_unknown_command_suggests_the_nearest(capsys):
    assert cli.main(["flatfeld"]) == 2
    assert "did you mean 'flatfield'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        (UserError("pixel: expected 1"), 1, "error: clean: pixel: expected 1"),
        (PermissionError(13, "Permission denied", "x.yaml"), 1, "error: clean: x.yaml: Permission denied"),
        (OSError(28, "No space left on device", "x.zarr"), 1, "error: clean: the disk is full (x.zarr)"),
        (MemoryError(), 1, "error: clean: out of memory"),
        (ZeroDivisionError("oops"), 70, "error: clean: ZeroDivisionError: oops"),
    ],
)
def test_the_last_line_is_the_cause_in_words(monkeypatch, capsys, tmp_path, fault, status, says):
    def fail(name, rest):
        raise fault

    monkeypatch.setattr(cli, "_call", fail)
    assert cli.main(["clean", str(tmp_path)]) == status
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(says)


@pytest.mark.parametrize(("name", "traceback"), [("init", False), ("fdk", True)])
def test_a_file_that_may_not_be_used_is_one_line_of_a_tool(monkeypatch, capsys, name, traceback):
    def fail(name, rest):
        raise FileNotFoundError(2, "No such file or directory", "a/b.png")

    logged = []
    monkeypatch.setattr(cli, "_call", fail)
    monkeypatch.setattr(cli.logger, "exception", logged.append)
    assert cli.main([name]) == 1
    assert capsys.readouterr().err == f"error: {name}: a/b.png: No such file or directory\n"
    assert bool(logged) == traceback


def test_settings_asks_what_to_do(capsys):
    assert cli.main(["settings"]) == 1
    assert "give --check FILE or --explain" in capsys.readouterr().err


INTERRUPTED = """
import sys, time
from pathlib import Path
from xrmflow import cli
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.stores import create_volume

def half_done(name, rest):
    grid = VolumeGrid((2, 2, 2), 1.0)
    with create_volume(Path(rest[0]), quantity="label", grid=grid, calibrated=True, provenance={}):
        print("ready", flush=True)
        time.sleep(60)

cli._call = half_done
sys.exit(cli.main(["fdk", *sys.argv[1:]]))
"""


def test_a_signal_ends_a_stage_in_one_line_and_leaves_no_half_store(tmp_path):
    """What a cluster sends at the time limit, at preemption and on cancelling."""
    store = tmp_path / "volume.zarr"
    running = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    assert list(tmp_path.glob(".volume.zarr.tmp-*"))
    running.terminate()
    _, said = running.communicate(timeout=30)
    assert running.returncode == 143
    assert said.splitlines()[-1].startswith("error: fdk: ended from outside (SIGTERM: time limit, preemption")
    assert [file.name for file in tmp_path.iterdir()] == [".volume.zarr.lock"]


def test_the_memory_a_stage_reports_is_its_own_and_not_its_parents():
    """A process forked off a large one has held all of that for a moment."""
    held = b"x" * 300_000_000
    code = "from xrmflow import cli; print(cli._peak_mb())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 10 < float(said) < 200
    del held
