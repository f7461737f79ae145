import pytest

from xrmflow.config.scans import load_scans, read_labels
from xrmflow.errors import SettingsError


@pytest.fixture
def table(tmp_path):
    for name in ("a.txrm", "b.h5"):
        (tmp_path / name).touch()

    def write(text):
        file = tmp_path / "scans.tsv"
        file.write_text(text.replace("|", "\t"))
        return file

    return write


def test_rows_become_scans(table, tmp_path):
    scans = load_scans(table("# comment\nscan|source|role|pair\nlow|a.txrm|train|high\nhigh|b.h5|reference|\n"))
    assert list(scans) == ["low", "high"]
    assert scans["low"].source == str(tmp_path / "a.txrm")
    assert (scans["low"].role, scans["low"].pair, scans["high"].role) == ("train", "high", "reference")


def test_a_missing_role_means_measured_only(table):
    assert load_scans(table("scan|source\nx|a.txrm\n"))["x"].role == "test"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty table"),
        ("scan|file\n", ":1: expected tab-separated columns"),
        ("scan|source\n", "at least one scan"),
        ("scan|source\n../x|a.txrm\n", ":2: scan: expected letters"),
        ("scan|source\nlogs|a.txrm\n", ":2: scan: the name 'logs' is taken"),
        ("scan|source\nx|absent\n", ":2: source: no such file"),
        ("scan|source\nx|a.txrm\n\nx|b.h5\n", ":4: scan: id 'x' appears twice"),
        ("scan|source|role\nx|a.txrm|boss\n", ":2: role: expected one of"),
        ("scan|source|pair\nx|a.txrm|y\n", "pair: expected the id of another row, got 'y'"),
        ("scan|source\nx|a.txrm|z\n", ":2: expected 2 tab-separated cells, got 3"),
        ("scan|source|truth\nx|a.txrm|t\n", ":2: truth: no such folder"),
        ("scan|source\nprotocols|a.txrm\n", ":2: scan: the name 'protocols' is taken"),
        ("scan|source|settings\nx|a.txrm|x.yaml\n", ":2: settings: no such file"),
        ("scan|source|side\nx|a.txrm|up\n", ":2: side: expected one of left, right, got 'up'"),
        ("scan|source|group\nx|a.txrm|a/b\n", ":2: group: expected letters, digits, spaces"),
        ("scan|source|protocol\nx|a.txrm|80 kV\n", ":2: protocol: expected letters, digits, _ and -"),
    ],
)
def test_faults_name_the_row(table, text, says):
    with pytest.raises(SettingsError) as caught:
        load_scans(table(text))
    assert says in str(caught.value)


def test_labels_of_the_study(table):
    file = table("scan|source|animal|side|group|protocol\nx|a.txrm|m 1|left|sham|femur_80kV\ny|b.h5|m 2|||femur_80kV\n")
    scan = load_scans(file)["x"]
    assert (scan.animal, scan.side, scan.group, scan.timepoint) == ("m 1", "left", "sham", "")
    assert scan.protocol == "femur_80kV"
    labels = read_labels(file)
    assert labels["y"] == {"animal": "m 2", "side": "", "group": "", "protocol": "femur_80kV"}


def test_a_file_with_settings_of_a_scan_lies_beside_the_table_and_is_told_to_the_study(table, tmp_path):
    (tmp_path / "x.yaml").touch()
    file = table("scan|source|settings\nx|a.txrm|x.yaml\ny|b.h5|\n")
    scans = load_scans(file)
    assert (scans["x"].settings, scans["y"].settings) == (str(tmp_path / "x.yaml"), "")
    assert read_labels(file) == {"x": {"settings": "x.yaml"}, "y": {"settings": ""}}


def test_labels_that_say_nothing_are_no_columns(table):
    assert read_labels(table("scan|source|animal\nx|a.txrm|\n")) == {"x": {}}
