"""The examples run, in small, and do what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


def example(name):
    return runpy.run_path(str(EXAMPLES / name), run_name="example")["main"]


def test_the_gallery_draws_its_picture_and_prints_its_table(tmp_path, capsys):
    out = tmp_path / "images" / "gallery.png"
    sizes = ["--size", "40", "--views", "16", "--effort", "0.3"]
    example("iterative_gallery.py")([*sizes, "--out", str(out)])
    assert out.read_bytes().startswith(b"\x89PNG")
    table = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    quality = {row[0].strip(): float(row[4]) for row in table}
    assert len(quality) == 7
    assert quality["TV (PDHG)"] > max(quality["FDK"], quality["FDK, Hann"]) + 2


def test_learned_primal_dual_learns_to_be_better_than_fdk():
    """A few steps already beat what it starts from."""
    quality = example("learned_primal_dual.py")(["--size", "24", "--views", "16", "--rounds", "2", "--steps", "40"])
    assert quality["learned primal-dual"] > max(quality["FDK, ram-lak"], quality["FDK, Hann"]) + 1


@pytest.fixture(autouse=True)
def plain_pictures():
    """Leave matplotlib as it was for other tests."""
    import matplotlib as mpl

    before = mpl.rcParams.copy()
    yield
    mpl.rcParams.update(before)
