import numpy as np
import pytest

from xrmflow.errors import RawFileError
from xrmflow.io.wedge import read_wedge


def test_transmissions_and_line_integrals_are_the_same_wedge(tmp_path):
    steps, p = np.array([0.5, 1.0, 2.0, 4.0]), np.array([0.3, 0.55, 1.0, 1.8])
    first, second = tmp_path / "t.csv", tmp_path / "p.csv"
    rows = [f"{t},{np.exp(-value)},step" for t, value in zip(steps, p, strict=True)]
    first.write_text("\n".join(["thickness_mm,transmission,note", "0,1,open", *rows]))
    second.write_text("\n".join(["thickness_mm,line_integral", *(f"{t},{v}" for t, v in zip(steps, p, strict=True))]))
    for path in (first, second):
        wedge = read_wedge(path)
        assert wedge.thickness_mm.tolist() == steps.tolist()
        assert wedge.line_integral == pytest.approx(p)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least 4 steps, got 0"),
        ("thickness_mm,transmission\n1,0.5\n", "at least 4 steps, got 1"),
        ("thickness,transmission\n1,0.5\n", "expected the columns thickness_mm"),
        ("thickness_mm,transmission\n1,half\n", "expected the columns thickness_mm"),
        ("thickness_mm,transmission\n1\n", "expected the columns thickness_mm"),
        ("thickness_mm,transmission\n1,nan\n", "not finite"),
        ("thickness_mm,transmission\n1,50\n", "between 0 and 1"),
        ("thickness_mm,line_integral\n1,1\n2,2\n3,-3\n4,4\n", "positive"),
    ],
)
def test_other_files_are_named(tmp_path, text, message):
    path = tmp_path / "wedge.csv"
    path.write_text(text)
    with pytest.raises(RawFileError, match=message) as fault:
        read_wedge(path)
    assert "wedge.csv" in str(fault.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RawFileError, match=r"none\.csv"):
        read_wedge(tmp_path / "none.csv")
