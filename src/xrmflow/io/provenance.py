"""Where a result came from: stage, settings, inputs, code, versions, machine, time."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xrmflow.config.section import Section
from xrmflow.io.manifest import MANIFEST, store_folder

PACKAGES = ("numpy", "torch", "numba", "scipy", "zarr", "scikit-image")


def provenance(*, stage: str, params: Section | None = None, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Describe the run of a stage.

    Args:
        stage: its name.
        params: its settings section.
        inputs: paths by name (a path, None, or a list of paths); each is recorded by name and, for stores, by chunk
        root.

    Returns:
        A JSON-ready record. Device, threads and versions are recorded here and never decide what is rerun.
    """
    return {
        "stage": stage,
        "settings": None if params is None else json.loads(params.canonical()),
        "inputs": {name: _identify(value) for name, value in (inputs or {}).items()},
        "lineage": os.environ.get("XRMFLOW_LINEAGE"),
        "xrmflow": _version("xrmflow"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
        "device_asked": os.environ.get("XRMFLOW_DEVICE", "auto"),
        "device": _device(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _device() -> str | None:
    """What the numerics ran on, as `xrmflow.io.device.pick` decides; None for a stage that never loaded torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    asked = os.environ.get("XRMFLOW_DEVICE", "auto")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def _identify(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_identify(item) for item in value]
    path = Path(value)
    manifest = store_folder(path) / MANIFEST
    if manifest.is_file():
        return {"path": str(store_folder(path)), "root_sha256": json.loads(manifest.read_text())["root_sha256"]}
    return {"path": str(path)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
