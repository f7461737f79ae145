import pytest

from xrmflow.manage.plan import load_plan


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A function that plans a run of one scan, with settings in addition to the defaults."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mouse.txrm").touch()
    (tmp_path / "scans.tsv").write_text("scan\tsource\trole\nmouse\tmouse.txrm\ttrain\n")

    def planned(text=""):
        (tmp_path / "config.yaml").write_text(text)
        return load_plan(str(tmp_path / "config.yaml"))

    return planned
