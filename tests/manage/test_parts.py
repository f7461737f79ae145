"""Where volumes are cut, what a part asks for, and that what is there stays as it was made."""

import json
from types import SimpleNamespace

import pytest

from xrmflow.config.flatfield import FlatfieldSection
from xrmflow.config.jobs import JobsSection
from xrmflow.config.morphometry import MorphometrySection
from xrmflow.config.scans import Scan
from xrmflow.config.settings import Settings
from xrmflow.manage import parts, resources
from xrmflow.manage.estimate import estimate
from xrmflow.manage.parts import MADE, PHASES, Parts, layers, stage_of
from xrmflow.manage.pieces import core_seconds
from xrmflow.manage.plan import Plan
from xrmflow.manage.sizes import KnownSize, ScanSize, superres_factor
from xrmflow.manage.steps import Step
from xrmflow.morphometry import structure

LARGE = ScanSize(views=1500, rows=2048, cols=2048, bytes_per_pixel=2, shape=(2048, 2048, 2048))
FOUR = ["0-448", "448-896", "896-1344", "1344-1792", "1792-2048"]


@pytest.fixture
def plan(tmp_path):
    settings = Settings.model_validate({"results": str(tmp_path)})
    return Plan(settings, {"a": Scan(scan="a", source="a")}, sizes=KnownSize(LARGE))


def test_a_volume_is_cut_into_layers_that_fit():
    assert layers((2048, 2048, 2048), 8.0) == FOUR
    assert layers((1024, 1024, 1024), 8.0) == []
    assert layers((150, 64, 64), 0.0011) == ["0-64", "64-128", "128-150"]
    assert layers((150, 64, 64), 1e-9) == ["0-64", "64-128", "128-150"]
    assert layers((64, 4096, 4096), 1.0) == []


def test_parts_of_any_size_make_up_the_volume():
    for part_gb in (1e-6, 1e-3, 2e-3, 0.01):
        cuts = [tuple(map(int, part.split("-"))) for part in layers((700, 50, 60), part_gb)]
        assert [0, *(stop for _, stop in cuts)] == [*(start for start, _ in cuts), 700] or not cuts
        assert all(start % 64 == 0 for start, _ in cuts)


def test_a_rule_of_parts_belongs_to_its_stage():
    assert [stage_of(rule) for rule in ("fdk", "fdk_part", "fdk_gather", "n2i_apply_part")] == [
        "fdk",
        "fdk",
        "fdk",
        "n2i_apply",
    ]


def test_size_decides_what_is_yet_to_be_made(plan):
    cut = Parts(plan)
    assert cut.of("fdk", "a") == FOUR
    assert cut.of("align", "a") == []
    assert (cut.scans("fdk", cut=True), cut.scans("fdk", cut=False)) == ("a", "(?!)")


@pytest.mark.parametrize(("lineage", "inputs", "expected"), [
    ("present", ["geometry.json"], []),
    ("present", ["a/parts/fdk_64-2048.zarr/manifest.json", "a/parts/fdk_0-64.zarr/manifest.json"], ["0-64", "64-2048"]),
    ("older", ["geometry.json"], FOUR),
])  # fmt: skip
def test_what_is_up_to_date_stays_as_it_was_made(plan, tmp_path, monkeypatch, lineage, inputs, expected):
    (tmp_path / "a/volume.zarr").mkdir(parents=True)
    (tmp_path / "a/volume.zarr/manifest.json").touch()
    monkeypatch.setattr(plan, "lineage", lambda *step: "present")
    monkeypatch.setattr(parts, "recorded_lineage", lambda output: [lineage])
    monkeypatch.setattr(parts, "record_of", lambda output: {"input": inputs})
    assert Parts(plan).of("fdk", "a") == expected


def test_thickness_of_a_large_volume_is_measured_phase_by_phase(plan):
    assert list(structure.PHASES) == PHASES
    cut = Parts(plan)
    assert cut.of("morphometry", "a", "volume") == PHASES
    wildcards = SimpleNamespace(scan="a", volume="volume", part="bone")
    assert cut.memory_mb("morphometry")(wildcards) == plan.memory_mb("morphometry")(wildcards)
    small = Plan(plan.settings, plan.scans, sizes=KnownSize(ScanSize(1500, 768, 768, 2, (768, 768, 768))))
    assert Parts(small).of("morphometry", "a", "volume") == []
    assert Parts(small).of("morphometry", "a", "superres") == PHASES
    without = plan.settings.model_copy(update={"morphometry": MorphometrySection(thickness=False)})
    assert Parts(Plan(without, plan.scans, sizes=KnownSize(LARGE))).of("morphometry", "a", "volume") == []


@pytest.mark.parametrize(("part_gb", "inputs", "expected"), [
    (8.0, ["a/bone/volume.zarr/manifest.json"], []),
    (1000.0, [f"a/parts/volume_{phase}.json" for phase in PHASES], PHASES),
])  # fmt: skip
def test_tables_that_are_up_to_date_stay_as_they_were_made(plan, tmp_path, monkeypatch, part_gb, inputs, expected):
    (tmp_path / "a/morphometry").mkdir(parents=True)
    (tmp_path / "a/morphometry/volume.csv").touch()
    settings = plan.settings.model_copy(update={"jobs": JobsSection(part_gb=part_gb)})
    plan = Plan(settings, plan.scans, sizes=KnownSize(LARGE))
    monkeypatch.setattr(plan, "lineage", lambda *step: "present")
    monkeypatch.setattr(parts, "recorded_lineage", lambda output: ["present"])
    monkeypatch.setattr(parts, "record_of", lambda output: {"input": inputs})
    assert Parts(plan).of("morphometry", "a", "volume") == expected
    assert Parts(plan).of("morphometry", "a", "superres") == (PHASES if part_gb < 1000 else [])


def test_jobs_inherit_what_the_planning_process_found(plan, monkeypatch):
    monkeypatch.delenv(MADE, raising=False)
    monkeypatch.setenv(MADE, json.dumps({"fdk": {"a": ["0-64", "64-2048"]}}))
    assert Parts.of_run(plan).of("fdk", "a") == ["0-64", "64-2048"]
    monkeypatch.delenv(MADE)
    assert Parts.of_run(plan).of("fdk", "a") == FOUR


def test_the_finer_volume_is_cut_by_its_own_size(plan):
    cuts = Parts(plan).of("sr_apply", "a")
    factor = superres_factor(plan.settings)
    assert cuts[-1].endswith(f"-{2048 * factor}")
    assert len(cuts) > 4 * factor**2
    wildcards = SimpleNamespace(scan="a", part=cuts[0])
    share = int(cuts[0].split("-")[1]) / (2048 * factor)
    assert Parts(plan).work("sr_apply", wildcards).voxels == share * plan.work("sr_apply", wildcards).voxels


def test_projections_are_cut_along_rows_but_not_where_the_phase_is_retrieved(plan):
    assert Parts(plan).of("flatfield", "a") == ["0-640", "640-1280", "1280-1920", "1920-2048"]
    paganin = plan.settings.model_copy(update={"flatfield": FlatfieldSection(phase="paganin")})
    own = Plan(plan.settings, plan.scans, own={"a": paganin}, sizes=KnownSize(LARGE))
    assert Parts(own).of("flatfield", "a") == []
    assert Parts(own).of("fdk", "a") == FOUR


def test_a_part_asks_for_its_share(plan):
    wildcards = SimpleNamespace(scan="a", part="0-448")
    whole, part = plan.work("fdk", wildcards), Parts(plan).work("fdk", wildcards)
    assert part.updates == pytest.approx(448 / 2048 * whole.updates)
    assert Parts(plan).minutes("fdk")(wildcards, threads=8) < 0.5 * plan.minutes("fdk")(wildcards, threads=8)
    assert Parts(plan).memory_mb("fdk")(wildcards, attempt=2) == 2 * Parts(plan).memory_mb("fdk")(wildcards)


def test_the_estimate_counts_the_jobs_of_parts(plan):
    small = Plan(plan.settings, plan.scans, sizes=KnownSize(ScanSize(1500, 512, 512, 2, (512, 512, 512))))
    more = len(FOUR) + len(Parts(plan).by_size("flatfield", "a")) + len(PHASES)
    assert estimate(plan, cores=8).total.jobs - estimate(small, cores=8).total.jobs == more


def test_parts_take_the_time_of_the_whole_the_start_of_each_and_the_gathering(plan):
    whole, step = plan.work("n2i_apply", SimpleNamespace(scan="a")), Step("n2i_apply", "a")
    alone = resources.seconds("n2i_apply", whole, threads=1)
    gathering = resources.seconds(resources.GATHER, whole, threads=1)
    starts = (len(FOUR) - 1) * resources.COSTS["n2i_apply"].base_s
    assert core_seconds(plan, step) == pytest.approx(alone + starts + gathering)


def test_parts_shorten_a_run_on_many_cores_and_not_on_one(plan):
    undivided = plan.settings.model_copy(update={"jobs": JobsSection(part_gb=1000.0)})
    whole = Plan(undivided, plan.scans, sizes=KnownSize(LARGE))
    # Bone is segmented in one job, and measured in three: that is most of what is left.
    assert estimate(plan, cores=1000).total.wall_s < 0.8 * estimate(whole, cores=1000).total.wall_s
    assert estimate(plan, cores=1).total.wall_s > estimate(whole, cores=1).total.wall_s


def test_the_time_of_a_part_of_the_projections_is_its_share(plan):
    part = resources.seconds(
        "flatfield", Parts(plan).work("flatfield", SimpleNamespace(scan="a", part="0-640")), threads=1
    )
    whole = resources.seconds("flatfield", plan.work("flatfield", SimpleNamespace(scan="a")), threads=1)
    assert part == pytest.approx(640 / 2048 * whole, rel=0.05)
