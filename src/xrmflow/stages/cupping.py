"""Stage cupping: the beam-hardening correction, fitted from the scan itself."""

import logging
from pathlib import Path

from xrmflow.calibration.cupping import fit_cupping, unchanged
from xrmflow.calibration.protocol import ScanEquations
from xrmflow.calibration.wedge import fit_curve
from xrmflow.config.cupping import CuppingSection
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io import device
from xrmflow.io.archives import write_arrays
from xrmflow.io.documents import read_document, write_document
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import open_projections
from xrmflow.io.wedge import read_wedge

logger = logging.getLogger(__name__)


def run(
    *,
    projections: Path,
    geometry: Path,
    curve: Path | None = None,
    cupping: Path,
    slices: Path,
    equations: Path,
    params: CuppingSection,
) -> None:
    """Fit a polynomial that corrects beam hardening, to the scan itself or to a step wedge.

    Args:
        projections: line integrals.
        geometry: calibrated.
        curve: step wedge, with method curve.
        cupping: where to write the correction.
        slices: where to write pictures of it.
        equations: where to write what it was solved from.
        params: the settings section.
    """
    scan = open_projections(projections, "line_integral")
    acquisition = Acquisition.from_dict(read_document(geometry, kind="geometry")["acquisition"])
    if params.method == "none":
        fit = unchanged("not corrected, as the settings ask (cupping.method: none)", degree=params.degree, trusted=True)
    elif curve is not None:
        fit = fit_curve(scan.data, acquisition, read_wedge(curve), slices=params.slices, device=device.pick())
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
    inputs = {"projections": projections, "geometry": geometry, "curve": curve}
    traced = provenance(stage="cupping", params=params, inputs=inputs)
    write_arrays(slices, fit.pictures)
    write_arrays(equations, ScanEquations(fit.system, fit.largest, fit.totals).arrays())
    write_document(cupping, kind="cupping", payload=fit.to_dict(), provenance=traced)
