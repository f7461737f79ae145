from pathlib import Path

import pytest
from pydantic import Field

from xrmflow.config.loader import load_settings, section_from_json
from xrmflow.config.section import Section
from xrmflow.errors import SettingsError


class Inner(Section):
    distance_mm: float = Field(default=1.0, gt=0)
    names: tuple[str, ...] = ()
    on: bool = False


class Outer(Section):
    inner: Inner = Inner()
    count: int = 1


def load(tmp_path: Path, text: str | bytes) -> Outer:
    file = tmp_path / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_settings(file, Outer)


def test_values_arrive_typed(tmp_path):
    settings = load(tmp_path, "inner:\n  distance_mm: 1e-3\n  names: [a, 'no', 08]\n  on: true\ncount: 3\n")
    assert settings == Outer(inner=Inner(distance_mm=1e-3, names=("a", "no", "08"), on=True), count=3)


def test_an_empty_file_means_all_defaults(tmp_path):
    assert load(tmp_path, "# nothing\n") == Outer()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("inner:\n  distanc_mm: 2\n", 2, "unknown key 'distanc_mm'; did you mean 'distance_mm'?"),
        ("iner: {}\n", 1, "did you mean 'inner'?"),
        ("zzz: 1\n", 1, "valid keys here: count, inner"),
        ("count: 1\ninner:\n  distance_mm: -5\n", 3, "inner.distance_mm: expected a value greater than 0, got -5"),
        ("inner:\n  distance_mm: .nan\n", 2, "got '.nan'"),
        ("inner:\n  on: yes\n", 2, "inner.on: expected true or false, got 'yes'"),
        ("count: 1\ncount: 2\n", 2, "duplicate key 'count' (first on line 1)"),
        ("count: &a 1\n", 1, "anchors and aliases"),
        ("count: !!python/object:os.system 1\n", 1, "tags"),
        ("inner:\n  <<: {on: true}\n", 2, "merge keys"),
        ("inner:\n\ton: true\n", 2, "not valid YAML"),
        ("- 1\n", 1, "expected a map of sections"),
        ("count: 1.5\n", 1, "count: expected a whole number, got 1.5"),
        ("__use_yte__: true\n", 1, "unknown key '__use_yte__'"),
        ("inner: 3\n", 1, "inner"),
        ("inner:\n  names: a\n", 2, "inner.names: expected a list, such as [1, 2], got 'a'"),
        ("inner:\n", 1, "inner: expected keys and their values, got nothing"),
        ("count: true\n", 1, "count: expected a whole number, got true"),
        ("on: true\n", 1, "unknown key 'on'; it belongs below inner:, indented"),
        ("inner: {distance_mm: 4,5}\n", 1, "unknown key '5'; decimal numbers are written with a point"),
        ("count: 1\n# inner:\n  on: true\n", 3, "below its own line (is that still commented out?)"),
        ("inner:\n on: true\n   distance_mm: 1\n", 3, "indent all keys of a section alike"),
        ("inner:\n\ton: true\n", 2, "indent with spaces, not with tabs"),
        ('inner: {names: ["C:\\Users"]}\n', 1, "write paths with /, or in single quotes"),
    ],
)
def test_faults_name_file_line_and_key(tmp_path, text, line, says):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert f"config.yaml:{line}: " in str(caught.value)
    assert says in str(caught.value)


def test_every_fault_is_reported_at_once(tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, "coun: 1\ninner:\n  distance_mm: -1\n")
    assert len(str(caught.value).splitlines()) == 2


def test_not_text_and_not_there(tmp_path):
    with pytest.raises(SettingsError, match="UTF-8"):
        load(tmp_path, b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot read"):
        load_settings(tmp_path / "absent.yaml", Outer)


def test_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    assert load(tmp_path, b"\xef\xbb\xbfcount: 2\r\n").count == 2


def test_a_section_survives_its_trip_through_a_rule():
    section = Inner(distance_mm=0.1, names=("b",), on=True)
    assert section_from_json(section.canonical(), Inner) == section
    with pytest.raises(SettingsError, match=r"distance_mm: .* got -1"):
        section_from_json('{"distance_mm": -1}', Inner)
