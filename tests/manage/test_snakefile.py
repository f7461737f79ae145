from pathlib import Path

from xrmflow.manage import snakefile

ROOT = Path(__file__).parents[2]
PLAIN = "snakemake --cores all --config settings=config.yaml"


def test_in_the_project_snakemake_finds_the_workflow_itself(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert snakefile.command_line(Path("config.yaml")) == PLAIN


def test_in_the_folder_of_a_study_the_workflow_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    said = snakefile.command_line(Path("config.yaml"))
    assert said == PLAIN.replace("snakemake", f"snakemake --snakefile {ROOT / 'Snakefile'}", 1)


def test_a_package_without_its_project_names_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(snakefile, "BESIDE_THE_PACKAGE", tmp_path / "nowhere")
    assert snakefile.command_line(Path("config.yaml")) == PLAIN


def test_a_workflow_of_ones_own_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("Snakefile").touch()
    assert snakefile.snakefile_option() == []
