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
        ("scan|source|truth\nx|a.txrm|.\n", "without truth.json; leave the cell empty"),
        ("scan|source\nprotocols|a.txrm\n", ":2: scan: the name 'protocols' is taken"),
        ("scan|source|settings\nx|a.txrm|x.yaml\n", ":2: settings: no such file"),
        ("scan|source|side\nx|a.txrm|up\n", ":2: side: expected one of left, right, got 'up'"),
        ("scan|source|group\nx|a.txrm|a/b\n", ":2: group: expected letters, digits, spaces"),
        ("scan|source|protocol\nx|a.txrm|80 kV\n", ":2: protocol: expected letters, digits, _ and -"),
        ("scan|source\nx|a.txrm\nX|b.h5\n", ":3: scan: expected ids that differ by more than capitals, got 'X' and"),
        ("scan|source\nx  a.txrm\n", ":2: expected cells with tabs between them, got a single one: 'x  a.txrm'"),
        ("scan;source\nx;a.txrm\n", "got scan;source (unknown 'scan;source'; without 'scan', 'source')"),
        ("Scan|source|sex\nx|a.txrm|f\n", "(unknown 'Scan', 'sex'; without 'scan')"),
        ("scan|source|role|role\nx|a.txrm\n", "(twice 'role')"),
        ("scan|source|role\nx||test\n", ":2: source: expected the file or folder of scan x, got an empty cell"),
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.usefixtures("table")
def test_tables_as_spreadsheets_write_them(tmp_path, encoding, line_end):
    """Umlauts, line ends of Windows, empty cells on the right and empty rows below."""
    text = "scan\tsource\tgroup\t\t\nx\ta.txrm\tMäuse\t\t\n\t\t\t\t\n".replace("\n", line_end)
    (tmp_path / "scans.tsv").write_bytes(text.encode(encoding))
    scans = load_scans(tmp_path / "scans.tsv")
    assert {name: scan.group for name, scan in scans.items()} == {"x": "Mäuse"}


@pytest.mark.usefixtures("table")
def test_a_table_in_another_encoding_says_how_to_save_it(tmp_path):
    (tmp_path / "scans.tsv").write_bytes("scan\tsource\tgroup\nx\ta.txrm\tMäuse\n".encode("cp1252"))
    with pytest.raises(SettingsError, match=r"expected a table of text in UTF-8, got other bytes; save it as tab-sep"):
        load_scans(tmp_path / "scans.tsv")
