"""Why a stage would run, in words: from what Snakemake says of a job and what its lineage was made of."""

import json
from types import SimpleNamespace

import pytest

from xrmflow.errors import UserError
from xrmflow.manage import records
from xrmflow.manage.origin import METADATA, recorded_lineage, unvouched
from xrmflow.manage.steps import Step
from xrmflow.manage.why import explain, job_of, run

FDK = Step("fdk", "mouse")


def changed(results, old, step, plan):
    """(stage, words) of what differs between an earlier lineage of a step and the present one."""
    return [(change.step.stage, change.text) for change in records.changes(results, old, step, plan.lineages)]


def job(stage, reason, *, scan="mouse", outputs=()):
    return job_of(stage, {"scan": scan} if scan else {}, list(outputs), reason)


def test_a_reason_is_taken_apart():
    said = "Missing output files: a/b.json, c; Input files updated by another job: d; "
    said += "Params have changed since last execution: Union of exclusive params before and now: x; y"
    one = job("fdk", said, outputs=["a/b.json", "c"])
    assert (one.stage, one.scan, one.volume) == ("fdk", "mouse", "")
    assert one.files("missing") == ["a/b.json", "c"]
    assert one.files("after") == ["d"]
    assert one.reasons["params"].endswith("x; y")


def test_a_changed_key_is_named_with_both_values(plan, tmp_path):
    before = plan("cupping: {degree: 2}")
    records.keep(tmp_path, before.made_of)
    now = plan("cupping: {degree: 3}")
    found = changed(tmp_path, before.lineage("fdk", "mouse"), FDK, now)
    assert found == [("cupping", "cupping.degree: 2 -> 3")]


def test_a_boolean_flip_is_named(plan, tmp_path):
    before = plan()
    records.keep(tmp_path, before.made_of)
    now = plan("align: {roll: false}")
    found = changed(tmp_path, before.lineage("align", "mouse"), Step("align", "mouse"), now)
    assert found == [("align", "align.roll: true -> false")]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ({"xrmflow.stages.fdk": "0"}, "module xrmflow.stages.fdk has changed"),
        ({"xrmflow.old": "1"}, "module xrmflow.old is gone"),
        ({"phantom/tables/old.csv": "1"}, "file phantom/tables/old.csv is gone"),
    ],
)
def test_a_changed_module_is_named(plan, tmp_path, code, words):
    now = plan()
    records.keep(tmp_path, now.made_of)
    lineage = now.lineage("fdk", "mouse")
    file = tmp_path / records.FOLDER / f"{lineage}.json"
    old = json.loads(file.read_text())
    (file.with_name("before.json")).write_text(json.dumps(old | {"code": old["code"] | code}))
    assert changed(tmp_path, "before", FDK, now) == [("fdk", words)]


def test_a_stage_that_joins_or_leaves_is_named(plan, tmp_path):
    without = plan("measure: [volume]")
    records.keep(tmp_path, without.made_of)
    beside = plan("measure: [volume, iterative]")
    records.keep(tmp_path, beside.made_of)
    old, new = without.lineage("collect"), beside.lineage("collect")
    text = "morphometry (iterative) of mouse {} comes before it"
    assert changed(tmp_path, old, Step("collect"), beside) == [("collect", text.format("now"))]
    assert changed(tmp_path, new, Step("collect"), without) == [("collect", text.format("no longer"))]


def test_without_a_record_that_is_said(plan, tmp_path):
    now = plan()
    found = changed(tmp_path, "0123456789abcdef", FDK, now)
    assert found == [("fdk", "something has changed (what it was made of is not on record)")]


def test_records_survive_nothing_but_damage(plan, tmp_path):
    now = plan()
    records.keep(tmp_path, now.made_of)
    lineage = now.lineage("fdk", "mouse")
    assert records.read(tmp_path, lineage) == now.made_of[lineage]
    (tmp_path / records.FOLDER / f"{lineage}.json").write_text("{")
    assert records.read(tmp_path, lineage) is None


def test_the_text_names_causes_once_and_the_stages_after_them(plan, tmp_path):
    jobs = [
        job("ingest", "Updated input files: mouse.txrm; Missing output files: r/raw.zarr/manifest.json", outputs=["r"]),
        job("flatfield", "Input files updated by another job: r", outputs=["p"]),
        job("flatfield", "Updated input files: rat.txrm", scan="rat", outputs=["q"]),
    ]
    text = explain(jobs, plan(), "mouse", None)
    assert text.splitlines() == [
        "mouse: would run: ingest, flatfield",
        "because",
        "  r/raw.zarr/manifest.json is not kept (storage.keep) and is read again (ingest)",
        "  mouse.txrm has changed (ingest)",
    ]
    assert "mouse.txrm has changed (ingest)" in explain(jobs, plan(), "mouse", "flatfield")
    assert explain(jobs, plan(), "mouse", "fdk") == "mouse, fdk: up to date, nothing would run"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Missing output files: v.zarr/manifest.json", "v.zarr/manifest.json is missing"),
        ("Incomplete output files: a.json", "a.json was not finished"),
        ("Set of input files has changed since last execution", "other input files than before"),
        ("Code has changed since last execution", "the rule's command has changed"),
        ("Params have changed since last execution: before", "its settings or its code have changed"),
    ],
)
def test_every_other_cause_has_its_words(plan, reason, words):
    assert f"  {words} (fdk)" in explain([job("fdk", reason)], plan(), "mouse", None).splitlines()


def test_wrong_names_are_refused(plan, tmp_path):
    plan()
    with pytest.raises(UserError, match="scan: expected one of mouse, got 'rat'"):
        run("rat", settings=tmp_path / "config.yaml")
    with pytest.raises(UserError, match=r"stage: expected one of ingest, .* got 'fkd'"):
        run("mouse", "fkd", settings=tmp_path / "config.yaml")


@pytest.mark.parametrize("output", ["results/a.json", "results/" + 300 * "a"])
def test_lineages_are_read_where_snakemake_keeps_them(tmp_path, monkeypatch, output):
    persistence = pytest.importorskip("snakemake.persistence.file", reason="needs snakemake")
    monkeypatch.chdir(tmp_path)
    assert recorded_lineage(output) == []
    METADATA.mkdir(parents=True)
    place = SimpleNamespace(_fetch_max_len=lambda _: 255)
    file = tmp_path / persistence.FilePersistence._record_path(place, str(METADATA), output)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"params": ["'0123456789abcdef'", "'{}'"]}))
    assert recorded_lineage(output) == ["0123456789abcdef"]
    file.write_text("{")
    assert recorded_lineage(output) == []


def test_what_says_itself_how_it_was_made_needs_no_record(tmp_path):
    """Of what Snakemake has on record it sees itself what has changed; a table says nothing; what is absent is made."""
    document, other, table, known = (tmp_path / name for name in ("a.json", "b.json", "c.csv", "d.csv"))
    for file, lineage in ((document, "1" * 16), (other, "2" * 16)):
        file.write_text(json.dumps({"provenance": {"lineage": lineage}}))
    for file in (table, known):
        file.write_text("scan\n")
    planned = {str(file): "1" * 16 for file in (document, other, table, known, tmp_path / "absent.json")}
    assert unvouched(planned, str(known).__eq__) == [str(other), str(table)]
    document.write_text("[]")
    assert unvouched({str(document): "1" * 16}, lambda _: False) == [str(document)]
