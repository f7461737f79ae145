"""Settings of single scans: laid over the run's, and refused with file, line, key and what was meant."""

import pytest

from xrmflow.config.loader import read_settings, validated
from xrmflow.config.own import OWN, all_own_settings, own_keys, own_settings
from xrmflow.config.settings import Settings
from xrmflow.errors import SettingsError

RUN = """fdk:
  window: hann
  memory_gb: 3.0
segment:
  voi_start_slice: 40
"""


@pytest.fixture
def own(tmp_path):
    """A function that lays the settings of a scan over those of the run."""
    (tmp_path / "config.yaml").write_text(RUN)
    run = read_settings(tmp_path / "config.yaml")

    def laid(text):
        (tmp_path / "a.yaml").write_text(text)
        return own_settings(run, tmp_path / "a.yaml")

    return laid


def test_only_what_is_named_differs(own, tmp_path):
    run = validated(read_settings(tmp_path / "config.yaml"), Settings)
    mine = own("fdk: {window: cosine}\nalign: {centre_px: 511.3}\n")
    assert (mine.fdk.window, mine.fdk.memory_gb, mine.align.centre_px) == ("cosine", 3.0, 511.3)
    changed = {"fdk", "align"}
    assert {name for name in Settings.model_fields if getattr(mine, name) != getattr(run, name)} == changed
    assert own("# nothing\n") == run
    assert own("fdk: {memory_gb: 3}\n") == run


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("aling: {centre_px: 3}\n", 1, "aling: unknown key 'aling'; did you mean 'align'?"),
        ("align:\n  center_px: 3\n", 2, "align.center_px: unknown key 'center_px'; did you mean 'centre_px'?"),
        ("# why\nfdk:\n  window: hanning\n", 3, "fdk.window: expected 'ram-lak', "),
        ("n2i_train: {steps: 3}\n", 1, "n2i_train: belongs to the run; a scan's own settings may hold ingest, "),
        ("n2i_split: {splits: 3}\n", 1, "n2i_split: belongs to the run"),
        ("validate: {centre_px: 3}\n", 1, "validate: belongs to the run"),
        ("results: elsewhere\n", 1, "results: belongs to the run"),
        ("align:\n", 1, "align: "),
        ("align: 3\n", 1, "align: "),
        ("fdk: {window: &a hann}\n", 1, "anchors"),
    ],
)
def test_faults_name_file_line_and_key(own, text, line, says):
    with pytest.raises(SettingsError) as caught:
        own(text)
    assert f"a.yaml:{line}: {says}" in str(caught.value)


def test_a_fault_between_two_keys_may_lie_in_either_file(own):
    """The run's first slice, the scan's last: both files are named."""
    with pytest.raises(SettingsError) as caught:
        own("segment:\n  voi_stop_slice: 30\n")
    assert "a.yaml:1 (over " in str(caught.value)
    assert "config.yaml:4): segment: " in str(caught.value)


def test_every_section_that_a_scan_may_have_is_known(own):
    for section in OWN:
        assert own(f"{section}: {{}}\n")


def test_the_faults_of_all_files_come_together(own, tmp_path):
    files = {}
    for scan in "bcd":
        files[scan] = str(tmp_path / f"{scan}.yaml")
        (tmp_path / f"{scan}.yaml").write_text(
            f"fdk: {{windo_{scan}: 1}}\n" if scan != "c" else "fdk: {window: none}\n"
        )
    run = read_settings(tmp_path / "config.yaml")
    with pytest.raises(SettingsError) as caught:
        all_own_settings(run, files)
    assert len(str(caught.value).splitlines()) == 3


def test_scans_may_share_a_file(own, tmp_path):
    mine = own("fdk: {window: cosine}\n")
    files = dict.fromkeys("xy", str(tmp_path / "a.yaml"))
    assert all_own_settings(read_settings(tmp_path / "config.yaml"), files) == {"x": mine, "y": mine}


def test_the_keys_of_a_file(own, tmp_path):
    own("fdk: {window: hann}\nalign: {centre_px: 3.0, roll: false}\n")
    assert own_keys(tmp_path / "a.yaml") == {"fdk": ("window",), "align": ("centre_px", "roll")}
