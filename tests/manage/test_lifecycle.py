import pytest

from xrmflow.manage import records, runs, space
from xrmflow.manage.lifecycle import Run
from xrmflow.manage.plan import read_plan


@pytest.fixture
def run(tmp_path):
    """A run over seven scans, of which some have a report."""

    def of(*with_report):
        rows = [f"mouse{k}\tmouse{k}.txrm" for k in range(7)]
        (tmp_path / "scans.tsv").write_text("\n".join(["scan\tsource", *rows]))
        (tmp_path / "config.yaml").write_text(f"scans: scans.tsv\nresults: {tmp_path / 'results'}\n")
        for k in range(7):
            (tmp_path / f"mouse{k}.txrm").touch()
        for k in with_report:
            (tmp_path / f"results/mouse{k}").mkdir(parents=True)
            (tmp_path / f"results/mouse{k}/report.html").touch()
        return Run(read_plan(tmp_path / "config.yaml"))

    return of


def test_a_finished_run_says_where_the_report_is(run, tmp_path, capsys):
    of = run(2)
    (tmp_path / "results/morphometry.csv").touch()
    of.end()
    said = capsys.readouterr().err.splitlines()
    results = tmp_path / "results"
    assert said == [f"report: {results}/mouse2/report.html", f"numbers of all scans: {results}/morphometry.csv"]


def test_of_many_reports_only_some_are_named(run):
    said = run(*range(7)).what_there_is().splitlines()
    assert len(said) == 6
    assert said[-1] == "report: ... 7 in all, one a scan"


def test_a_run_that_measures_nothing_says_nothing(run, capsys):
    run().end()
    assert capsys.readouterr().err == ""


def test_scans_that_have_their_last_result_ask_for_no_space(run, tmp_path, monkeypatch):
    """A report; of a scan that is only reconstructed, for networks to learn from, its volume."""
    asked = []
    monkeypatch.setattr(space, "check_free_space", lambda *_, unfinished, cores: asked.extend(unfinished))
    of = run(0, 1)
    monkeypatch.setattr(of.plan, "is_measured", lambda scan: scan not in ("mouse2", "mouse3"))
    (tmp_path / "results/mouse2/volume.zarr").mkdir(parents=True)
    (tmp_path / "results/mouse4/volume.zarr").mkdir(parents=True)
    for module, name in ((runs, "begin"), (records, "keep")):
        monkeypatch.setattr(module, name, lambda *_: None)
    of.begin()
    assert asked == ["mouse3", "mouse4", "mouse5", "mouse6"]


def test_a_failed_run_says_which_table_is_of_an_earlier_one(run, tmp_path, capsys):
    (tmp_path / "results").mkdir()
    run().end_with_failures([], unfinished={"mouse0"}, tables=[], run_log="", earlier=["results/morphometry.csv"])
    assert "\nnumbers of an earlier run: results/morphometry.csv" in capsys.readouterr().err


def test_the_disk_must_hold_what_is_written_anew_even_where_an_earlier_run_has_finished(run, monkeypatch):
    """A finer voxel in the settings of a finished study fills the disk as that of a new one does."""
    asked = []
    monkeypatch.setattr(space, "check_free_space", lambda *_, unfinished, cores: asked.extend(unfinished))
    for module, name in ((runs, "begin"), (records, "keep")):
        monkeypatch.setattr(module, name, lambda *_: None)
    run(0, 1, 2, 3, 4, 5).begin(2, {"mouse3"})
    assert asked == ["mouse3", "mouse6"]
