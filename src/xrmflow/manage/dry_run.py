"""What Snakemake would run and why, as JSON: asked of Snakemake itself, in a process of its own.

    python -m xrmflow.manage.dry_run SETTINGS FILE

Imports nothing of Snakemake until it is run.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from xrmflow.manage.origin import recorded_lineage
from xrmflow.manage.snakefile import snakefile_option


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
