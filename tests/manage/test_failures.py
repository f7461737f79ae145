"""A failed job is one line that says why."""

from dataclasses import replace

import pytest

from xrmflow.manage.failures import Ended, failure, summary, write_table

RUN_LOG = """
[Sat Nov 21 02:00:00 2026]
Error in rule fdk:
    message: SLURM-job '12' failed, SLURM status is: 'OUT_OF_MEMORY'. For further error details see the log.
    log: {log} (check log file(s) for error details)
[Sat Nov 21 02:00:01 2026]
Error in rule fdk:
    message: SLURM-job '13' failed, SLURM status is: 'TIMEOUT'. For further error details see the log.
    log: results/other/logs/fdk.log (check log file(s) for error details)
"""


@pytest.fixture
def job(tmp_path):
    """A failed fdk with the given log."""

    def ended(text):
        log = tmp_path / "fdk.log"
        if text is not None:
            log.write_text(text)
        return Ended("fdk", "mouse7", "", log)

    return ended


def test_the_cause_is_the_last_error_of_the_log(job):
    row = failure(job("02:00 INFO begins\nerror: fdk: first\nTraceback\nerror: fdk: the disk is full\nused\n"))
    assert (row.scan, row.stage, row.cause) == ("mouse7", "fdk", "the disk is full")


def test_where_the_log_says_nothing_the_cluster_does(job):
    ended = job("02:00 INFO begins\n")
    row = failure(ended, RUN_LOG.format(log=ended.log))
    assert row.cause == "OUT_OF_MEMORY: took more memory than it had asked for"


def test_where_nobody_says_anything_it_was_killed(job):
    assert failure(job("begins\n")).cause.startswith("ended without a word")
    assert failure(job(None)).cause.startswith("ended without a word")


def test_the_summary_names_scans_and_causes(job, tmp_path):
    row = failure(job("error: fdk: memory_gb: expected at least 2\n"))
    text = summary([row], waiting={"mouse7"}, finished=39, scans=40)
    assert text.splitlines()[0] == "39 of 40 scans are finished; not: mouse7"
    assert "  mouse7: fdk: memory_gb: expected at least 2" in text
    write_table(tmp_path / "failures.tsv", [row])
    head, line = (tmp_path / "failures.tsv").read_text().splitlines()
    assert head.split("\t") == ["scan", "stage", "volume", "cause", "log"]
    assert line.split("\t")[:2] == ["mouse7", "fdk"]


def test_networks_say_for_whom_they_wait(job):
    ended = job("error: fdk: the disk is full\n")
    early, late = failure(replace(ended, stage="flatfield")), failure(replace(ended, stage="segment"))
    text = summary([early], waiting={"mouse7", "mouse8"}, finished=0, scans=2, learned=["mouse7"])
    assert "wait for mouse7, from which they learn: mend what failed, or give it the role test" in text
    for failures, learned in (([late], ["mouse7"]), ([early], ["mouse8"])):
        assert "learn" not in summary(failures, waiting={"mouse7"}, finished=1, scans=2, learned=learned)


def test_a_protocol_says_for_whom_it_waits(job):
    ended = job("error: fdk: the disk is full\n")
    early, late = failure(replace(ended, stage="flatfield")), failure(ended)
    protocols = {"femur": ["mouse7", "mouse8"], "skull": ["mouse9"]}
    text = summary([early], waiting={"mouse7", "mouse8"}, finished=1, scans=3, protocols=protocols)
    assert "protocol femur (2 scans) waits for the beam hardening of mouse7: mend what failed, or empty" in text
    assert "skull" not in text
    assert "waits for" not in summary([late], waiting={"mouse7"}, finished=2, scans=3, protocols=protocols)
