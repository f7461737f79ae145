"""Small JSON documents (geometry, cupping, model cards, truth): typed, with provenance, written whole or not at all."""

import json
import math
from pathlib import Path
from typing import Any

from xrmflow.errors import StoreError
from xrmflow.io.manifest import write_durably
from xrmflow.io.strict_json import is_known, parse

SCHEMA_VERSION = 1


def write_document(path: Path | str, *, kind: str, payload: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Write a document; `kind` is checked again by whoever reads it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"kind": kind, "schema_version": SCHEMA_VERSION, **payload, "provenance": provenance}
    write_durably(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same record with null for NaN and infinity, which a vendor's metadata may hold and JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_document(path: Path | str, kind: str) -> dict[str, Any]:
    """Read a document of the expected kind.

    Raises:
        StoreError: missing, not JSON, of another kind, or written by a newer version.
    """
    path = Path(path)
    try:
        document = parse(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; run the stage that writes it") from None
    except ValueError as error:
        raise StoreError(f"{path}: not a readable document ({error}); delete it and run its stage again") from None
    if not isinstance(document, dict) or document.get("kind") != kind:
        found = document.get("kind") if isinstance(document, dict) else type(document).__name__
        raise StoreError(f"{path}: expected a document of kind {kind}, got {found}")
    if not is_known(document.get("schema_version"), SCHEMA_VERSION):
        raise StoreError(
            f"{path}: written by a newer version (schema {document.get('schema_version')}); update xrmflow"
        )
    return document
