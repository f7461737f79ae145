"""The strict settings loader: YAML without surprises, errors with file, line, key and the nearest valid key.

Accepted is what YAML 1.2 calls the core of it: maps, lists, true/false, null, decimal numbers (1e-3 is a number),
strings. Refused are duplicate keys, anchors and aliases, merge keys, tags, several documents, and templates of any
kind.
"""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from xrmflow.errors import SettingsError

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 1_000_000
MAX_DEPTH = 20


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 scalars: only true/false are booleans, 1e-3 is a number, 08 and 1:30 are strings."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own class attribute)


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)

Location = tuple[str | int, ...]
# Python's words for what YAML calls otherwise.
PLAIN = {
    "expected boolean": "expected true or false",
    "expected integer": "expected a whole number",
    "expected number": "expected a number",
    "expected string": "expected text",
    "expected array": "expected a list, such as [1, 2]",
    "expected an object": "expected keys and their values",
    "String should match pattern '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'": "expected letters, digits, _ and - (at most 64)",
}
# What to do about slips that YAML has its own words for.
YAML_ADVICE = {
    "found character '\\t'": "; indent with spaces, not with tabs",
    "expected <block end>": "; indent all keys of a section alike, below its own line (is that still commented out?)",
    "mapping values are not allowed here": "; indent all keys of a section alike",
    "expected escape sequence": "; write paths with /, or in single quotes",
}


@dataclass(frozen=True)
class Written:
    """Settings as they are written, before they are checked.

    Attributes:
        values: sections and keys.
        places: "file:line" of each key, by its path from the top; () for the file itself.
    """

    values: dict[str, Any]
    places: dict[Location, str]

    def under(self, over: "Written") -> "Written":
        """Settings with those of another file laid over them, key by key within each section.

        A section of both files has the places of both, because a fault between two of its keys may lie in either.
        """
        values, places = dict(self.values), dict(self.places)
        for section, keys in over.values.items():
            below = values.get(section)
            values[section] = {**below, **keys} if isinstance(below, dict) and isinstance(keys, dict) else keys
        for at, place in over.places.items():
            places[at] = f"{place} (over {places[at]})" if len(at) == 1 and at in places else place
        return Written(values, places)


def load_settings(path: Path | str, model: type[Model]) -> Model:
    """Read and validate a settings file.

    Args:
        path: the YAML file.
        model: the pydantic model it must fit.

    Raises:
        SettingsError: one line a fault, each with file, line, key, what was expected, and the nearest valid key.
    """
    return validated(read_settings(path), model)


def read_settings(path: Path | str) -> Written:
    """Read a settings file without asking what its keys mean; raises SettingsError where it is not plain YAML."""
    path = Path(path)
    values, lines = _parse(path)
    return Written(values, {at: f"{path}:{line}" for at, line in lines.items()})


def validated(written: Written, model: type[Model]) -> Model:
    """Settings that fit a model; raises SettingsError, one line a fault, as `load_settings` does."""
    try:
        return model.model_validate_json(json.dumps(written.values))
    except ValidationError as error:
        faults = [_explain(fault, model, written.places) for fault in error.errors()]
        raise SettingsError("\n".join(dict.fromkeys(faults))) from None


def section_from_json(text: str, model: type[Model]) -> Model:
    """Read the one-line JSON of a section, as a rule passes it to its stage."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "params"
        raise SettingsError(f"params: {where}: {_expected(fault)}, got {fault['input']!r}") from None


def _parse(path: Path) -> tuple[Any, dict[Location, int]]:
    """Read a file as plain values, with the line of each key."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        advice = "; give --settings FILE (snakemake: --config settings=FILE)" if not path.exists() else ""
        raise SettingsError(f"{path}: cannot read the settings file ({error.strerror}){advice}") from None
    if len(raw) > MAX_BYTES:
        raise SettingsError(f"{path}: expected a settings file of less than {MAX_BYTES} bytes, got {len(raw)}")
    lines: dict[Location, int] = {(): 1}
    try:
        text = raw.decode("utf-8-sig")
        depth = 0
        for event in yaml.parse(text, _Loader):
            _refuse(event, path)
            # While parsing: thousands of brackets would take minutes, and then more stack than there is.
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise SettingsError(f"{path}:{event.start_mark.line + 1}: nested deeper than {MAX_DEPTH} levels")
        node = yaml.compose(text, _Loader)
        value = {} if node is None else _construct(node, (), lines, path)
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: expected UTF-8 text ({error.reason} at byte {error.start}); save it so") from None
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line + 1) if error.problem_mark else 1
        said = f"{error.problem or error.context}"
        advice = next((text for start, text in YAML_ADVICE.items() if said.startswith(start)), "")
        raise SettingsError(f"{path}:{line}: not valid YAML: {said}{advice}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(f"{path}:{line}: not valid YAML: {error.reason} (#x{error.character:04x})") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(value, dict):
        raise SettingsError(f"{path}:1: expected a map of sections (section: …), got {type(value).__name__}")
    return value, lines


def _refuse(event: yaml.Event, path: Path) -> None:
    line = event.start_mark.line + 1
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise SettingsError(f"{path}:{line}: anchors and aliases (&, *) are not accepted; write the value out")
    if tag := getattr(event, "tag", None):
        raise SettingsError(f"{path}:{line}: tags ({tag}) are not accepted; write a plain value")


def _construct(node: yaml.Node, at: Location, lines: dict[Location, int], path: Path) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _construct_map(node, at, lines, path)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*at, index] = item.start_mark.line + 1
        return [_construct(item, (*at, index), lines, path) for index, item in enumerate(node.value)]
    return _scalar(node)


def _construct_map(node: yaml.MappingNode, at: Location, lines: dict[Location, int], path: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise SettingsError(f"{path}:{line}: expected a plain key")
        key = str(key_node.value)
        if key == "<<":
            raise SettingsError(f"{path}:{line}: merge keys (<<) are not accepted; write the keys out")
        if key in values:
            raise SettingsError(f"{path}:{line}: duplicate key {key!r} (first on line {lines[*at, key]}); keep one")
        lines[*at, key] = line
        values[key] = _construct(value_node, (*at, key), lines, path)
    return values


def _scalar(node: yaml.Node) -> Any:
    kind = node.tag.rsplit(":", 1)[-1]
    if kind == "bool":
        return node.value.lower() == "true"
    if kind == "null":
        return None
    if kind == "int":
        return int(node.value) if len(node.value) < 30 else node.value
    return float(node.value) if kind == "float" else node.value


def nearest(key: str, valid: Iterable[str]) -> str:
    """What to write instead of an unknown key, in words."""
    valid = sorted(valid)
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"valid keys here: {', '.join(valid)}"


def _explain(fault: Any, model: type[BaseModel], places: dict[Location, str]) -> str:
    """One line: file, line, key, what was expected, what was got, the nearest valid key."""
    where = tuple(fault["loc"])
    known = next(where[:n] for n in range(len(where), -1, -1) if where[:n] in places)
    place = f"{places[known]}: {'.'.join(str(part) for part in where) or 'settings'}"
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown key {str(where[-1])!r}; {_hint(str(where[-1]), model, where[:-1])}"
    if fault["type"] == "missing":
        return f"{place}: required key is missing"
    said = _expected(fault)
    return f"{place}: {said}" if ", got " in said else f"{place}: {said}, got {_shown(fault['input'])}"


def _hint(key: str, model: type[BaseModel], at: Location) -> str:
    """What to write instead of an unknown key: its section, where it is a key of one, else the nearest."""
    sections = [name for name in _valid_keys(model, ()) if key in _valid_keys(model, (name,))] if not at else []
    if sections:
        return f"it belongs below {' or '.join(f'{name}:' for name in sections)}, indented"
    if at and key.isdigit():
        return "decimal numbers are written with a point"
    return nearest(key, _valid_keys(model, at))


def _shown(value: Any) -> str:
    """A value as it is written in YAML."""
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _expected(fault: Any) -> str:
    """What was expected, in the words of all our messages."""
    said = fault["msg"].removeprefix("Value error, ")
    said = re.sub(r"^Input should be (?=greater|less)", "expected a value ", said)
    said = re.sub(r"^Input should be (a valid )?", "expected ", said)
    return PLAIN.get(said, said)


def _valid_keys(model: type[BaseModel], at: Location) -> list[str]:
    current: Any = model
    for part in at:
        field = _fields(current).get(part) if isinstance(current, type) else None
        if field is None:
            continue
        options = [field.annotation, *get_args(field.annotation)]
        current = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), current)
    return list(_fields(current))


def _fields(model: type[BaseModel]) -> dict[Any, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}
