"""Bad settings files and tables of scans: refused before anything is computed, with file, line and what to do."""

import itertools
import re

import pytest

from xrmflow.config.loader import load_settings
from xrmflow.config.scans import load_scans
from xrmflow.config.settings import Settings
from xrmflow.errors import SettingsError

pytestmark = pytest.mark.faults

GOOD = """\
scans: scans.tsv
results: results
measure: [volume, denoised]
storage:
  keep: standard
ingest:
  angle_sign: 1
flatfield:
  rings: offset
  ring_size_px: 11
align:
  roll: true
  slices: 7
cupping:
  degree: 2
fdk:
  window: hann
  memory_gb: 4.0
n2i_train:
  steps: 100
  learning_rate: 0.003
segment:
  lacunae: true
report:
  title: Tibiae
"""
LINES = GOOD.splitlines()
KEYS = [(n, line.split(":")[0].strip()) for n, line in enumerate(LINES, start=1)]
NUMERIC = [n for n, line in enumerate(LINES, start=1) if re.search(r": [\d.]+$", line)]
WORDS = [n for n, line in enumerate(LINES, start=1) if re.search(r"(keep|rings|window): \w+$", line)]
BOOLEANS = [n for n, line in enumerate(LINES, start=1) if line.endswith("true")]


def with_line(number, text):
    return "\n".join([*LINES[: number - 1], text, *LINES[number:]]) + "\n"


def value(number, text):
    return with_line(number, LINES[number - 1].rsplit(": ", 1)[0] + f": {text}")


def typos():
    """Each key with a letter doubled, and with two letters swapped: the message knows which was meant."""
    for number, key in KEYS:
        for wrong in (key[:2] + key[1:], key[0] + key[2] + key[1] + key[3:]):
            if wrong != key:
                yield (
                    f"{key} as {wrong}",
                    with_line(number, LINES[number - 1].replace(key, wrong, 1)),
                    number,
                    repr(key),
                )


def wrong_values():
    for number, text in itertools.product(NUMERIC, ("many", "'1'", "[1]", "true", "null", "-7", "1e400", ".nan")):
        yield f"line {number}: {text}", value(number, text), number, "got"
    for number, text in itertools.product(WORDS, ("Standard", "7", "[hann]", "''")):
        yield f"line {number}: {text}", value(number, text), number, "got"
    for number, text in itertools.product(BOOLEANS, ("yes", "1", "'true'", "on")):
        yield f"line {number}: {text}", value(number, text), number, "got"


def broken_yaml():
    for number, key in KEYS:
        yield f"{key} twice", with_line(number, f"{LINES[number - 1]}\n{LINES[number - 1]}"), None, "duplicate key"
    for number in range(2, len(LINES), 3):
        yield f"tab on line {number}", with_line(number, "\t" + LINES[number - 1]), None, "not valid YAML"
    for text, says in (
        ("a: &x 1", "anchors"),
        ("a: *x", "anchors"),
        ("<<: {a: 1}", "merge keys"),
        ("a: !!python/object/apply:os.system [true]", "tags"),
        ("a: !!python/name:os.system", "tags"),
        ("a: !include /etc/passwd", "tags"),
        ("__use_yte__: true", "unknown key"),
        ("?x: 1", "unknown key"),
        ("__definitions__: [import os]", "unknown key"),
        ("? [a, b]\n: 1", "plain key"),
        ("a: [1, 2", "not valid YAML"),
        ("a: 'open", "not valid YAML"),
        ("a: " + "[" * 50 + "]" * 50, "nested deeper"),
        ("a: {" * 3000, "nested deeper"),
        ("---\na: 1\n---\nb: 2", "YAML"),
        ("a: \x00", "YAML"),
        ("a: \x07", "YAML"),
    ):
        yield text[:40], GOOD + text + "\n", None, says


CASES = [*typos(), *wrong_values(), *broken_yaml()]
WHOLE = {
    "a list": b"- 1\n- 2\n",
    "a word": b"word\n",
    "a number": b"7\n",
    "not UTF-8": b"\xff\xfe\x00\x01",
    "bytes": bytes(range(256)) * 20,
    "UTF-16": GOOD.encode("utf-16"),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "huge": b"# " + b"x" * 2_000_000,
    "a long key": b"k" * 100_000 + b": 1\n",
    "brackets": b"[" * 100_000,
    "braces": b"{a: " * 100_000,
    "dashes": b"- " * 50_000,
    "laughs": b"a: &a [x]\nb: [*a, *a]\n",
}


def test_there_are_enough_of_them(tmp_path):
    assert len(CASES) + len(WHOLE) >= 150
    (tmp_path / "config.yaml").write_text(GOOD)
    load_settings(tmp_path / "config.yaml", Settings)


@pytest.mark.parametrize(("name", "text", "line", "says"), CASES, ids=[f"{n}" for n in range(len(CASES))])
def test_a_bad_file_is_refused_with_its_line(name, text, line, says, tmp_path, attempt):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    said = attempt(lambda: load_settings(file, Settings), name).said
    assert said, f"{name}: accepted"
    found = re.match(rf"{re.escape(str(file))}:(\d+): ", said)
    assert found, f"{name}: {said}"
    if line is not None:
        assert int(found[1]) == line, f"{name}: {said}"
    assert says in said, f"{name}: {said}"


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_no_settings_file_is_refused(name, tmp_path, attempt):
    file = tmp_path / "config.yaml"
    file.write_bytes(WHOLE[name])
    said = attempt(lambda: load_settings(file, Settings), name).said
    assert said.startswith(f"{file}"), f"{name}: {said[:200]}"
    assert len(said) < 1_000_000


HOSTILE_IDS = [
    "..", "../a", "a/b", "/abs", "a\\b", ".hidden", "-rf", "a b", "a;b", "$(id)", "`id`", "a|b", "a&b", "a>b", "*", "?",
    "{scan}", "~", "a\u0000b", "ü", "a\u202eb", "a\u2028b", "x" * 65, "'", '"', "a.b", "%2e%2e", "", "logs",
    "protocols", "benchmarks", "a\rb", "a\x0bb", "a\x0cb", "a\u0085b", "CON:", "a\x1bb",
]  # fmt: skip


@pytest.mark.parametrize("column", ["scan", "protocol"])
@pytest.mark.parametrize("name", HOSTILE_IDS, ids=[str(n) for n in range(len(HOSTILE_IDS))])
def test_ids_that_could_lead_elsewhere_are_refused(name, column, tmp_path, attempt):
    if column == "protocol" and name in ("", '"', "logs", "benchmarks", "protocols"):
        pytest.skip("a protocol may be empty or have these names: it has a folder of its own")
    (tmp_path / "a.txrm").touch()
    cells = {"scan": "good", "source": "a.txrm", "protocol": "good"} | {column: name}
    table = tmp_path / "scans.tsv"
    table.write_bytes(("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n").encode())
    said = attempt(lambda: load_scans(table), repr(name)).said
    assert said.startswith(f"{table}"), repr(name)
    assert "\n" not in said


@pytest.mark.parametrize("name", [*HOSTILE_IDS[:27], "a\nb", "x" * 65])
def test_a_model_id_that_could_lead_elsewhere_is_refused(name, tmp_path):
    file = tmp_path / "config.yaml"
    quoted = "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in name)
    file.write_text(f'model: "{quoted}"\n')
    with pytest.raises(SettingsError):
        load_settings(file, Settings)
