"""The table of asked against used, from benchmark files and logs."""

import pytest

from xrmflow.errors import UserError
from xrmflow.manage.usage import jobs, run

HEAD = "s\tmax_rss\tresources\n"


@pytest.fixture
def results(tmp_path):
    for scan, seconds, rss, log in (("a", 120, "400.0", "used 119.0 s, 800 MB\n"), ("b", 30, "NA", "no such line\n")):
        for folder in ("benchmarks", "logs"):
            (tmp_path / scan / folder).mkdir(parents=True)
        (tmp_path / scan / "benchmarks" / "fdk.tsv").write_text(
            f"{HEAD}{seconds}\t{rss}\t{{'tmpdir': '/tmp', 'mem_mb': 1000, 'runtime': 15}}\n"
        )
        (tmp_path / scan / "logs" / "fdk.log").write_text(f"12:00:00 INFO {log}")
    (tmp_path / "a" / "benchmarks" / "ingest.tsv").write_text("s\tmax_rss\n0.5\t10.0\n")
    return tmp_path


def test_the_job_nearest_to_its_memory_and_the_longest_are_shown(results):
    lines = [line.split() for line in run([results]).splitlines()[1:]]
    assert lines == [
        ["fdk", "2", "1000", "800", "80%", "15", "2.0", "150.0"],
        ["ingest", "1", "-", "10", "-", "-", "0.0", "0.5"],
    ]


def test_a_folder_without_jobs_is_named(tmp_path):
    with pytest.raises(UserError, match="no benchmark files found"):
        jobs([tmp_path])
