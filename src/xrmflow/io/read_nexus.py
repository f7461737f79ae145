"""Read NXtomo and its relatives (NeXus HDF5 of synchrotrons): all frames in one stack, told apart by a key.

`image_key` is 0 projection, 1 flat, 2 dark, 3 invalid; `image_key_control` is -1 for alignment frames. Data often lie
in other files, reached through links; those that lead nowhere are named. Lengths without a unit are metres.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xrmflow.arrays import Reader
from xrmflow.errors import RawFileError
from xrmflow.io.hdf5 import (
    DEG_PER,
    KEV_PER,
    MM_PER,
    S_PER,
    DatasetFrames,
    check_frames,
    dangling,
    dataset,
    factor,
    faults_in_words,
    link_at,
    lookup,
    open_hdf5,
    quantity,
    text,
    virtual_files,
)
from xrmflow.io.raw_scan import Note, RawScan, Selected

PROJECTION, FLAT, DARK, INVALID, ALIGNMENT = 0, 1, 2, 3, -1
MAX_DEPTH = 6
ANGLE_WORDS = ("theta", "rot", "angle", "omega")


def read_nexus(path: Path, *, detector: str | None = None) -> RawScan:
    """Open a NeXus tomography file; frames are read when asked for.

    Args:
        path: the file.
        detector: name of the detector group to read; by default the first whose frames can be reached.

    Raises:
        RawFileError: truncated, damaged, or without frames that can be reached.
    """
    file = open_hdf5(path)
    try:
        with faults_in_words(path):
            return _read(path, file, detector)
    except BaseException:
        file.close()
        raise


def _read(path: Path, file: h5py.File, detector: str | None) -> RawScan:
    notes: list[Note] = []
    entry, group, data = _detector(path, file, detector, notes)
    check_frames(data, path)
    keys = _keys(group, data.shape[0], notes)
    angles_of, angles_file = _angles(entry, group, keys, notes)
    stack = DatasetFrames(data, path, keys.size)
    projections = np.flatnonzero(keys == PROJECTION)
    if not projections.size:
        raise RawFileError(f"{path}: {group.name}/image_key marks no frame as a projection (0)")
    flats, darks = (_picked(stack, keys, key, notes) for key in (FLAT, DARK))
    metadata = _metadata(entry, notes)
    _note_links(file, notes)
    return RawScan(
        format="nxtomo",
        source=path,
        files=_files(path, data, [angles_file, lookup(group, "image_key")]),
        projections=Selected(stack, projections),
        flats=flats,
        darks=darks,
        angles_deg=None if angles_of is None else angles_of[projections],
        flat_views=np.cumsum(keys == PROJECTION)[keys == FLAT] if flats is not None else None,
        pixel_mm=_pixel_mm(group, notes),
        exposure_s=quantity(group, "count_time", S_PER, "s", notes),
        row_order="top_down",
        metadata=metadata,
        notes=tuple(notes),
        close=file.close,
    )


def _detector(
    path: Path, file: h5py.File, wanted: str | None, notes: list[Note]
) -> tuple[h5py.Group, h5py.Group, h5py.Dataset]:
    """The entry, the detector group, and its frames."""
    candidates = list(_detectors(file))
    if wanted is not None:
        candidates = [c for c in candidates if _leaf(c[1]) == wanted]
    found, lost = [], []
    for entry, group in candidates:
        data = _frames_of(entry, group)
        if data is not None:
            found.append((entry, group, data))
        elif where := dangling(group, "data"):
            lost.append(f"{group.name}/data leads to {where}, which is absent")
    if not found:
        named = f"no detector {wanted!r}" if wanted else "no detector"
        why = "; ".join(lost) or "ingest.detector names the group to read"
        raise RawFileError(f"{path}: {named} with frames that can be reached ({why})")
    found.sort(key=lambda one: lookup(one[1], "image_key") is None)
    notes += [Note("info", f"link: {line}; not needed") for line in lost]
    if len(found) > 1:
        names = ", ".join(_leaf(group) for _, group, _ in found)
        notes.append(Note("assumption", f"detectors: {names}; {_leaf(found[0][1])} is read (ingest.detector)"))
    return found[0]


def _detectors(file: h5py.File) -> Iterator[tuple[h5py.Group, h5py.Group]]:
    """Every detector group with the entry it belongs to."""
    for parent, name, group in _groups(file, 0):
        if name != "instrument" and text(group.attrs.get("NX_class", "")) != "NXinstrument":
            continue
        for child in sorted(group):
            found = lookup(group, child)
            if isinstance(found, h5py.Group) and (
                text(found.attrs.get("NX_class", "")) == "NXdetector" or "image_key" in found
            ):
                yield parent, found


def _groups(parent: h5py.Group, depth: int) -> Iterator[tuple[h5py.Group, str, h5py.Group]]:
    if depth > MAX_DEPTH:
        return
    for name in map(str, parent):
        if isinstance(link_at(parent, name), h5py.ExternalLink | h5py.SoftLink):
            continue
        found = lookup(parent, name)
        if isinstance(found, h5py.Group):
            yield parent, name, found
            if name != "instrument":
                yield from _groups(found, depth + 1)


def _leaf(group: h5py.Group) -> str:
    return str(group.name).split("/")[-1]


def _frames_of(entry: h5py.Group, group: h5py.Group) -> h5py.Dataset | None:
    """The stack of a detector: in its own group, or in the entry's data group of the same name."""
    places = ((group, "data"), (entry, f"{_leaf(group)}/data"), (entry, "data/data"))
    found = (dataset(where, name) for where, name in places)
    return next((d for d in found if d is not None and d.ndim == 3), None)


def _keys(group: h5py.Group, frames: int, notes: list[Note]) -> np.ndarray:
    """The key of each frame that can be used, alignment frames counted as invalid."""
    found = dataset(group, "image_key")
    if found is None:
        where = dangling(group, "image_key")
        why = f"leads to {where}, which is absent" if where else "not in the file"
        notes.append(Note("missing", f"image_key: {why}; all frames are taken as projections"))
        return np.zeros(frames, dtype=int)
    keys = np.asarray(found[()]).astype(int).ravel()
    if keys.size != frames:
        used = min(keys.size, frames)
        notes.append(Note("warning", f"image_key: {keys.size} for {frames} frames; the first {used} are used"))
        keys = keys[:used]
    control = dataset(group, "image_key_control")
    if control is not None and np.size(control) >= keys.size:
        keys = np.where(np.asarray(control[()]).ravel()[: keys.size] == ALIGNMENT, INVALID, keys)
    left_out = np.count_nonzero(~np.isin(keys, (PROJECTION, FLAT, DARK)))
    if left_out:
        notes.append(Note("info", f"image_key: {left_out} frames are marked invalid or for alignment; left out"))
    return keys


def _picked(stack: Reader, keys: np.ndarray, key: int, notes: list[Note]) -> Reader | None:
    frames = np.flatnonzero(keys == key)
    if frames.size:
        return Selected(stack, frames)
    notes.append(Note("missing", f"{'flats' if key == FLAT else 'darks'}: no frame with image_key {key}"))
    return None


def _angles(
    entry: h5py.Group, group: h5py.Group, keys: np.ndarray, notes: list[Note]
) -> tuple[np.ndarray | None, h5py.Dataset | None]:
    """One angle a frame, degrees, and the dataset it came from."""
    for found in _angle_sources(entry, group):
        angles = np.asarray(found[()], dtype=float).ravel()
        angles = angles * factor(found, DEG_PER, "degrees", notes)
        if angles.size == np.count_nonzero(keys == PROJECTION):
            spread = np.zeros(keys.size)
            spread[keys == PROJECTION] = angles
            angles = spread
        if angles.size >= keys.size:
            notes.append(Note("info", f"angles: from {found.name}"))
            return angles[: keys.size], found
        notes.append(Note("warning", f"angles: {found.name} has {angles.size} for {keys.size} frames; not used"))
    notes.append(Note("missing", "angles: no rotation angle in the file"))
    return None, None


def _angle_sources(entry: h5py.Group, group: h5py.Group) -> Iterator[h5py.Dataset]:
    for where, name in ((entry, "sample/rotation_angle"), (entry, "data/rotation_angle"), (group, "rotation_angle")):
        found = dataset(where, name)
        if found is not None and _numbers(found):
            yield found
    plot = lookup(entry, _leaf(group))
    for name in sorted(plot) if isinstance(plot, h5py.Group) else ():
        found = dataset(plot, name)
        if any(word in name.lower() for word in ANGLE_WORDS) and found is not None and _numbers(found):
            yield found


def _numbers(found: h5py.Dataset) -> bool:
    """Whether a dataset is a list of more than one number."""
    return found.ndim == 1 and found.dtype.kind in "iuf" and found.shape[0] > 1


def _pixel_mm(group: h5py.Group, notes: list[Note]) -> float | None:
    size = quantity(group, "x_pixel_size", MM_PER, "m", notes)
    return size if size is not None and size > 0 else None


def _metadata(entry: h5py.Group, notes: list[Note]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("instrument/beam/incident_energy", "beam/incident_energy", "instrument/monochromator/energy"):
        energy = quantity(entry, name, KEV_PER, "keV", notes)
        if energy:
            found["energy_kev"] = energy
            break
    else:
        notes.append(Note("missing", "energy: no incident_energy of the beam in the file"))
    away = quantity(entry, "instrument/detector/distance", MM_PER, "m", notes)
    if away:
        found["sample_to_detector_mm"] = away
    names = {"sample": "sample/name", "instrument": "instrument/name", "started": "start_time", "ended": "end_time"}
    for key, name in names.items():
        value = dataset(entry, name)
        if value is not None and value.size == 1 and value.dtype.kind in "OSU":
            found[key] = text(value[()])
    return found


def _note_links(file: h5py.File, notes: list[Note]) -> None:
    """One line for all links that lead nowhere and were not needed."""
    lost: dict[str, int] = {}
    for group in [file, *(found for _, _, found in _groups(file, 0))]:
        for name in group:
            link = link_at(group, name)
            if isinstance(link, h5py.ExternalLink) and lookup(group, name) is None:
                lost[link.filename] = lost.get(link.filename, 0) + 1
    if lost:
        places = ", ".join(f"{file} ({count})" for file, count in sorted(lost.items()))
        notes.append(Note("warning", f"links: {sum(lost.values())} lead nowhere: {places}; none of them was needed"))


def _files(path: Path, data: h5py.Dataset, others: list[Any]) -> tuple[Path, ...]:
    """Every file that frames, keys and angles come from."""
    used = [data, *(found for found in others if isinstance(found, h5py.Dataset))]
    names = {Path(found.file.filename) for found in used} | set(virtual_files(data)) | {path}
    unique = {name.resolve(): name for name in names}
    return (path, *sorted(name for key, name in unique.items() if key != path.resolve()))
