"""Stage align: the geometry, fitted from the scan itself."""

import logging
from dataclasses import replace
from pathlib import Path

from xrmflow.arrays import Reader
from xrmflow.calibration.alignment import align, geometry_record
from xrmflow.calibration.alignment_fit import AlignmentFit
from xrmflow.calibration.centre import CentreFit, find_centre, nominal
from xrmflow.calibration.motion import MotionFit, fit_motion
from xrmflow.calibration.pose import DETECTOR, NUMBERS
from xrmflow.calibration.sharpening import sharpen
from xrmflow.config.align import AlignSection
from xrmflow.errors import SettingsError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io import log
from xrmflow.io.archives import write_arrays
from xrmflow.io.documents import write_document
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import open_projections

logger = logging.getLogger(__name__)


def run(*, projections: Path, geometry: Path, sweep: Path, params: AlignSection) -> None:
    """Find the centre of rotation, the pose, drift and jitter of the detector, and the motion of the object."""
    scan = open_projections(projections, "line_integral")
    start = scan.acquisition if params.centre_px is None else _with_centre(scan.acquisition, params.centre_px)
    fit = nominal(start) if params.method == "none" else _centre(scan.data, start, params)
    _say(fit)
    moved = None
    if params.motion:
        moved = fit_motion(scan.data, fit.acquisition, knots=params.motion_knots, track=log.track)
        _say(moved)
        fit = replace(fit, acquisition=moved.acquisition)
    pose = _pose(scan.data, fit.acquisition, params)
    if pose is not None:
        _say(pose)
    traced = provenance(stage="align", params=params, inputs={"projections": projections})
    write_arrays(sweep, fit.pictures())
    record = geometry_record(scan.data, fit, pose)
    if moved is not None:
        record["motion"] = moved.to_dict()
    write_document(geometry, kind="geometry", payload=record, provenance=traced)


def _with_centre(acquisition: Acquisition, centre_px: float) -> Acquisition:
    """The acquisition with the centre that the settings give."""
    if not -0.5 <= centre_px <= acquisition.cols - 0.5:
        raise SettingsError(
            f"align.centre_px: expected a column of the detector, 0 to {acquisition.cols - 1}, got {centre_px:g}"
        )
    return replace(acquisition, centre_px=centre_px)


def _centre(projections: Reader, start: Acquisition, params: AlignSection) -> CentreFit:
    return find_centre(
        projections,
        start,
        search_px=params.search_px,
        slices=params.slices,
        roll=params.roll,
        check_angles=params.check_angles,
        track=log.track,
    )


def _pose(projections: Reader, start: Acquisition, params: AlignSection) -> AlignmentFit | None:
    """What the method asks for beyond the sweep."""
    if params.method == "sharpness":
        return sharpen(projections, start, roll=params.roll, shifts=params.jitter, track=log.track)
    if params.method != "joint":
        return None
    numbers = tuple(NUMBERS) if params.distances else DETECTOR
    return align(
        projections,
        start,
        numbers=tuple(name for name in numbers if params.roll or name != "roll_deg"),
        drift_knots=params.drift_knots,
        jitter=params.jitter,
        track=log.track,
    )


def _say(fit: CentreFit | AlignmentFit | MotionFit) -> None:
    """Log what a fit found; as a warning where it may not be used."""
    logger.log(logging.INFO if fit.trusted else logging.WARNING, fit.message)
