"""What the rules are told: which scans, volumes and networks take part, and with which settings."""

import numpy as np
import pytest

from xrmflow.errors import SettingsError
from xrmflow.io.cfb import SIGNATURE
from xrmflow.manage.jobs import planned_jobs
from xrmflow.manage.plan import read_plan, settings_file


def test_iteration_takes_part_only_where_it_is_measured(plan):
    without, beside = plan(), plan("measure: [volume, iterative]")
    assert "iterative" not in without.measured("mouse")
    assert "iterative" not in {step.stage for step in planned_jobs(without)}
    assert beside.measured("mouse") == ["volume", "iterative"]
    assert beside.is_iterated("mouse")
    assert not without.is_iterated("mouse")


def test_settings_of_an_iteration_that_is_not_asked_for_change_nothing(plan):
    changed = "iterative: {method: sirt}\n"
    assert plan(changed).lineage("collect") == plan().lineage("collect")
    measure = "measure: [volume, iterative]\n"
    before, now = plan(measure), plan(measure + changed)
    assert now.lineage("collect") != before.lineage("collect")
    assert now.lineage("segment", "mouse", "volume") == before.lineage("segment", "mouse", "volume")
    assert now.lineage("segment", "mouse", "iterative") != before.lineage("segment", "mouse", "iterative")


def test_scans_of_a_protocol_share_a_correction(plan, tmp_path):
    alone = plan()
    assert alone.protocols == {}
    rows = "".join(f"{name}\tmouse.txrm\ttest\t{protocol}\n" for name, protocol in (("a", "p"), ("b", ""), ("c", "p")))
    (tmp_path / "scans.tsv").write_text(f"scan\tsource\trole\tprotocol\n{rows}")
    shared = plan()
    assert shared.protocols == {"p": ["a", "c"]}
    assert [shared.protocol_of(scan) for scan in "abc"] == ["p", "", "p"]
    assert shared.lineage("fdk", "a") != alone.lineage("fdk", "mouse")
    assert shared.lineage("fdk", "b") == alone.lineage("fdk", "mouse")
    assert shared.lineage("cupping", "a") == alone.lineage("cupping", "mouse")
    for text in ("cupping_protocol: {scope: scan}\n", "cupping: {method: none}\n"):
        assert plan(text).protocols == {}
    (tmp_path / "wedge.csv").touch()
    assert plan(f"cupping: {{method: curve, curve: {tmp_path / 'wedge.csv'}}}\n").protocols == {}
    assert plan("cupping_protocol: {scope: scan}\n").lineage("fdk", "a") == alone.lineage("fdk", "mouse")


@pytest.fixture
def earlier(tmp_path):
    """Weights of an earlier run, one of them with its card beside it."""
    for name in ("mine.safetensors", "mine.json", "other.safetensors"):
        (tmp_path / name).touch()


def test_the_card_of_the_network_trained_here_is_shown(plan):
    assert plan().cards("mouse", "n2i.json", "sr.json") == ["n2i.json"]


@pytest.mark.usefixtures("earlier")
def test_the_cards_beside_weights_trained_earlier_are_shown(plan):
    assert plan("trained_n2i: mine.safetensors").cards("mouse", "n2i.json", "sr.json") == ["mine.json"]
    assert plan("trained_sr: mine.safetensors").cards("mouse", "n2i.json", "sr.json") == ["n2i.json", "mine.json"]
    assert plan("trained_n2i: other.safetensors").cards("mouse", "n2i.json", "sr.json") == []


@pytest.mark.usefixtures("earlier")
def test_networks_that_are_not_applied_have_no_card(plan):
    assert plan("trained_n2i: mine.safetensors\nmeasure: [volume]").cards("mouse", "n2i.json", "sr.json") == []
    text = "trained_sr: mine.safetensors\nmeasure: [volume, denoised]"
    assert plan(text).cards("mouse", "n2i.json", "sr.json") == ["n2i.json"]


@pytest.mark.parametrize("network", ["n2i", "sr"])
def test_weights_that_the_run_itself_trains_are_refused(plan, tmp_path, network):
    """Snakemake would plan their training, which has nothing to learn from."""
    own = tmp_path / "models" / "default" / f"{network}.safetensors"
    own.parent.mkdir(parents=True)
    own.touch()
    text = f"models: {tmp_path}/models\ntrained_{network}: {own}\n"
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(
        SettingsError, match=f"trained_{network}: expected weights of another run, got .*model: default"
    ):
        read_plan(tmp_path / "config.yaml")
    assert plan(text + "model: next\n").settings.model == "next"


def test_with_weights_trained_earlier_settings_of_training_change_nothing(plan, tmp_path):
    for name in ("n2i", "sr"):
        (tmp_path / f"{name}.safetensors").touch()
    given = f"trained_n2i: {tmp_path}/n2i.safetensors\ntrained_sr: {tmp_path}/sr.safetensors\n"
    changed = given + "n2i_train: {steps: 7}\nsr_train: {steps: 7}\n"
    assert plan(changed).lineage("collect") == plan(given).lineage("collect")
    split = given + "n2i_split: {splits: 3}\n"
    for stage in ("n2i_apply", "sr_apply"):
        assert plan(split).lineage(stage, "mouse") != plan(given).lineage(stage, "mouse")


def test_what_takes_no_part_gives_place_to_what_is_above_it(plan, tmp_path):
    """Without Noise2Inverse, super-resolution works on volumes of FDK, and follows its settings."""
    (tmp_path / "scans.tsv").write_text(
        "scan\tsource\trole\tpair\nlow\tmouse.txrm\ttest\thigh\nhigh\tmouse.txrm\treference\t\n"
    )
    window = "fdk: {window: hann}\n"
    assert not plan().has_n2i
    assert plan(window).lineage("sr_train") != plan().lineage("sr_train")
    assert plan(window).lineage("sr_apply", "low") != plan().lineage("sr_apply", "low")


def test_a_step_wedge_that_is_not_there_is_named(plan, capsys):
    with pytest.raises(SystemExit):
        plan("cupping: {method: curve, curve: none.csv}\n")
    assert "cupping.curve: no such file none.csv" in capsys.readouterr().err


@pytest.fixture
def volumes(tmp_path, plan, write_isq):
    """A function that plans a run of a scan and two volumes that are reconstructed already."""
    write_isq(tmp_path / "tibia.isq", np.zeros((5, 6, 7), np.int16))
    (tmp_path / "femur.txm").write_bytes(SIGNATURE + bytes(600))

    def planned(text="", tibia="test", femur="", mouse=""):
        rows = [f"mouse\tmouse.txrm\ttrain\t{mouse}", f"tibia\ttibia.isq\t{tibia}", f"femur\tfemur.txm\t\t{femur}"]
        header = "scan\tsource\trole\tpair\tprotocol"
        (tmp_path / "scans.tsv").write_text("\n".join([header, *rows]) + "\n")
        (tmp_path / "config.yaml").write_text(text)
        return read_plan(tmp_path / "config.yaml")

    return planned


def test_a_row_may_be_a_volume_that_is_reconstructed_already(volumes):
    plan = volumes(femur="\tp", mouse="\tp")
    assert [scan for scan in plan.scans if plan.imports(scan)] == ["tibia", "femur"]
    assert plan.measured("tibia") == ["volume"]
    assert plan.measured("mouse") == ["volume", "denoised"]
    assert plan.protocols == {"p": ["mouse"]}
    assert plan.cards("tibia", "n2i.json", "sr.json") == []
    jobs = [job.stage for job in planned_jobs(plan) if job.scan == "tibia"]
    assert jobs == ["import_volume", "report", "segment", "morphometry"]
    assert plan.size("tibia").shape == (5, 6, 7)
    assert plan.size("femur") is None


def test_settings_reach_volumes_only_from_segmentation_on(volumes):
    before = volumes()
    for text in ("ingest: {angle_sign: -1}", "fdk: {window: hann}", "n2i_train: {steps: 3}"):
        assert volumes(text).lineage("report", "tibia") == before.lineage("report", "tibia")
        assert volumes(text).lineage("report", "mouse") != before.lineage("report", "mouse")
    for text in ("segment: {lacunae: false}", "import_volume: {slope_per_mm: 3.0}"):
        assert volumes(text).lineage("report", "tibia") != before.lineage("report", "tibia")
    imported = "import_volume: {slope_per_mm: 3.0}"
    assert volumes(imported).lineage("report", "mouse") == before.lineage("report", "mouse")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"tibia": "train"}, "scan tibia: its source is a reconstructed volume; role: expected test, got train"),
        ({"tibia": "reference"}, "role: expected test, got reference"),
        ({"femur": "mouse"}, "scan femur: its source is a reconstructed volume; pair: expected none, got mouse"),
        ({"mouse": "tibia"}, "scan tibia: its source is a reconstructed volume; partner: expected none, got mouse"),
        ({"text": "measure: [denoised]"}, "measure does not name volume"),
    ],
)
def test_what_a_volume_cannot_be_is_said_before_any_job(volumes, rows, says):
    with pytest.raises(SettingsError) as caught:
        volumes(**rows)
    assert says in str(caught.value)


def test_scans_of_a_protocol_have_one_degree(plan, tmp_path):
    (tmp_path / "b.yaml").write_text("cupping: {degree: 3}\n")
    rows = "a\tmouse.txrm\tp\t\nb\tmouse.txrm\tp\tb.yaml\n"
    (tmp_path / "scans.tsv").write_text(f"scan\tsource\tprotocol\tsettings\n{rows}")
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(SettingsError, match=r"cupping\.degree: .* protocol p, got 2 \(a\), 3 \(b\)"):
        read_plan(tmp_path / "config.yaml")


@pytest.mark.parametrize("measure", ["denoised", "superres"])
def test_a_scan_of_which_nothing_would_be_measured_is_refused(plan, tmp_path, capsys, measure):
    (tmp_path / "scans.tsv").write_text("scan\tsource\trole\nmouse\tmouse.txrm\ttest\n")
    with pytest.raises(SystemExit):
        plan(f"measure: [{measure}]\n")
    assert f"measure: expected a volume that scan mouse can have, got {measure}" in capsys.readouterr().err
    assert plan(f"measure: [volume, {measure}]\n").measured("mouse") == ["volume"]


def test_trainings_wait_for_the_scans_they_read(plan, tmp_path):
    rows = ("low\tmouse.txrm\ttest\thigh", "high\tmouse.txrm\treference\t", "mouse\tmouse.txrm\ttrain\t")
    (tmp_path / "scans.tsv").write_text("\n".join(["scan\tsource\trole\tpair", *rows]) + "\n")
    assert plan().learned == ["mouse", "low", "high"]
    assert plan("measure: [volume]\n").learned == []


def test_the_settings_file_is_all_that_snakemake_is_told(capsys):
    assert settings_file({"settings": "a.yaml", "container": "x.sif"}) == "a.yaml"
    assert settings_file({"settings": 5}) == "5"
    with pytest.raises(SystemExit):
        settings_file({"setings": "a.yaml"})
    assert "--config: expected settings=FILE (or container=IMAGE), got setings=..." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("results: ''\n", "results: expected the name of a folder of its own"),
        ("results: .\n", "got '.'"),
        ("models: ~/models\n", "models: expected the name of a folder"),
        ("measure: []\n", "measure: expected at least one volume, and each once, got none"),
        ("measure: [volume, volume]\n", "each once, got volume, volume"),
    ],
)
def test_what_a_run_cannot_be_told(plan, capsys, text, says):
    with pytest.raises(SystemExit):
        plan(text)
    said = capsys.readouterr().err
    assert f"config.yaml:1: {says}" in said if ": " in says else says in said
    assert said.count("got ") == 1


def test_a_folder_has_one_name_however_it_is_written(plan):
    assert {
        plan(f"results: {name}\n").settings.results for name in ("my results", "./my results/", "my results//")
    } == {"my results"}


def test_rows_that_only_their_names_tell_apart_are_doubted(plan, tmp_path):
    """The same scan twice in a study is one animal counted as two."""
    (tmp_path / "b.yaml").write_text("cupping: {degree: 3}\n")
    head = "scan\tsource\tsettings\na\tmouse.txrm\t\n"
    (tmp_path / "scans.tsv").write_text(head + "b\tmouse.txrm\tb.yaml\n")
    assert plan().doubts == []
    (tmp_path / "scans.tsv").write_text(head + "b\t./mouse.txrm\t\n")
    (doubt,) = plan().doubts
    assert "scans a, b have the same source, mouse.txrm" in doubt


def test_a_threshold_is_above_nothing(plan, capsys):
    with pytest.raises(SystemExit):
        plan("segment: {threshold_method: attenuation_per_mm, threshold: -1}\n")
    assert "segment.threshold: expected a value greater than 0, got -1" in capsys.readouterr().err
