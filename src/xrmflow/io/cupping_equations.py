"""What a scan's beam-hardening correction was fitted from, from its file."""

from pathlib import Path

import numpy as np

from xrmflow.calibration.protocol import ScanEquations
from xrmflow.errors import StoreError


def read_equations(path: Path) -> ScanEquations:
    """Equations as stage cupping wrote them.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return ScanEquations.of({name: archive[name] for name in archive.files})
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise StoreError(f"{path}: not readable as equations of cupping ({error}); run stage cupping again") from None
