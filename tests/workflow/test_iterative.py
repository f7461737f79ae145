"""Iterative reconstruction takes part where the settings measure it, and nowhere else."""

import yaml


def test_it_is_run_only_where_it_is_measured(project):
    assert "iterative" not in project.planned()
    file = project.root / "run" / "config.yaml"
    settings = project.settings | {"measure": ["volume", "iterative", "denoised", "superres"]}
    file.write_text(yaml.safe_dump(settings))
    assert project.planned() == {"iterative", "segment", "morphometry", "validate", "collect", "report"}
