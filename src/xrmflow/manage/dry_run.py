"""What Snakemake would run and why, as JSON: asked of Snakemake itself, in a process of its own.

    python -m xrmflow.manage.dry_run SETTINGS FILE

Imports nothing of Snakemake until it is run.
"""

import json
import logging
import re
import sys
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

from xrmflow.manage.snakefile import snakefile_option

METADATA = Path(".snakemake/metadata")
LINEAGE = re.compile(r"'([0-9a-f]{16})'")
# Snakemake folds the names of its records into folders where they are longer than a file's name can be.
LONGEST = 254


class _Jobs(logging.Handler):
    """Keeps what Snakemake logs of each job: its messages on the screen leave out the rule's name and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note a job; anything else that is logged has no reason."""
        if hasattr(record, "reason") and hasattr(record, "rule_name"):
            said = vars(record)
            self.jobs.append(
                {
                    "rule": said["rule_name"],
                    "wildcards": dict(said["wildcards"]),
                    "outputs": list(said["output"]),
                    "reason": said["reason"],
                    "lineages": sorted({name for file in said["output"] for name in recorded_lineage(file)}),
                }
            )


def recorded_lineage(output: str) -> list[str]:
    """The lineage of the job that wrote a file; empty where there is none on record.

    The reason Snakemake gives is not enough: of a job whose inputs are new it does not look at the params.
    """
    params = record_of(output).get("params") or ()
    return [found[1] for text in params if (found := LINEAGE.fullmatch(text))]


def record_of(output: str) -> dict[str, Any]:
    """What Snakemake has on record of the job that wrote a file; empty where that is nothing."""
    name = urlsafe_b64encode(output.encode()).decode()
    pieces = [name[start : start + LONGEST] for start in range(0, len(name), LONGEST)]
    file = METADATA.joinpath(*(f"@{piece}" for piece in pieces[:-1]), pieces[-1])
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def main(settings: str, file: str) -> int:
    """Plan the run of a settings file and write its jobs; returns Snakemake's exit status."""
    from snakemake.cli import main as snakemake

    jobs = _Jobs()
    logging.getLogger().addHandler(jobs)
    try:
        snakemake([*snakefile_option(), "--dry-run", "--cores", "1", "--config", f"settings={settings}"])
    except SystemExit as end:
        if end.code:
            return int(end.code)
    Path(file).write_text(json.dumps(jobs.jobs))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
