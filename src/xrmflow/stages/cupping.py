"""Stage cupping: the beam-hardening correction, fitted from the scan itself."""

import logging
from pathlib import Path

from xrmflow.calibration.cupping import fit_cupping, unchanged
from xrmflow.calibration.protocol import ScanEquations
from xrmflow.config.cupping import CuppingSection
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io import device
from xrmflow.io.archives import write_arrays
from xrmflow.io.documents import read_document, write_document
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import open_projections

logger = logging.getLogger(__name__)


def run(
    *, projections: Path, geometry: Path, cupping: Path, slices: Path, equations: Path, params: CuppingSection
) -> None:
    """Fit a polynomial that corrects beam hardening, without calibration measurements."""
    scan = open_projections(projections, "line_integral")
    acquisition = Acquisition.from_dict(read_document(geometry, kind="geometry")["acquisition"])
    if params.method == "none":
        fit = unchanged("not corrected, as the settings ask (cupping.method: none)", degree=params.degree, trusted=True)
    else:
        fit = fit_cupping(
            scan.data,
            acquisition,
            degree=params.degree,
            slices=params.slices,
            smoothing_px=params.smoothing_px,
            device=device.pick(),
        )
    logger.log(logging.INFO if fit.trusted else logging.WARNING, fit.message)
    traced = provenance(stage="cupping", params=params, inputs={"projections": projections, "geometry": geometry})
    write_arrays(slices, fit.pictures)
    write_arrays(equations, ScanEquations(fit.system, fit.largest).arrays())
    write_document(cupping, kind="cupping", payload=fit.to_dict(), provenance=traced)
