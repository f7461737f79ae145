"""Small named arrays (pictures, profiles) in one npz file, written whole or not at all."""

import io
from pathlib import Path

import numpy as np

from xrmflow.io.manifest import write_durably


def write_arrays(path: Path | str, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays by name to a compressed npz file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_durably(path, buffer.getvalue())
