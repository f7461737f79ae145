"""The calibrated beam-hardening correction of a scan, from its document."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from xrmflow.calibration.polynomial import linearise
from xrmflow.io.documents import read_document

logger = logging.getLogger(__name__)


def read_linearisation(cupping: Path | None) -> Callable[[Tensor], Tensor] | None:
    """The fitted polynomial of line integrals, or None where there is none or it was found not to help."""
    if cupping is None:
        return None
    fitted = read_document(cupping, kind="cupping")
    if not fitted["applied"]:
        logger.info("cupping: not applied (%s)", fitted.get("message", "no reason recorded"))
        return None
    return partial(linearise, coefficients=fitted["coefficients"])
