"""Stage cupping_protocol: one beam-hardening correction for all scans of a protocol."""

import logging
from pathlib import Path

from xrmflow.calibration.protocol import fit_protocol
from xrmflow.config.cupping_protocol import CuppingProtocolSection
from xrmflow.io.cupping_equations import read_equations
from xrmflow.io.documents import read_document, write_document
from xrmflow.io.provenance import provenance

logger = logging.getLogger(__name__)
KEPT = ("found", "uncertainty", "trusted", "message")


def run(*, fits: list[Path], equations: list[Path], cupping: Path, params: CuppingProtocolSection) -> None:
    """Solve the equations of all scans of a protocol together, so that what is peculiar to one bone averages out.

    Args:
        fits: each scan's own correction.
        equations: what each was fitted from, in the same order.
        cupping: where to write the correction for all.
        params: the settings section.
    """
    own = [read_document(path, kind="cupping") for path in fits]
    fit = fit_protocol([read_equations(path) for path in equations], degree=len(own[0]["coefficients"]))
    logger.log(logging.INFO if fit.trusted else logging.WARNING, fit.message)
    scans = [
        {"scan": path.parent.name} | {name: document.get(name) for name in KEPT}
        for path, document in zip(fits, own, strict=True)
    ]
    inputs = {f"cupping of {path.parent.name}": path for path in fits}
    traced = provenance(stage="cupping_protocol", params=params, inputs=inputs)
    payload = fit.to_dict() | {"protocol": cupping.parent.name, "scans": scans}
    write_document(cupping, kind="cupping", payload=payload, provenance=traced)
