"""Called from the copy of the code that runs on the test's cluster: misfortunes ordered by files, each happens once.

An order is a file `<place>.<what>` in the folder named by XRMFLOW_FAULTS; whoever meets it first takes it away.
"""

import os
import time
from pathlib import Path


def at(place):
    """Meet whatever is ordered for a place: hang, or take far more memory than asked for."""
    if _taken(f"{place}.hang"):
        time.sleep(600)
    if _taken(f"{place}.memory"):
        held = b"x" * 1_800_000_000
        time.sleep(60)
        del held


def _taken(order):
    folder = os.environ.get("XRMFLOW_FAULTS")
    if not folder:
        return False
    try:
        os.rename(Path(folder) / order, Path(folder) / f"{order}.met")
    except FileNotFoundError:
        return False
    return True
