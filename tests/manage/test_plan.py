"""What the rules are told: which model cards the report shows."""

import pytest

from xrmflow.manage.jobs import planned_jobs
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
    assert plan().cards("n2i.json", "sr.json") == ["n2i.json"]


@pytest.mark.usefixtures("earlier")
def test_the_cards_beside_weights_trained_earlier_are_shown(plan):
    assert plan("trained_n2i: mine.safetensors").cards("n2i.json", "sr.json") == ["mine.json"]
    assert plan("trained_sr: mine.safetensors").cards("n2i.json", "sr.json") == ["n2i.json", "mine.json"]
    assert plan("trained_n2i: other.safetensors").cards("n2i.json", "sr.json") == []


@pytest.mark.usefixtures("earlier")
def test_networks_that_are_not_applied_have_no_card(plan):
    assert plan("trained_n2i: mine.safetensors\nmeasure: [volume]").cards("n2i.json", "sr.json") == []
    text = "trained_sr: mine.safetensors\nmeasure: [volume, denoised]"
    assert plan(text).cards("n2i.json", "sr.json") == ["n2i.json"]


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
