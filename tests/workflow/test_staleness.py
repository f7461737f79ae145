"""The staleness table: what is done to a finished run, and exactly which jobs it makes stale.

`pytest -m staleness tests/workflow` tests the whole table by dry runs and some rows by real runs; a sample of it is
tested every time. What is expected is written out here, job by job, and not taken from the code that decides it.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from xrmflow.manage.steps import STAGES

# The tiny run has three scans: bone (measured), pair_low (networks learn from it) and pair_high (its partner).
# Each set holds a stage and its heirs: how many jobs of each rule.
REPORT = {"report": 1}
COLLECT = {"collect": 1}
VALIDATE = {"validate": 1} | REPORT
MORPHOMETRY = {"morphometry": 3} | VALIDATE | COLLECT
SEGMENT = {"segment": 3} | MORPHOMETRY
SR_APPLY = {"sr_apply": 1} | SEGMENT | {"segment": 1, "morphometry": 1}
SR_TRAIN = {"sr_train": 1} | SR_APPLY
N2I_APPLY = {"n2i_apply": 2} | SR_TRAIN | {"segment": 2, "morphometry": 2}
N2I_TRAIN = {"n2i_train": 1} | N2I_APPLY
N2I_SPLIT = {"n2i_split": 2} | N2I_TRAIN
FDK = {"fdk": 3} | N2I_SPLIT | SEGMENT
CUPPING = {"cupping": 3} | FDK
ALIGN = {"align": 3} | CUPPING
# raw.zarr is not kept, and so it is made anew for whoever reads it.
FLATFIELD = {"flatfield": 3, "ingest": 3} | ALIGN
NOTHING: dict[str, int] = {}


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        name: what is done.
        expected: rule -> how many of its jobs are stale then.
        settings: sections or keys to change in the settings file.
        code: source file -> (old, new) text, or the text to add at its end.
        act: anything else that is done to the project.
        arguments: of the command.
        environment: of the command.
        sample: whether the case is among those that are tested every time.
    """

    name: str
    expected: dict[str, int]
    settings: dict[str, Any] = field(default_factory=dict)
    code: dict[str, str | tuple[str, str]] = field(default_factory=dict)
    act: Callable[[Path], object] | None = None
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    sample: bool = False

    def apply(self, root: Path) -> None:
        """Do to a copy of the project what the case says."""
        if self.settings:
            _change_settings(root / "run" / "config.yaml", self.settings)
        for name, change in self.code.items():
            _edit(root / "src" / "xrmflow" / name, change)
        if self.act:
            self.act(root)


def _change_settings(file: Path, changes: dict[str, Any]) -> None:
    settings = yaml.safe_load(file.read_text())
    for name, value in changes.items():
        settings[name] = settings.get(name, {}) | value if isinstance(value, dict) else value
    file.write_text(yaml.safe_dump(settings))


def _edit(file: Path, change: str | tuple[str, str]) -> None:
    text = file.read_text()
    old, new = change if isinstance(change, tuple) else ("", change)
    assert old in text, f"{file}: no {old!r}"
    # Written beside and renamed: the copy may share its files with others.
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(text.replace(old, new, 1) if old else text + new)
    beside.replace(file)


# what is done to files ---------------------------------------------------------------------------------------------


def touch(*names: str) -> Callable[[Path], None]:
    """Make files look newer."""

    def act(root: Path) -> None:
        for name in names:
            found = list((root / "run").glob(name))
            assert found, name
            for file in found:
                os.utime(file)

    return act


def flip(name: str, *, at: int = 1000) -> Callable[[Path], None]:
    """Change one byte of a file; its size stays."""

    def act(root: Path) -> None:
        data = bytearray((root / "run" / name).read_bytes())
        data[at % len(data)] ^= 1
        (root / "run" / name).write_bytes(data)

    return act


def remove(*names: str) -> Callable[[Path], None]:
    """Delete files."""

    def act(root: Path) -> None:
        for name in names:
            (root / "run" / name).unlink()

    return act


def append(name: str, text: str) -> Callable[[Path], None]:
    """Add text at the end of a file of the project."""

    def act(root: Path) -> None:
        with (root / name).open("a") as file:
            file.write(text)

    return act


def table(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Change the lines of the table of scans."""

    def act(root: Path) -> None:
        file = root / "run" / "scans.tsv"
        file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")

    return act


def move(root: Path) -> None:
    """Move the project elsewhere, and leave a link to nowhere."""
    root.rename(root.with_name("elsewhere"))
    root.with_name("elsewhere").rename(root)
    for file in root.rglob("*"):
        if file.is_file():
            os.utime(file, (1e9, 1e9))


def rename_scan_file(root: Path) -> None:
    """The same frames under another name."""
    (root / "run" / "bone.txrm").rename(root / "run" / "other.txrm")
    _edit(root / "run" / "scans.tsv", ("bone.txrm", "other.txrm"))


def add_volume(root: Path) -> None:
    """A row of the table whose source is a volume: planning reads no more of it than its first bytes."""
    (root / "run" / "tibia.isq").write_bytes(b"CTDATA-HEADER_V1" + bytes(600))
    table(lambda rows: [*rows, "tibia\ttibia.isq"])(root)


def own(scan: str, text: str) -> Callable[[Path], None]:
    """Give a scan settings of its own: a file beside the table, named in a column."""

    def act(root: Path) -> None:
        (root / "run" / f"{scan}.yaml").write_text(text)
        file = root / "run" / "scans.tsv"
        header, *rows = [line.split("\t") for line in file.read_text().splitlines()]
        column = header.index("settings") if "settings" in header else len(header)
        header += ["settings"] * (column == len(header))
        rows = [row + [""] * (len(header) - len(row)) for row in rows]
        for row in rows:
            row[column] = f"{scan}.yaml" if row[0] == scan else row[column]
        file.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n")

    return act


UNUSED = "\nUNUSED = 1\n"
COMMENT = ("\nimport ", "\n# a comment\n\n\nimport ")

SETTINGS = [
    Case("ingest.angle_sign", FLATFIELD, {"ingest": {"angle_sign": -1}}),
    Case("ingest.pixel_size_um", FLATFIELD, {"ingest": {"pixel_size_um": 20.0}}),
    Case("import_volume.slope_per_mm without volumes", NOTHING, {"import_volume": {"slope_per_mm": 2.0}}),
    Case("flatfield.rings", FLATFIELD, {"flatfield": {"rings": "none"}}),
    Case("flatfield.ring_size_px", FLATFIELD, {"flatfield": {"ring_size_px": 13}}),
    Case("align.roll", ALIGN, {"align": {"roll": False}}),
    Case("align: two booleans swapped", ALIGN, {"align": {"roll": False, "check_angles": True}}),
    Case("align.slices", ALIGN, {"align": {"slices": 5}}),
    Case("cupping.degree", CUPPING, {"cupping": {"degree": 3}}, sample=True),
    Case("cupping.method", CUPPING, {"cupping": {"method": "none"}}),
    Case(
        "cupping.curve",
        CUPPING,
        {"cupping": {"method": "curve", "curve": "run/wedge.csv"}},
        act=append("run/wedge.csv", "thickness_mm,line_integral\n1,1\n2,1.9\n3,2.7\n4,3.4\n"),
    ),
    Case("cupping_protocol.scope without protocols", NOTHING, {"cupping_protocol": {"scope": "scan"}}),
    Case("fdk.window", FDK, {"fdk": {"window": "hann"}}),
    Case("fdk.memory_gb", FDK, {"fdk": {"memory_gb": 3.0}}),
    Case("iterative.nonnegative where it is not measured", NOTHING, {"iterative": {"nonnegative": False}}),
    Case("n2i_split.memory_gb", N2I_SPLIT, {"n2i_split": {"memory_gb": 3.0}}),
    Case("n2i_train.steps", N2I_TRAIN, {"n2i_train": {"steps": 21}}),
    Case("n2i_train.seed", N2I_TRAIN, {"n2i_train": {"seed": 1}}),
    Case("n2i_apply.tile_px", N2I_APPLY, {"n2i_apply": {"tile_px": 256}}),
    Case("sr_train.steps", SR_TRAIN, {"sr_train": {"steps": 21}}, sample=True),
    Case("sr_apply.tile_px", SR_APPLY, {"sr_apply": {"tile_px": 256}}),
    Case("segment.lacunae", SEGMENT, {"segment": {"lacunae": False}}),
    Case("segment.sigma_um", SEGMENT, {"segment": {"sigma_um": 9.0}}),
    Case("morphometry.thickness", MORPHOMETRY, {"morphometry": {"thickness": False}}),
    Case("morphometry: two booleans", MORPHOMETRY, {"morphometry": {"lacunae": False, "correct_blur": False}}),
    Case("validate.centre_px", VALIDATE, {"validate": {"centre_px": 0.3}}),
    Case("collect.symbols", COLLECT, {"collect": {"symbols": ["BV/TV"]}}),
    Case("report.title", REPORT, {"report": {"title": "Another title"}}),
    Case("a key set to its default", NOTHING, {"cupping": {"degree": 2}, "fdk": {"window": "ram-lak"}}),
    Case("a float written as an integer", NOTHING, {"fdk": {"memory_gb": 4}}),
    Case("two sections", CUPPING, {"cupping": {"degree": 3}, "report": {"title": "Another title"}}),
    Case("device", NOTHING, {"device": "cpu"}),
    Case("jobs.part_gb", NOTHING, {"jobs": {"part_gb": 0.001}}),
    Case("storage.check_free_space", NOTHING, {"storage": {"check_free_space": False}}),
    Case("storage.keep: final", NOTHING, {"storage": {"keep": "final"}}),
    Case("storage.keep: all", FLATFIELD, {"storage": {"keep": "all"}}),
    Case("model", N2I_TRAIN, {"model": "second"}),
    Case(
        "measure: no super-resolution",
        VALIDATE | COLLECT,
        {"measure": ["volume", "denoised"]},
    ),
    Case(
        "measure: iterative as well",
        {"iterative": 1, "segment": 1, "morphometry": 1} | VALIDATE | COLLECT,
        {"measure": ["volume", "iterative", "denoised", "superres"]},
    ),
]

# A stage's own file, and a module or a kernel that it reaches.
CODE = [
    ("stages/ingest.py", FLATFIELD),
    ("stages/import_volume.py", NOTHING),
    ("stages/flatfield.py", FLATFIELD),
    ("stages/align.py", ALIGN),
    ("stages/cupping.py", CUPPING),
    ("stages/cupping_protocol.py", NOTHING),
    ("stages/fdk.py", FDK),
    ("stages/iterative.py", NOTHING),
    ("stages/n2i_split.py", N2I_SPLIT),
    ("stages/n2i_train.py", N2I_TRAIN),
    ("stages/n2i_apply.py", N2I_APPLY),
    ("stages/sr_train.py", SR_TRAIN),
    ("stages/sr_apply.py", SR_APPLY),
    ("stages/segment.py", SEGMENT),
    ("stages/morphometry.py", MORPHOMETRY),
    ("stages/validate.py", VALIDATE),
    ("stages/collect.py", COLLECT),
    ("stages/report.py", REPORT),
    ("io/read_txrm.py", FLATFIELD),
    ("correction/rings.py", FLATFIELD),
    ("calibration/centre.py", ALIGN),
    ("calibration/homogeneity.py", CUPPING),
    ("projectors/columns.py", ALIGN),
    ("reconstruction/grids.py", FDK),
    ("io/splits.py", N2I_TRAIN),
    ("networks/unet.py", N2I_SPLIT),
    ("superresolution/paired.py", SR_TRAIN),
    ("morphometry/segmentation.py", SEGMENT),
    ("morphometry/thickness.py", MORPHOMETRY),
    ("metrics/detection.py", VALIDATE),
    ("morphometry/study.py", COLLECT),
    ("report/page.py", REPORT),
    ("errors.py", FLATFIELD),
    ("manage/init.py", NOTHING),
    ("cli.py", NOTHING),
]
CODE_CASES = [
    Case(f"{file} edited", expected, code={file: UNUSED}, sample=file == "correction/rings.py")
    for file, expected in CODE
] + [
    Case("a kernel's arithmetic", ALIGN, code={"projectors/columns.py": ("1.0", "1.25")}),
    Case("a number in a function", MORPHOMETRY, code={"morphometry/thickness.py": ("0.5", "0.75")}),
    Case(
        "comments and layout", NOTHING, code={"io/stores.py": COMMENT, "cli.py": COMMENT, "projectors/cpu.py": COMMENT}
    ),
    Case("docstrings", NOTHING, code={f"stages/{stage}.py": ('"""', '"""Other. ') for stage in ("fdk", "report")}),
    Case("a table of numbers", VALIDATE, code={"phantom/tables/spectra.csv": "# another line\n"}),
    Case("a style sheet", REPORT, code={"report/templates/style.css": "p { margin: 0 }\n"}),
    Case("a new module that nothing imports", NOTHING, act=append("src/xrmflow/correction/new.py", UNUSED)),
]

DOWN = {"align": 1, "cupping": 1, "fdk": 1}
FILES = [
    Case(
        "bytes of a measured scan that networks learn from",
        N2I_TRAIN | {"ingest": 1, "flatfield": 1, "n2i_split": 1} | DOWN | SEGMENT,
        act=flip("bone.txrm", at=-2000),
        sample=True,
    ),
    Case(
        "bytes of a high-resolution partner",
        SR_TRAIN | {"ingest": 1, "flatfield": 1} | DOWN,
        act=flip("pair_high.h5", at=-2000),
    ),
    Case(
        "bytes of a scan that only networks learn from",
        N2I_TRAIN | {"ingest": 1, "flatfield": 1, "n2i_split": 1} | DOWN,
        act=flip("pair_low.h5", at=-2000),
    ),
    Case("bytes of the truth", VALIDATE, act=flip("bone.truth/truth.json", at=-3)),
    Case(
        "a scan's file under another name",
        N2I_TRAIN | {"ingest": 1, "flatfield": 1, "n2i_split": 1} | DOWN | SEGMENT,
        act=rename_scan_file,
    ),
    Case("raw files touched", NOTHING, act=touch("*.txrm", "*.h5"), sample=True),
    Case("settings and table touched", NOTHING, act=touch("config.yaml", "scans.tsv")),
    Case("every manifest touched", NOTHING, act=touch("results/*/*.zarr/manifest.json", "results/*/*.json")),
    Case("a comment in the settings", NOTHING, act=append("run/config.yaml", "\n# a comment\n")),
    Case("a moved folder with old time stamps", NOTHING, act=move),
    Case("a row of the table moved", COLLECT, act=table(lambda rows: [rows[0], *rows[:0:-1]])),
    Case("a comment in the table", COLLECT, act=append("run/scans.tsv", "# a comment\n")),
    Case("a store's leftovers", NOTHING, act=append("run/results/bone/.volume.zarr.lock", "x")),
    Case("a deleted log", NOTHING, act=remove("results/bone/logs/fdk.log")),
]

NEW_ROW = "second\tbone.txrm\ttest"
SCANS = [
    Case(
        "a new scan",
        {"ingest": 1, "flatfield": 1, "n2i_split": 1, "n2i_apply": 1, "sr_apply": 1}
        | DOWN
        | {"segment": 3, "morphometry": 3}
        | REPORT
        | COLLECT,
        act=table(lambda rows: [*rows, NEW_ROW]),
        sample=True,
    ),
    Case(
        "a scan and its partner removed: one scan to learn from, and no super-resolution",
        {"n2i_train": 1, "n2i_apply": 1, "segment": 1, "morphometry": 1} | VALIDATE | COLLECT,
        act=table(lambda rows: rows[:2]),
    ),
    Case(
        "a scan that is measured no longer",
        NOTHING,
        act=table(lambda rows: [row.replace("\ttrain\t", "\ttrain-only\t") for row in rows]),
    ),
    Case(
        "a volume that is reconstructed already",
        {"import_volume": 1, "segment": 1, "morphometry": 1} | REPORT | COLLECT,
        act=add_volume,
    ),
    Case("a label", COLLECT, act=table(lambda rows: [rows[0], rows[1] + "\tmouse 1", *rows[2:]])),
]

# What follows from a changed volume of a scan. The table names the file, and the study's tables tell it.
OF_BONE = {"fdk": 1, "n2i_split": 1} | N2I_TRAIN | SEGMENT
OF_PAIR_LOW = {"fdk": 1, "n2i_split": 1} | N2I_TRAIN
OF_PAIR_HIGH = {"fdk": 1} | SR_TRAIN
OWN = [
    Case("own flatfield of bone", {"ingest": 1, "flatfield": 1} | DOWN | OF_BONE,
         act=own("bone", "flatfield: {rings: none}")),
    Case("own align of bone", DOWN | OF_BONE, act=own("bone", "align: {centre_px: 31.0}"), sample=True),
    Case("own cupping of bone", {"cupping": 1} | OF_BONE, act=own("bone", "cupping: {method: none}")),
    Case("own segment of bone", SEGMENT, act=own("bone", "segment: {sigma_um: 9.0}")),
    Case("own morphometry of bone", MORPHOMETRY, act=own("bone", "morphometry: {thickness: false}")),
    Case("own report of bone", REPORT | COLLECT, act=own("bone", "report: {title: Another}")),
    Case("own ingest of a scan that only networks learn from", {"ingest": 1, "flatfield": 1} | DOWN | OF_PAIR_LOW,
         act=own("pair_low", "ingest: {angle_sign: -1}")),
    Case("own fdk of a high-resolution partner", OF_PAIR_HIGH, act=own("pair_high", "fdk: {window: hann}")),
    Case("own segment of a scan that is not measured", COLLECT, act=own("pair_low", "segment: {sigma_um: 9.0}")),
    Case("own values that equal the run's", COLLECT,
         act=own("bone", "# as before\nalign: {centre_px: null}\nfdk: {memory_gb: 4, window: ram-lak}\n")),
    Case("own import_volume of a scan", REPORT | COLLECT, act=own("bone", "import_volume: {slope_per_mm: 2.0}")),
    Case("own settings of a stage that takes no part", REPORT | COLLECT,
         act=own("bone", "iterative: {nonnegative: false}")),
    Case("a key of the run that is a scan's own there", {"segment": 3} | MORPHOMETRY,
         {"segment": {"sigma_um": 9.0}}, act=own("pair_low", "segment: {sigma_um: 8.0}")),
]  # fmt: skip

RUN = [
    Case("one core", NOTHING, arguments=("--cores", "1")),
    Case("other threads and memory", NOTHING, arguments=("--set-threads", "fdk=1", "--set-resources", "fdk:mem_mb=99")),
    Case("more GPUs on offer", NOTHING, arguments=("--resources", "gpu=4")),
    Case("another profile", NOTHING, act=append("profiles/default/config.yaml", "retries: 2\n")),
    Case(
        "the environment",
        NOTHING,
        environment={
            "OMP_NUM_THREADS": "1",
            "XRMFLOW_DEVICE": "cuda",
            "XRMFLOW_GPU": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "LC_ALL": "C",
            "TZ": "Asia/Tokyo",
            "PYTHONHASHSEED": "7",
            "XRMFLOW_LOCK_WAIT_S": "5",
        },
    ),
]

RESULT = "results/bone"
DAMAGE = [
    Case("a deleted intermediate that is kept",
         N2I_TRAIN | {"ingest": 1, "flatfield": 1, "n2i_split": 1} | DOWN | SEGMENT,
         act=remove(f"{RESULT}/projections.zarr/manifest.json")),
    Case("a deleted intermediate that is not asked for", NOTHING, {"storage": {"keep": "final"}},
         act=remove(f"{RESULT}/projections.zarr/manifest.json", f"{RESULT}/splits/0.zarr/manifest.json")),
    Case("a deleted document", N2I_TRAIN | {"n2i_split": 1} | DOWN | SEGMENT, act=remove(f"{RESULT}/geometry.json")),
    Case("a deleted volume", N2I_TRAIN | {"n2i_split": 1, "fdk": 1} | SEGMENT,
         act=remove(f"{RESULT}/volume.zarr/manifest.json")),
    Case("a deleted mask", {"segment": 1, "morphometry": 1} | VALIDATE | COLLECT,
         act=remove(f"{RESULT}/bone/volume.zarr/manifest.json")),
    Case("a deleted table", {"morphometry": 1} | VALIDATE | COLLECT, act=remove(f"{RESULT}/morphometry/denoised.csv")),
    Case("deleted weights", N2I_TRAIN, act=remove("models/default/n2i.safetensors")),
    Case("a deleted volume that super-resolution learned from", {"n2i_apply": 1} | SR_TRAIN,
         act=remove("results/pair_low/denoised.zarr/manifest.json")),
    Case("deleted splits that networks learned from", N2I_TRAIN | {"n2i_split": 1},
         act=remove("results/pair_low/splits/0.zarr/manifest.json")),
    Case("a deleted report", REPORT, act=remove(f"{RESULT}/report.html"), sample=True),
    Case("a deleted table of the study", COLLECT, act=remove("results/morphometry_wide.csv")),
]  # fmt: skip

# Run in earnest as well: they are quick.
REALLY = (
    "report.title",
    "collect.symbols",
    "validate.centre_px",
    "a deleted table",
    "a label",
    "own morphometry of bone",
)

CASES = [*SETTINGS, *CODE_CASES, *FILES, *SCANS, *OWN, *RUN, *DAMAGE]


def stale(project, case):
    """Rule -> how many of its jobs would run."""
    shown = project.snakemake("--dry-run", "--quiet", "reason", *case.arguments, environment=case.environment).stdout
    if "Nothing to be done" in shown:
        return {}
    rows = dict(re.findall(r"^(\w+)\s+(\d+)$", shown, flags=re.MULTILINE))
    assert rows, shown
    return {rule: int(count) for rule, count in rows.items() if rule not in ("all", "total")}


def names(case):
    return re.sub(r"[^A-Za-z0-9_./]+", "-", case.name)


def test_the_table_is_long_enough_and_has_no_row_twice():
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    settings = {section for case in CASES for section in case.settings}
    assert settings >= {stage for stage in STAGES if stage != "iterative"}
    assert {f"stages/{stage}.py" for stage in STAGES} <= {file for case in CASES for file in case.code}


@pytest.mark.parametrize("case", [case for case in CASES if case.sample], ids=names)
def test_a_sample_of_the_table(project, case):
    case.apply(project.root)
    assert stale(project, case) == case.expected


@pytest.mark.staleness
@pytest.mark.parametrize("case", [case for case in CASES if not case.sample], ids=names)
def test_the_table(project, case):
    case.apply(project.root)
    assert stale(project, case) == case.expected


@pytest.mark.staleness
@pytest.mark.parametrize("case", [case for case in CASES if case.name in REALLY], ids=names)
def test_what_is_planned_is_what_is_run(project, case):
    case.apply(project.root)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    ran = re.findall(r"^\[.*\]\nFinished jobid: \d+ \(Rule: (\w+)\)", done.stdout, flags=re.MULTILINE)
    assert {rule: ran.count(rule) for rule in ran if rule != "all"} == case.expected
    assert stale(project, Case("again", NOTHING)) == NOTHING


@pytest.mark.staleness
def test_a_mask_drawn_by_hand(project):
    """What it holds counts and not its time. The FDK volume alone is measured: others have another grid."""
    grid = json.loads((project.root / "run" / RESULT / "volume.zarr" / "manifest.json").read_text())["record"]["grid"]
    drawn, file = np.ones(grid["shape"], np.uint8), project.root / "run" / "bone_mask.npy"
    np.save(file, drawn)
    settings = {"measure": ["volume"], "segment": {"voi_mask": "run/{scan}_mask.npy"}}
    _change_settings(project.root / "run" / "config.yaml", settings)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    os.utime(file)
    assert stale(project, Case("touched", NOTHING)) == NOTHING
    drawn[:, :, : grid["shape"][2] // 3] = 0
    np.save(file, drawn)
    assert stale(project, Case("edited", NOTHING)) == {"segment": 1, "morphometry": 1} | VALIDATE | COLLECT


@pytest.mark.staleness
def test_what_is_damaged_is_found_and_mended(project):
    """Snakemake does not look into stores: `verify --mend` does, and then exactly the heirs are stale."""
    volume = project.root / "run" / RESULT / "volume.zarr"
    chunk = max((file for file in volume.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    flip(str(chunk.relative_to(project.root / "run")))(project.root)
    assert stale(project, Case("damaged", NOTHING)) == NOTHING
    said = project.xrmflow("verify", "run/results", "--mend").stderr
    assert chunk.name in said
    assert "1 of" in said
    expected = next(case.expected for case in DAMAGE if case.name == "a deleted volume")
    assert stale(project, Case("mended", NOTHING)) == expected
