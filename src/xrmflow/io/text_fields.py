"""Descriptions of scans that are plain text: sections in brackets, and lines of `name=value`.

Nikon's `.xtekct` and SkyScan's `.log` are of this kind. Names repeat, values hold `%`, `#` and `;`, and letters outside
ASCII come as Windows-1252, so that Python's own reader of such files, which gives these a meaning, is not used.
"""

import math
import re
from pathlib import Path

from xrmflow.errors import RawFileError
from xrmflow.io.raw_scan import Note

MOST_BYTES = 1 << 22
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class Fields:
    """The values of a description by section and name, whatever their case.

    Args:
        path: the file.

    Raises:
        RawFileError: it cannot be read, or is too large to be a description.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values: dict[tuple[str, str], str] = {}
        section = ""
        for line in read_text(path).splitlines():
            line = line.strip()
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1].strip().lower()
            elif "=" in line:
                name, value = line.split("=", 1)
                self._values.setdefault((section, name.strip().lower()), value.strip())

    def text(self, section: str, name: str) -> str | None:
        """The value, or None where there is none or it is empty."""
        return self._values.get((section.lower(), name.lower())) or None

    def number(self, section: str, name: str) -> float | None:
        """The number that the value begins with (units may follow), or None where there is none.

        Raises:
            RawFileError: the value is no finite number.
        """
        text = self.text(section, name)
        if text is None:
            return None
        found = NUMBER.match(text)
        value = float(found[0]) if found else math.nan
        if not math.isfinite(value):
            raise RawFileError(f"{self.path}: {name}: expected a number, got {text[:40]!r}")
        return value

    def positive(self, section: str, name: str, notes: list[Note]) -> float | None:
        """The number, or None with a note where there is none above zero."""
        value = self.number(section, name)
        if value is None:
            notes.append(Note("missing", f"{name}: not in the file"))
            return None
        if value > 0:
            return value
        notes.append(Note("warning", f"{name}: expected a positive number, got {value:g}; not used"))
        return None


def read_text(path: Path) -> str:
    """A short text file of a Windows program.

    Raises:
        RawFileError: it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise RawFileError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > MOST_BYTES:
        raise RawFileError(f"{path}: expected a text of at most {MOST_BYTES} bytes, got more")
    return data.decode("cp1252", "replace")
