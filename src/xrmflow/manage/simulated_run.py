"""Settings and table of scans for a simulated preset, so that it can be run as it is."""

import os
from pathlib import Path

from xrmflow.config.scans import COLUMNS
from xrmflow.io.manifest import write_durably

HEAD = """\
# Settings of a run on simulated scans (preset {preset}); all other keys have their defaults (config/README.md).
#   snakemake --cores 2 --config settings={folder}/config.yaml
scans: scans.tsv
results: {folder}/results
models: {folder}/models
"""

# Enough training for the preset's size and for its time on two cores, and no more.
BODIES = {
    "tiny": """
n2i_train: {steps: 20, features: 4, levels: 1, neighbours: 1, patch_px: 32, batch: 4, record_steps: 10}
sr_train: {steps: 20, features: 4, levels: 1, neighbours: 1, patch_px: 32, batch: 4, record_steps: 10}
""",
    "demo": """
n2i_train: {steps: 1200}
sr_train: {steps: 800, levels: 1, neighbours: 2}
report: {title: Demo on a simulated bone}
""",
}


def write_run(folder: Path, rows: list[tuple[str, Path, str, str, Path]], *, preset: str) -> Path:
    """Write `config.yaml` and `scans.tsv` into a folder of simulated scans.

    Args:
        folder: where the scans are.
        rows: (scan, source, role, pair, truth folder) of each.
        preset: decides how long networks are trained.

    Returns:
        The settings file.
    """
    lines = ["\t".join(COLUMNS)]
    for scan, source, role, pair, truth in rows:
        cells = (scan, os.path.relpath(source, folder), role, pair, os.path.relpath(truth, folder))
        lines.append("\t".join(cells))
    write_durably(folder / "scans.tsv", "\n".join(lines) + "\n")
    settings = folder / "config.yaml"
    write_durably(settings, HEAD.format(preset=preset, folder=folder.as_posix()) + BODIES.get(preset, ""))
    return settings
