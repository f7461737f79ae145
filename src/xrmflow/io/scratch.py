"""Arrays on a disk for intermediate results that do not fit into memory."""

import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.arrays import InMemory
from xrmflow.errors import SettingsError, StoreError
from xrmflow.morphometry.slabs import Needs, Workspace, usual_slab

SCRATCH = "XRMFLOW_SCRATCH"


class OnDisk:
    """A `Scratch` of files without a name, mapped into memory: they are gone with the process, even a killed one.

    What has been touched stays in memory until `release`; the system may write it to the disk and forget it any time.

    Args:
        folder: on a disk with room for them; not one that lies in memory itself.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of zeros; raises StoreError when the disk is full."""
        size = max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            try:
                # Without its blocks set aside, a full disk would end the process at some later write.
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise StoreError(
                    f"{self._folder}: expected {size / 1e9:.3g} GB of room for intermediate results, got {error}; "
                    "free some, or raise memory_gb"
                ) from error
            mapped = mmap.mmap(file.fileno(), size)
        self._maps.add(mapped)
        return np.frombuffer(mapped, dtype, count=int(np.prod(shape))).reshape(shape)

    def release(self) -> None:
        """Give back the memory that touched parts take."""
        for mapped in list(self._maps):
            mapped.madvise(mmap.MADV_DONTNEED)


def scratch_folder(beside: Path) -> Path:
    """Where intermediate results go: the folder named by XRMFLOW_SCRATCH, or that of the result.

    A cluster's disk of the node is often named by a variable that only the job knows: XRMFLOW_SCRATCH='$TMPDIR'.

    Raises:
        SettingsError: it names a variable that is not set, or a folder in which nothing can be made.
    """
    named = os.environ.get(SCRATCH, "")
    if not named:
        return beside
    folder = Path(os.path.expandvars(named))
    if "$" in str(folder) or not os.access(folder, os.W_OK):
        raise SettingsError(
            f"{SCRATCH}: expected a folder that can be written to, got {named!r} ({folder}) on this node"
        )
    return folder


def workspace(beside: Path, shape: tuple[int, ...], *, memory_gb: float, needs: Needs) -> Workspace:
    """Where work on a volume keeps its arrays: in memory, or, where they do not fit, in files.

    Args:
        beside: the result's folder, on a disk, for the files; made if it does not exist. See `scratch_folder`.
        shape: of the volume.
        memory_gb: for arrays, 1e9 bytes.
        needs: what the work takes.

    Raises:
        SettingsError: slabs of a single slice take more.
    """
    enough = usual_slab(shape)
    if needs.fit(shape, memory_gb):
        return Workspace(InMemory(), enough)
    if memory_gb < needs.least_gb(shape):
        raise SettingsError(
            f"memory_gb: expected at least {needs.least_gb(shape):.2g} for slices of {shape[1]} x {shape[2]} voxels, "
            f"got {memory_gb:g}"
        )
    folder = scratch_folder(beside)
    folder.mkdir(parents=True, exist_ok=True)
    return Workspace(OnDisk(folder), min(needs.slab_voxels(shape, memory_gb, on_disk=True), enough))
