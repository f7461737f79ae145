"""JSON from files that may be damaged or hostile: every way in which it can fail is a `ValueError`."""

import json
from typing import Any


def parse(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: not JSON, not UTF-8, nested too deeply, or a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_known(version: Any, newest: int) -> bool:
    """Whether a file's schema version is one that this program reads."""
    return isinstance(version, int) and 0 < version <= newest
