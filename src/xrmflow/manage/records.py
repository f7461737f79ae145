"""What each lineage of a run was made of, kept beside the results: settings, modules and the lineages above.

A lineage says that something has changed; `xrmflow why` compares its record with the present and says what.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xrmflow.io.manifest import write_durably
from xrmflow.manage.lineage import PACKAGE, ancestors, parts

FOLDER = ".lineages"


@dataclass(frozen=True)
class Record:
    """What a lineage was made of.

    Attributes:
        stage: whose it is.
        settings: its section.
        code: hash of each module and data file, by name.
        above: lineage of each stage right above.
    """

    stage: str
    settings: dict[str, Any]
    code: dict[str, str]
    above: dict[str, str]


def record(stage: str, sections: dict[str, str], *, volume: str = "volume") -> Record:
    """The record of a stage's lineage as it is now; arguments as of `lineage`."""
    code = {name: digest[:16] for name, digest in parts(f"{PACKAGE}.stages.{stage}").items()}
    return Record(stage, json.loads(sections[stage]), code, ancestors(stage, sections, volume=volume))


def keep(results: Path, records: dict[str, Record]) -> None:
    """Write the records, by lineage, that are not there yet."""
    folder = results / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for lineage, one in records.items():
        file = folder / f"{lineage}.json"
        if not file.exists():
            write_durably(file, json.dumps(asdict(one), indent=1) + "\n")


def read(results: Path, lineage: str) -> Record | None:
    """The record of an earlier lineage; None where there is none that can be read."""
    try:
        return Record(**json.loads((results / FOLDER / f"{lineage}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def changes(results: Path, old: str, new: str, present: dict[str, Record]) -> list[tuple[str, str]]:
    """What differs between a lineage and a present one, in its own stage and in all above, as (stage, words).

    Args:
        results: the folder with the earlier records.
        old: the earlier lineage.
        new: the present lineage.
        present: the records of the present, by lineage.
    """
    before, now = read(results, old), present[new]
    if old == new:
        return []
    if before is None:
        return [(now.stage, "something has changed (what it was made of is not on record)")]
    found = [(now.stage, text) for text in (*_settings(before, now), *_code(before, now))]
    for stage, lineage in now.above.items():
        if stage in before.above:
            found += changes(results, before.above[stage], lineage, present)
    found += [(now.stage, f"stage {stage} now comes before it") for stage in now.above if stage not in before.above]
    found += [(now.stage, f"stage {stage} no longer comes before it") for stage in before.above.keys() - now.above]
    return list(dict.fromkeys(found))


def _settings(before: Record, now: Record) -> Iterator[str]:
    for key in sorted(before.settings.keys() | now.settings.keys()):
        old, new = (_shown(one.settings, key) for one in (before, now))
        if old != new:
            yield f"{now.stage}.{key}: {old} -> {new}"


def _shown(settings: dict[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "(no such key)"


def _code(before: Record, now: Record) -> Iterator[str]:
    for name in sorted(before.code.keys() | now.code.keys()):
        if before.code.get(name) != now.code.get(name):
            what = "file" if "/" in name else "module"
            verb = "is new" if name not in before.code else "is gone" if name not in now.code else "has changed"
            yield f"{what} {name} {verb}"
