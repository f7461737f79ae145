"""Settings of single scans: a file, named in the table of scans, that holds only what differs from the run's."""

from collections.abc import Mapping
from pathlib import Path

from xrmflow.config.loader import Written, nearest, read_settings, validated
from xrmflow.config.settings import Settings
from xrmflow.errors import SettingsError

# Stages that work on one scan by itself. What scans share (networks, the study, folders) belongs to the run; so does
# n2i_split, whose number of splits is part of file names and of the network's shape.
OWN = (
    *("ingest", "import_volume", "flatfield", "align", "cupping", "fdk", "iterative"),
    *("segment", "morphometry", "report"),
)


def own_settings(run: Written, file: Path | str) -> Settings:
    """The settings of a scan: those of the run with the scan's own laid over them, key by key.

    Args:
        run: the settings of the run, as they are written.
        file: the scan's own.

    Raises:
        SettingsError: one line a fault, each with file, line, key, what was expected, and the nearest valid key.
    """
    own = read_settings(file)
    if faults := [_refusal(name, own) for name in own.values if name not in OWN]:
        raise SettingsError("\n".join(faults))
    return validated(run.under(own), Settings)


def all_own_settings(run: Written, files: Mapping[str, str]) -> dict[str, Settings]:
    """The settings of every scan that has some of its own; the faults of all files at once.

    Args:
        run: the settings of the run, as they are written.
        files: by scan; scans may share one.
    """
    found: dict[str, Settings] = {}
    faults: list[str] = []
    for file in dict.fromkeys(files.values()):
        try:
            found[file] = own_settings(run, file)
        except SettingsError as error:
            faults.append(str(error))
    if faults:
        raise SettingsError("\n".join(faults))
    return {scan: found[file] for scan, file in files.items()}


def own_keys(file: Path | str) -> dict[str, tuple[str, ...]]:
    """Section -> the keys that a scan's file names."""
    return {name: tuple(keys) for name, keys in read_settings(file).values.items() if isinstance(keys, dict)}


def _refusal(name: str, own: Written) -> str:
    belongs = {field.alias or key for key, field in Settings.model_fields.items()}
    if name in belongs:
        return f"{own.places[name,]}: {name}: belongs to the run; a scan's own settings may hold {', '.join(OWN)}"
    return f"{own.places[name,]}: {name}: unknown key {name!r}; {nearest(name, OWN)}"
