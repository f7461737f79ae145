"""Checks of a raw scan that need no full read: angles, shifts, distances, and a sample of frames.

Each finding is one line that says what is wrong or suspicious, with numbers.
"""

import numpy as np

from xrmflow.arrays import Reader
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.raw_scan import Note, RawScan

SAMPLED_FRAMES = 9
GAP_FACTOR = 1.6
SATURATED_FRACTION = 1e-3
DIM_FRACTION = 0.5
LARGE_SHIFT_FRACTION = 0.1
SMALL_SHIFT_PX = 5.0
WIDE_CONE_DEG = 10.0
# Voxels of microscopes and scanners of bone, um: what lies outside is rather a slip of the unit.
LIKELY_VOXEL_UM = (0.01, 500.0)


def check_angles(angles_deg: np.ndarray, *, needed_deg: float, cols: int) -> list[Note]:
    """Gaps, duplicates, span and number of views.

    Args:
        angles_deg: (view,) degrees.
        needed_deg: arc that a complete scan needs: 180 (parallel rays), 180 plus the fan angle (cone).
        cols: detector columns, for the number of views that full sampling takes.
    """
    if angles_deg.size < 2:
        return [Note("warning", "angles: a single view, which is no scan (a reference or a radiograph?)")]
    order = np.argsort(angles_deg, kind="stable")
    steps = np.diff(angles_deg[order])
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    span = float(np.ptp(angles_deg))
    notes = [*_repeats(angles_deg[order], steps, step, order), *_gaps(angles_deg[order], steps, step)]
    if not (np.diff(angles_deg) >= 0).all() and not (np.diff(angles_deg) <= 0).all():
        notes.append(Note("info", "angles: not in one direction (a stepped, dithered or golden-angle scan)"))
    if span < 2 * np.pi + 0.1 and angles_deg.size > 30:
        notes.append(Note("warning", f"angles: span {span:.3g} deg only; are they in radians?"))
    notes += _limited(angles_deg, step, needed_deg)
    wanted = int(np.ceil(np.pi / 2 * cols * min(span, 360) / 180))
    if angles_deg.size < wanted / 2:
        notes.append(Note("warning", f"views: {angles_deg.size}, full sampling of {cols} columns takes about {wanted}"))
    return notes


def check_shifts(shifts_px: np.ndarray, *, rows: int, cols: int) -> list[Note]:
    """Whether per-view shifts are of a size that can be; (view, 2) pixels along (columns, rows)."""
    if not shifts_px.size or not shifts_px.any():
        return [Note("info", "shifts: all recorded per-view shifts are zero")] if shifts_px.size else []
    largest = np.abs(shifts_px).max(axis=0)
    too_large = largest > np.maximum(LARGE_SHIFT_FRACTION * np.array([cols, rows]), SMALL_SHIFT_PX)
    if not too_large.any():
        return []
    text = f"shifts: up to {largest[0]:.1f} px across and {largest[1]:.1f} px along the axis, of {cols} x {rows} pixels"
    return [Note("warning", f"{text}; are they in pixels?")]


def check_geometry(acquisition: Acquisition) -> list[Note]:
    """Cone angles at which circular reconstruction degrades."""
    if acquisition.beam == "parallel" or acquisition.source_to_detector_mm is None:
        return []
    half = np.degrees(np.arctan(acquisition.rows / 2 * acquisition.pixel_mm / acquisition.source_to_detector_mm))
    if half < WIDE_CONE_DEG:
        return []
    return [Note("warning", f"cone: half angle {half:.1f} deg; slices far from the midplane will be smeared")]


def check_voxel(acquisition: Acquisition) -> list[Note]:
    """Whether the size of a voxel is one that scans of bone have."""
    voxel_um = acquisition.voxel_mm * 1000
    low, high = LIKELY_VOXEL_UM
    if not acquisition.calibrated or low <= voxel_um <= high:
        return []
    return [Note("warning", f"voxel: {voxel_um:.3g} um; is the pixel size in micrometres, are distances in mm?")]


def check_acquisition(acquisition: Acquisition, scan: RawScan) -> list[Note]:
    """Angles, recorded shifts and distances as they will be used."""
    fan = 0.0
    if acquisition.beam == "cone" and acquisition.source_to_detector_mm:
        half_width = acquisition.cols / 2 * acquisition.pixel_mm
        fan = 2 * float(np.degrees(np.arctan(half_width / acquisition.source_to_detector_mm)))
    rows, cols = acquisition.rows, acquisition.cols
    recorded = scan.shifts_to_add_px
    shifts = check_shifts(acquisition.shifts_px, rows=rows, cols=cols) if recorded is not None else []
    angles = check_angles(np.asarray(acquisition.angles_deg), needed_deg=180.0 + fan, cols=cols)
    return [*angles, *shifts, *check_voxel(acquisition), *check_geometry(acquisition)]


def sample_scan(scan: RawScan) -> dict[str, np.ndarray]:
    """A few frames (n, row, col) of each kind that the scan has: projections, flats, darks."""
    kinds = {"projections": scan.projections, "flats": scan.flats, "darks": scan.darks}
    return {name: sample_frames(frames) for name, frames in kinds.items() if frames is not None}


def check_values(sample: dict[str, np.ndarray]) -> list[Note]:
    """Saturated, NaN and infinite pixels among sampled frames."""
    return [note for name, frames in sample.items() for note in _check_values(name, frames)]


def check_brightness(sample: dict[str, np.ndarray]) -> list[Note]:
    """Empty or dim frames, and flats or darks that do not fit, among sampled frames that hold intensities."""
    notes = [note for name, frames in sample.items() for note in _check_empty(name, frames)]
    medians = np.array([_finite_median(frame) for frame in sample["projections"]])
    usual = _finite_median(medians)
    dim = int(np.count_nonzero(medians < DIM_FRACTION * usual))
    if dim:
        text = f"frames: {dim} of {medians.size} sampled projections are less than half as bright as the rest"
        notes.append(Note("warning", f"{text}; was the beam lost?"))
    return notes + _check_references(sample)


def sample_frames(frames: Reader, count: int = SAMPLED_FRAMES) -> np.ndarray:
    """Up to `count` frames, evenly spread from first to last, float32 where they are float."""
    picked = np.unique(np.linspace(0, frames.shape[0] - 1, min(count, frames.shape[0])).round().astype(int))
    return np.stack([np.asarray(frames[int(k)]) for k in picked])


def _check_values(name: str, frames: np.ndarray) -> list[Note]:
    notes = []
    if frames.dtype.kind in "iu":
        full = np.iinfo(frames.dtype).max
        share = np.count_nonzero(frames == full) / frames.size
        if share > SATURATED_FRACTION:
            notes.append(
                Note("warning", f"{name}: {100 * share:.2g} % of the sampled pixels are saturated (at {full})")
            )
    elif lost := np.count_nonzero(~np.isfinite(frames)):
        notes.append(Note("warning", f"{name}: {lost} of {frames.size} sampled pixels are NaN or infinite"))
    return notes


def _check_empty(name: str, frames: np.ndarray) -> list[Note]:
    empty = sum(1 for frame in frames if not np.ptp(frame))
    return [Note("warning", f"{name}: {empty} of {len(frames)} sampled frames hold one value only")] if empty else []


def _finite_median(values: np.ndarray) -> float:
    """NaN where no value is finite."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def _check_references(sample: dict[str, np.ndarray]) -> list[Note]:
    level = {name: _finite_median(frames) for name, frames in sample.items()}
    projections = sample["projections"]
    finite = projections[np.isfinite(projections)]
    brightest = float(np.percentile(finite, 90)) if finite.size else float("nan")
    notes = []
    if "flats" in level and level["flats"] < 0.8 * brightest:
        text = f"flats: median {level['flats']:.4g}, dimmer than the projections' air ({brightest:.4g})"
        notes.append(Note("warning", f"{text}; another exposure?"))
    if "darks" in level and level["darks"] > 0.5 * level["projections"]:
        notes.append(Note("warning", f"darks: median {level['darks']:.4g}, no darker than half the projections"))
    return notes


def _repeats(ordered: np.ndarray, steps: np.ndarray, step: float, order: np.ndarray) -> list[Note]:
    notes = []
    same = np.flatnonzero(steps < 1e-3 * step)
    if same.size:
        first, second = order[same[0]], order[same[0] + 1]
        text = f"angles: {same.size} repeated, first {ordered[same[0]]:.4g} deg at views {first} and {second}"
        notes.append(Note("warning", text))
    if abs(np.ptp(ordered) - 360) < 1e-3 * step:
        notes.append(Note("info", "angles: the last view repeats the first (0 and 360 deg)"))
    return notes


def _limited(angles_deg: np.ndarray, step: float, needed_deg: float) -> list[Note]:
    """Whether the arc of directions is shorter than needed: opposite ones are the same for parallel rays only."""
    period = 180.0 if needed_deg <= 180 else 360.0
    wrapped = np.sort(angles_deg % period)
    gaps = np.diff(wrapped, append=wrapped[0] + period)
    arc = float(period - gaps.max())
    if arc + 1.5 * max(step, float(np.median(gaps))) >= needed_deg:
        return []
    text = f"angles: limited, {arc:.4g} of the {needed_deg:.4g} deg that are needed; attenuation will be too low"
    return [Note("warning", text)]


def _gaps(ordered: np.ndarray, steps: np.ndarray, step: float) -> list[Note]:
    wide = np.flatnonzero(steps > GAP_FACTOR * step)
    if not wide.size or not step:
        return []
    worst = wide[np.argmax(steps[wide])]
    text = f"widest {steps[worst]:.4g} deg after {ordered[worst]:.5g} deg, usual step {step:.4g} deg"
    return [Note("warning", f"angles: {wide.size} gap(s), {text}")]
