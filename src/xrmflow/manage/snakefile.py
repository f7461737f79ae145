"""Where the workflow is, for commands that are given in the folder of a study instead of the project's own."""

import shlex
from pathlib import Path

# Where Snakemake looks by itself, below the folder it is started in.
FOUND_BY_SNAKEMAKE = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")
BESIDE_THE_PACKAGE = Path(__file__).parents[3] / "Snakefile"


def snakefile_option() -> list[str]:
    """`--snakefile FILE` where Snakemake would not find the workflow by itself and it is known where that is."""
    if any(Path(name).is_file() for name in FOUND_BY_SNAKEMAKE) or not BESIDE_THE_PACKAGE.is_file():
        return []
    return ["--snakefile", str(BESIDE_THE_PACKAGE)]


def command_line(settings: Path) -> str:
    """The line that runs the workflow with some settings from this folder."""
    return shlex.join(["snakemake", *snakefile_option(), "--cores", "all", "--config", f"settings={settings}"])
