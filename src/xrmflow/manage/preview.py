"""Draw a first picture of a scan: a few slices of a binned reconstruction and a montage of centres."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.calibration.centre import find_centre
from xrmflow.config.ingest import IngestSection
from xrmflow.errors import RawFileError, UserError
from xrmflow.io.log import track
from xrmflow.io.sniff import open_raw
from xrmflow.manage.inspect import ingest_settings
from xrmflow.manage.quicklook import Quicklook, quicklook, slices

SLICE_HEIGHTS = (0.25, 0.5, 0.75)
MONTAGE_STEPS = (-4, -2, -1, 0, 1, 2, 4)
CLIP_PERCENT = (0.5, 99.8)
PICTURES = (".png", ".jpg", ".tif", ".pdf", ".svg")


@dataclass(frozen=True)
class Preview:
    """What the picture shows.

    Attributes:
        look: the small scan.
        centre_px: column of the rotation axis, pixels of the scan as recorded.
        found: whether the centre was found from the scan; else it is the middle of the detector.
        found_by: how, or why not, in words.
        rows: detector rows of the slices, pixels of the scan.
        slices: (slice, y, x).
        montage_px: centres of the montage, pixels of the scan. montage: (n, y, x), the middle slice.
    """

    look: Quicklook
    centre_px: float
    found: bool
    found_by: str
    rows: tuple[float, ...]
    slices: np.ndarray
    montage_px: tuple[float, ...]
    montage: np.ndarray


def run(file: Path, *, out: Path | None = None, settings: Path | None = None) -> str:
    """Draw a first picture of a scan: a few slices of a binned reconstruction and a montage of centres.

    Args:
        file: raw scan: a file, or a folder of TIFF frames.
        out: picture to write; default the file's name with _preview.png in the working folder.
        settings: settings file whose ingest section is applied.
    """
    out = out or Path(f"{file.stem}_preview.png")
    if out.suffix.lower() not in PICTURES:
        raise UserError(f"{out}: expected a name ending in {', '.join(PICTURES)}, got {out.suffix!r}")
    out.parent.mkdir(parents=True, exist_ok=True)
    shown = preview(file, out, ingest_settings(settings))
    binning = "x".join(map(str, shown.look.binning))
    views = f"{shown.look.acquisition.views} of {shown.look.views_recorded} views"
    return f"{out}: centre {shown.centre_px:.2f} px ({shown.found_by}), binned {binning}, {views}"


def preview(path: Path | str, out_png: Path | str, settings: IngestSection | None = None) -> Preview:
    """Reconstruct a few slices of a binned scan, with centres around the estimate, and draw them.

    Args:
        path: a file, or a folder of TIFF frames.
        out_png: picture to write.
        settings: the ingest settings; the defaults when None.

    Raises:
        RawFileError: a scan that cannot be reconstructed as it is.
    """
    params = settings or IngestSection()
    with open_raw(path, params) as scan:
        if scan.views < 2:
            raise RawFileError(f"{path}: expected a scan of several views, got {scan.views}")
        look = quicklook(scan, params, track=track)
    shown = reconstruct(look)
    draw(shown, Path(path).name).savefig(out_png, dpi=110)
    return shown


def reconstruct(look: Quicklook) -> Preview:
    """The slices and the montage of a small scan."""
    centre, found, found_by = _centre(look)
    rows = _rows(look.acquisition.rows)
    across = look.binning[1]
    # Where the search failed, a person needs a wide range to judge.
    width = 1.0 if found else max(1.0, look.acquisition.cols / 32)
    around = [centre + width * step for step in MONTAGE_STEPS]
    middle = rows[len(rows) // 2]
    return Preview(
        look=look,
        centre_px=_unbinned(centre, across),
        found=found,
        found_by=found_by,
        rows=tuple(_unbinned(row, look.binning[0]) for row in rows),
        slices=slices(look, rows=rows, centre_px=centre),
        montage_px=tuple(_unbinned(c, across) for c in around),
        montage=np.concatenate([slices(look, rows=[middle], centre_px=c) for c in around]),
    )


def draw(shown: Preview, title: str) -> Any:
    """The preview as a figure: projection, sinogram, slices; below, the middle slice for several centres."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8), layout="constrained")
    subfigures: Any = figure.subfigures(2, 1, height_ratios=[1.35, 1])
    upper, lower = subfigures
    upper.suptitle(_headline(shown, title), fontsize=11)
    axes = upper.subplots(1, 2 + len(shown.slices))
    projections = shown.look.projections.numpy()
    flat = projections.shape[1] * 8 < projections.shape[2]
    _image(axes[0], projections[0], "first view (line integrals)", origin="lower", aspect="auto" if flat else "equal")
    _image(axes[1], projections[:, projections.shape[1] // 2], "sinogram, middle row", aspect="auto")
    scale, extent = _slice_limits(shown.slices), _extent(shown)
    for axis, image, row in zip(axes[2:], shown.slices, shown.rows, strict=True):
        unit = " (axes in um)" if extent else ""
        _image(axis, image, f"slice at row {row:.4g}{unit}", limits=scale, origin="lower", extent=extent)
    lower.suptitle("middle slice for several centres of rotation (px): the sharpest, without arcs, is right")
    scale = _slice_limits(shown.montage)
    for axis, image, centre in zip(lower.subplots(1, len(shown.montage)), shown.montage, shown.montage_px, strict=True):
        estimated = abs(centre - shown.centre_px) < 1e-6
        label = ("  (found)" if shown.found else "  (nominal)") if estimated else ""
        _image(axis, image, f"{centre:.1f}{label}", limits=scale, origin="lower")
        axis.title.set_fontweight("bold" if estimated else "normal")
        axis.set_axis_off()
    return figure


def _centre(look: Quicklook) -> tuple[float, bool, str]:
    """Column of the axis in the small scan, whether it was found, and how."""
    fit = find_centre(look.projections.numpy(), look.acquisition, slices=3, roll=False, track=track)
    if fit.trusted and fit.uncertainty_px is not None:
        return fit.centre_px, True, f"found, +- {fit.uncertainty_px * look.binning[1]:.2f}"
    return look.acquisition.centre_px, False, f"middle of the detector, none was found: {fit.message}"


def _rows(rows: int) -> list[float]:
    """Rows of the slices; one for each row where there are fewer."""
    if rows <= len(SLICE_HEIGHTS):
        return [float(row) for row in range(rows)]
    return [height * (rows - 1) for height in SLICE_HEIGHTS]


def _unbinned(pixel: float, binning: int) -> float:
    return (pixel + 0.5) * binning - 0.5


def _headline(shown: Preview, title: str) -> str:
    acquisition, (along, across) = shown.look.acquisition, shown.look.binning
    voxel = f"voxel {acquisition.voxel_mm * 1000:.3g} um" if acquisition.calibrated else "uncalibrated"
    views = f"{acquisition.views} of {shown.look.views_recorded} views"
    return (
        f"{title}: {acquisition.beam} beam, {views}, binned {along} x {across}, {voxel}\n"
        f"centre {shown.centre_px:.2f} px ({shown.found_by})"
    )


def _extent(shown: Preview) -> tuple[float, float, float, float] | None:
    acquisition = shown.look.acquisition
    if not acquisition.calibrated:
        return None
    half = acquisition.cols / 2 * acquisition.voxel_mm * 1000
    return (-half, half, -half, half)


def _slice_limits(slices: np.ndarray) -> tuple[float, float]:
    """Grey range inside the field of view: its corners are not seen in every view."""
    cols = slices.shape[-1]
    away = np.hypot(*np.ogrid[-1 : 1 : cols * 1j, -1 : 1 : cols * 1j])
    return _limits(slices[:, away < 0.95])


def _limits(images: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(images, CLIP_PERCENT)
    return float(low), float(high)


def _image(
    axis: Any, image: np.ndarray, title: str, *, limits: tuple[float, float] | None = None, **options: Any
) -> None:
    low, high = limits or _limits(image)
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, **options)
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=7)
