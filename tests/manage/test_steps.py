"""The graph of a run: what each step reads, held against Snakemake's own, and which settings reach which lineages."""

import pytest

from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.plan import read_plan
from xrmflow.manage.steps import STAGES, Step

TABLE = """scan|source|role|pair|protocol|settings
a|mouse.txrm|train||p|
b|mouse.txrm|validation||p|
low|mouse.txrm|train-only|high||
high|mouse.txrm|reference|||
alone|mouse.txrm|test|||
"""
KEYS = {
    "ingest": "angle_sign: -1",
    "flatfield": "rings: none",
    "align": "centre_px: 3.5",
    "cupping": "smoothing_px: 3.0",
    "fdk": "window: hann",
    "segment": "lacunae: false",
    "morphometry": "thickness: false",
    "report": "title: Another",
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that plans a run of five scans, with settings of the run and of single scans."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mouse.txrm").touch()

    def planned(text="", own=None, table=TABLE):
        for scan, settings in (own or {}).items():
            (tmp_path / f"{scan}.yaml").write_text(settings)
            (row,) = (line for line in table.splitlines() if line.startswith(f"{scan}|"))
            table = table.replace(row, f"{row}{scan}.yaml")
        (tmp_path / "scans.tsv").write_text(table.replace("|", "\t"))
        (tmp_path / "config.yaml").write_text(text)
        return read_plan(tmp_path / "config.yaml")

    return planned


def changed(before, now):
    """The steps whose lineage differs."""
    return {step for step in planned_jobs(now) if now.lineages.of(step) != before.lineages.of(step)}


def above(plan, step):
    """All steps that a step's result depends on."""
    found = set()
    for parent in plan.lineages.steps_above(step).values():
        found |= {parent} | above(plan, parent)
    return found


def heirs(plan, stage, scan):
    """The steps of a run that depend on one, itself included, by the graph."""
    own = {step for step in planned_jobs(plan) if (step.stage, step.scan) == (stage, scan)}
    return own | {step for step in planned_jobs(plan) if own & above(plan, step)}


def test_settings_of_the_run_reach_exactly_the_heirs(run):
    def stages(text):
        return {step.stage for step in changed(run(), run(text))}

    assert stages("report: {title: Another}") == {"report"}
    assert stages("collect: {symbols: [BV/TV]}") == {"collect"}
    assert stages("morphometry: {thickness: false}") == {"morphometry", "collect", "report"}
    assert stages("cupping: {degree: 3}") == set(STAGES) - {
        *("ingest", "import_volume", "flatfield", "align", "iterative", "validate")
    }


@pytest.mark.parametrize(("stage", "key"), KEYS.items())
@pytest.mark.parametrize("scan", ["a", "high", "alone"])
def test_own_settings_reach_the_heirs_of_that_scan_alone(run, stage, key, scan):
    before, now = run(), run(own={scan: f"{stage}: {{{key}}}"})
    assert changed(before, now) == heirs(now, stage, scan)
    assert Step("ingest", "b") not in changed(before, now)


def test_own_settings_reach_others_only_through_what_is_shared(run):
    """A scan nobody learns from changes nothing but itself and the study; one of a protocol that scan's partners."""
    assert {step.scan for step in changed(run(), run(own={"alone": "align: {roll: false}"}))} == {"alone", ""}
    now = changed(run(), run(own={"a": "align: {roll: false}"}))
    assert {Step("cupping_protocol", protocol="p"), Step("fdk", "b"), Step("n2i_train")} <= now
    assert Step("fdk", "alone") not in now
    assert Step("n2i_apply", "alone") in now


def test_an_equal_value_changes_no_lineage(run):
    for text in ("fdk: {window: ram-lak}", "fdk: {memory_gb: 4}", "align: {}", "# nothing", "cupping: {degree: 2}"):
        assert changed(run(), run(own={"a": text})) == set()
    assert changed(run("fdk: {window: hann}"), run("fdk: {window: hann}", own={"a": "fdk: {window: hann}"})) == set()


def test_own_settings_stay_where_those_of_the_run_change(run):
    """The key is the scan's own: the run's value does not reach it."""
    own = {"alone": "segment: {sigma_um: 3.0}"}
    touched = changed(run(own=own), run("segment: {sigma_um: 9.0}", own=own))
    assert Step("segment", "a", "volume") in touched
    assert Step("segment", "alone", "volume") not in touched


def test_scans_treated_alike_share_their_lineages(run):
    plan = run()
    assert plan.lineage("fdk", "low") == plan.lineage("fdk", "alone")
    assert plan.lineage("fdk", "a") == plan.lineage("fdk", "b") != plan.lineage("fdk", "low")


def test_exchanging_two_scans_is_a_change_of_what_learns_from_them(run):
    text = "align: {roll: false}"
    assert run(own={"a": text}).lineage("n2i_train") != run(own={"b": text}).lineage("n2i_train")
    table = TABLE.replace("a|mouse.txrm|train|", "a|mouse.txrm|validation|")
    table = table.replace("b|mouse.txrm|validation|", "b|mouse.txrm|train|")
    assert run().lineage("n2i_train") != run(table=table).lineage("n2i_train")


def test_a_scan_without_a_correction_leaves_its_protocol(run):
    plan = run(own={"a": "cupping: {method: none}"})
    assert plan.protocols == {"p": ["b"]}
    assert (plan.protocol_of("a"), plan.protocol_of("b")) == ("", "p")
