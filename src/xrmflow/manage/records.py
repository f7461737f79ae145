"""What each lineage of a run was made of, kept beside the results: settings, modules and the lineages above.

A lineage says that something has changed; `xrmflow why` compares its record with the present and says what.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xrmflow.io.manifest import write_durably
from xrmflow.manage.lineage import PACKAGE, Lineages, parts
from xrmflow.manage.steps import Step

FOLDER = ".lineages"


@dataclass(frozen=True)
class Record:
    """What a lineage was made of.

    Attributes:
        stage: whose it is.
        settings: its section.
        code: hash of each module and data file, by name.
        above: lineage of each step right above, by what it is to this one.
    """

    stage: str
    settings: dict[str, Any]
    code: dict[str, str]
    above: dict[str, str]


@dataclass(frozen=True)
class Change:
    """What differs between a lineage and a present one.

    Attributes:
        step: whose own the change is: the one asked for, or one above it.
        text: in words.
        key: of the step's settings, where it is one of them.
    """

    step: Step
    text: str
    key: str = ""


def record(step: Step, lineages: Lineages) -> Record:
    """The record of a step's lineage as it is now."""
    code = {name: digest[:16] for name, digest in parts(f"{PACKAGE}.stages.{step.stage}").items()}
    return Record(step.stage, json.loads(lineages.section(step)), code, lineages.above(step))


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


def changes(results: Path, old: str, step: Step, lineages: Lineages) -> list[Change]:
    """What differs between an earlier lineage of a step and its present one, in the step itself and in all above.

    Args:
        results: the folder with the earlier records.
        old: the earlier lineage.
        step: whose it was.
        lineages: the present ones.
    """
    return list(dict.fromkeys(_changes(results, old, step, lineages, set())))


def _changes(results: Path, old: str, step: Step, lineages: Lineages, seen: set[tuple[str, Step]]) -> Iterator[Change]:
    """The changes; `seen` holds what has been compared: many ways lead to the same steps above."""
    if old == lineages.of(step) or (old, step) in seen:
        return
    seen.add((old, step))
    before, now = read(results, old), record(step, lineages)
    if before is None:
        yield Change(step, "something has changed (what it was made of is not on record)")
        return
    yield from _settings(before, now, step)
    yield from (Change(step, text) for text in _code(before, now))
    for name, parent in lineages.steps_above(step).items():
        if name in before.above:
            yield from _changes(results, before.above[name], parent, lineages, seen)
    yield from (Change(step, f"{name} now comes before it") for name in now.above if name not in before.above)
    gone = before.above.keys() - now.above
    yield from (Change(step, f"{name} no longer comes before it") for name in sorted(gone))


def _settings(before: Record, now: Record, step: Step) -> Iterator[Change]:
    for key in sorted(before.settings.keys() | now.settings.keys()):
        old, new = (_shown(one.settings, key) for one in (before, now))
        if old != new:
            yield Change(step, f"{now.stage}.{key}: {old} -> {new}", key)


def _shown(settings: dict[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "(no such key)"


def _code(before: Record, now: Record) -> Iterator[str]:
    for name in sorted(before.code.keys() | now.code.keys()):
        if before.code.get(name) != now.code.get(name):
            what = "file" if "/" in name else "module"
            verb = "is new" if name not in before.code else "is gone" if name not in now.code else "has changed"
            yield f"{what} {name} {verb}"
