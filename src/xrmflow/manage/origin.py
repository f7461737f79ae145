"""How a result was made: what Snakemake has on record of it, and what it says itself.

Snakemake's records lie where it was started. Of results brought from elsewhere, or left when the records were deleted,
it knows nothing, and takes them for up to date whatever has changed since.
"""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

METADATA = Path(".snakemake/metadata")
LINEAGE = re.compile(r"'([0-9a-f]{16})'")
# Snakemake folds the names of its records into folders where they are longer than a file's name can be.
LONGEST = 254


def recorded_lineage(output: str) -> list[str]:
    """The lineage of the job that wrote a file; empty where there is none on record.

    The reason Snakemake gives is not enough: of a job whose inputs are new it does not look at the params. Where it has
    no record, stores and documents say for themselves how they were made.
    """
    known = record_of(output)
    if not known:
        return own_lineage(output)
    return [found[1] for text in known.get("params") or () if (found := LINEAGE.fullmatch(text))]


def own_lineage(output: str) -> list[str]:
    """The lineage in the provenance of a store or a document; empty for a file that has none."""
    if not output.endswith(".json"):
        return []
    try:
        lineage = json.loads(Path(output).read_text())["provenance"]["lineage"]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return [lineage] if lineage else []


def unvouched(outputs: Mapping[str, str], is_on_record: Callable[[str], bool]) -> list[str]:
    """Files of which Snakemake has no record, and that do not say themselves that they were made as they would be now.

    Args:
        outputs: by path, the lineage each would be made with now.
        is_on_record: whether Snakemake knows how a file was made: it compares that itself.
    """
    return [
        name
        for name, lineage in outputs.items()
        if Path(name).is_file() and not is_on_record(name) and lineage not in own_lineage(name)
    ]


def record_of(output: str) -> dict[str, Any]:
    """What Snakemake has on record of the job that wrote a file; empty where that is nothing."""
    name = urlsafe_b64encode(output.encode()).decode()
    pieces = [name[start : start + LONGEST] for start in range(0, len(name), LONGEST)]
    file = METADATA.joinpath(*(f"@{piece}" for piece in pieces[:-1]), pieces[-1])
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return {}
