"""Shared by the HDF5 formats: opening, quantities with units, links that lead nowhere, faults in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xrmflow.errors import RawFileError
from xrmflow.io.raw_scan import Note, split_selection

FAULTS = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError)
MM_PER = {
    "m": 1e3,
    "metre": 1e3,
    "meter": 1e3,
    "cm": 10.0,
    "mm": 1.0,
    "millimeter": 1.0,
    "um": 1e-3,
    "µm": 1e-3,
    "μm": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "nm": 1e-6,
}
KEV_PER = {"ev": 1e-3, "kev": 1.0, "mev": 1e3, "gev": 1e6}
DEG_PER = {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "°": 1.0, "rad": 180 / np.pi, "radian": 180 / np.pi}
DEG_PER |= {"radians": 180 / np.pi}
S_PER = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3}


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading.

    Raises:
        RawFileError: truncated or damaged.
    """
    with faults_in_words(path):
        return h5py.File(path, "r")


@contextmanager
def faults_in_words(path: Path) -> Iterator[None]:
    """Turn whatever HDF5 raises into one line."""
    try:
        yield
    except FAULTS as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        mend = "copy the file again from its source"
        if "filter" in why.lower() or "plugin" in why.lower():
            mend = "it is compressed with a plugin: pip install hdf5plugin, or rewrite it with h5repack"
        raise RawFileError(f"{path}: truncated or damaged ({why}); {mend}") from None


class DatasetFrames:
    """A `Reader` over a three-dimensional dataset whose faults are one line each."""

    def __init__(self, dataset: h5py.Dataset, path: Path, frames: int | None = None) -> None:
        self._dataset, self._path = dataset, path
        self.shape = (dataset.shape[0] if frames is None else frames, *dataset.shape[1:])
        self.dtype = np.dtype(dataset.dtype)

    def __getitem__(self, selection: Any, /) -> np.ndarray:
        first, rest = split_selection(selection)
        if isinstance(first, slice):
            first = slice(*first.indices(self.shape[0]))
        with faults_in_words(self._path):
            block = np.asarray(self._dataset[first])
        return block[rest] if isinstance(first, int | np.integer) else block[(slice(None), *rest)]


def lookup(group: h5py.Group, name: str) -> Any:
    """The object at a path, or None where there is none or a link on the way leads nowhere."""
    try:
        return group[name]
    except FAULTS:
        return None


def dataset(group: h5py.Group, name: str) -> h5py.Dataset | None:
    """The dataset at a path, or None; one without a shape counts as none."""
    found = lookup(group, name)
    return found if isinstance(found, h5py.Dataset) and found.shape is not None else None


def dangling(group: h5py.Group, name: str) -> str | None:
    """Where a link that leads nowhere points to, in words; None when the path is fine or does not exist."""
    link = link_at(group, name)
    if not isinstance(link, h5py.ExternalLink) or lookup(group, name) is not None:
        return None
    return f"{link.path} in {link.filename}"


def link_at(group: h5py.Group, name: str) -> Any:
    """The link at a path, or None."""
    try:
        return group.get(name, getlink=True)
    except FAULTS:
        return None


def quantity(group: h5py.Group, name: str, units: dict[str, float], default: str, notes: list[Note]) -> float | None:
    """A number in the unit that `units` converts to.

    Args:
        group: where to look.
        name: path of a dataset; its first value counts.
        units: factor by unit (lower case).
        default: the unit taken where the dataset states none; a note says so.
        notes: appended to.
    """
    found = dataset(group, name)
    if found is None or found.dtype.kind not in "iuf" or not found.size:
        return None
    value = float(np.asarray(found[()]).ravel()[0])
    return value * factor(found, units, default, notes)


def factor(found: h5py.Dataset, units: dict[str, float], default: str, notes: list[Note]) -> float:
    """What to multiply a dataset's values by, from its `units` attribute."""
    stated = text(found.attrs.get("units", "")).strip()
    if stated.lower() in units:
        return units[stated.lower()]
    name = (found.name or "").split("/")[-1]
    what = f"unknown unit {stated!r}" if stated else "no unit"
    notes.append(Note("assumption", f"{name}: {what} in the file; taken as {default}"))
    return units[default.lower()]


def text(value: Any) -> str:
    """An attribute or scalar dataset as text."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def check_frames(found: h5py.Dataset, path: Path) -> None:
    """Refuse what is no stack of frames, and virtual datasets with absent parts (they would read as fill values)."""
    if found.ndim != 3 or 0 in found.shape or found.dtype.kind not in "iuf":
        raise RawFileError(
            f"{path}: {found.name}: expected numbers (view, row, col), got {found.dtype} of shape {found.shape}"
        )
    for part in virtual_files(found):
        if not part.is_file():
            raise RawFileError(
                f"{path}: {found.name}: is made of parts in other files, and {part} is absent; copy it too"
            )


def virtual_files(found: h5py.Dataset) -> list[Path]:
    """The other files that a virtual dataset is made of."""
    if not found.is_virtual:
        return []
    own = Path(found.file.filename)
    names = {source.file_name for source in found.virtual_sources()}
    return sorted(own.parent / name for name in names if name != ".")
