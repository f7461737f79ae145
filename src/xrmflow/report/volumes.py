"""Pictures of reconstructed volumes: the same heights, the same window and the same region in every volume."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from xrmflow.config.report import ReportSection
from xrmflow.io.stores import Volume
from xrmflow.report.blocks import Gallery, Picture, Slider
from xrmflow.report.images import busiest, picture, shrink, window
from xrmflow.report.numbers import capital
from xrmflow.report.results import display_name

FLAT_SLICES = 8
"""Volumes with fewer slices than this have no coronal or sagittal view worth showing."""
SAMPLE_PER_SLICE = 20_000
AXES = {"axial": "x →, y ↑", "coronal": "x →, z ↑", "sagittal": "y →, z ↑"}


@dataclass(frozen=True)
class Shown:
    """The part of a volume that the report shows, read once: a few axial slices in display units.

    Attributes:
        name: of the store.
        volume: the store.
        indices: of the slices read.
        frames: those slices, averaged down to the size of a picture, attenuation in `unit`.
        sample: every k-th voxel of the slices, about 20 000 a slice.
    """

    name: str
    volume: Volume
    indices: list[int]
    frames: list[np.ndarray]
    sample: np.ndarray

    @property
    def scale(self) -> float:
        """From stored values to displayed ones."""
        return display_scale(self.volume.quantity)

    @property
    def unit(self) -> str:
        """Unit of the displayed values."""
        return display_unit(self.volume.quantity)

    @property
    def voxel_um(self) -> float | None:
        """Edge of a voxel, µm; None when unknown."""
        return self.volume.grid.voxel_mm * 1000 if self.volume.calibrated else None

    @property
    def middle(self) -> int:
        """Place (in `indices`) of the slice nearest the middle."""
        return len(self.indices) // 2

    def whole(self, place: int) -> np.ndarray:
        """The slice at a place in full (y, x), read anew, in display units."""
        return read_slice(self.volume, self.indices[place])


def read_slice(volume: Volume, index: int) -> np.ndarray:
    """An axial slice (y, x) in display units, float32."""
    return np.asarray(volume.data[index], dtype=np.float32) * np.float32(display_scale(volume.quantity))


def display_scale(quantity: str) -> float:
    """Stored attenuation per mm is shown per cm; per voxel stays."""
    return 10.0 if quantity == "attenuation_per_mm" else 1.0


def display_unit(quantity: str) -> str:
    """Unit of displayed attenuation."""
    return "1/cm" if quantity == "attenuation_per_mm" else "1/voxel, uncalibrated"


def read_shown(volumes: Mapping[str, Volume], count: int, longest_px: int) -> list[Shown]:
    """Read `count` axial slices of each volume at the same heights, evenly spread over the first volume.

    Of each slice only a picture of at most `longest_px` and a sample stay in memory.
    """
    if not volumes:
        return []
    first = next(iter(volumes.values())).grid
    depth = first.shape[0]
    places = np.unique(np.round((np.arange(min(count, depth)) + 0.5) * depth / min(count, depth) - 0.5).astype(int))
    heights = [first.first_voxel_mm[2] + first.voxel_mm * int(k) for k in places]
    return [_read(name, volume, heights, longest_px) for name, volume in volumes.items()]


def common_window(shown: list[Shown], params: ReportSection) -> tuple[float, float]:
    """Black and white for all volumes: percentiles of the first, averaged over 3 x 3 so that noise counts less."""
    smooth = np.concatenate([ndimage.uniform_filter(frame, 3).ravel() for frame in shown[0].frames])
    return window(smooth, params.window_low_percentile, params.window_high_percentile)


def window_text(grey_window: tuple[float, float], unit: str) -> str:
    """The window in words."""
    low, high = (f"{v:.3g}".replace("-", "−") for v in grey_window)
    return f"Grey window {low} (black) to {high} (white) {unit}."


def slider(shown: list[Shown], grey_window: tuple[float, float], params: ReportSection) -> Slider:
    """Axial slices of every volume at the same heights."""
    frames = [[_axial(one, place, grey_window, params) for place in range(len(one.frames))] for one in shown]
    note = f"{window_text(grey_window, shown[0].unit)} The same window and heights for all volumes."
    return Slider("Axial slices", [display_name(one.name) for one in shown], frames, note)


def orthoslices(one: Shown, grey_window: tuple[float, float], params: ReportSection) -> Gallery:
    """Three sections through the middle of a volume; for a flat one its slices only."""
    note = window_text(grey_window, one.unit)
    extent = " × ".join(str(n) for n in reversed(one.volume.grid.shape))
    title = f"{capital(display_name(one.name))}: {extent} voxels (x × y × z)"
    if one.volume.grid.shape[0] < FLAT_SLICES:
        pictures = [_axial(one, place, grey_window, params) for place in range(min(len(one.frames), 4))]
        return Gallery(
            title, pictures, f"{note} Only {one.volume.grid.shape[0]} slices: no coronal or sagittal section is shown."
        )
    nz, ny, nx = one.volume.grid.shape
    sections = {
        "axial": (one.volume.data[nz // 2], f"z = {_height(one, nz // 2)}"),
        "coronal": (one.volume.data[:, ny // 2], "through the middle, seen from −y"),
        "sagittal": (one.volume.data[:, :, nx // 2], "through the middle, seen from +x"),
    }
    pictures = [
        picture(
            np.asarray(image) * one.scale,
            grey_window=grey_window,
            alt=f"{name} section of the {display_name(one.name)} volume",
            caption=f"{name.capitalize()}, {where}",
            axes=AXES[name],
            voxel_um=one.voxel_um,
            longest_px=params.picture_px,
            quality=params.jpeg_quality,
        )
        for name, (image, where) in sections.items()
    ]
    return Gallery(title, pictures, note)


def zooms(shown: list[Shown], grey_window: tuple[float, float], params: ReportSection) -> Gallery:
    """The region with most structure, magnified, in every volume: the same square of the object."""
    first = shown[0]
    rows, cols = busiest(first.whole(first.middle), params.zoom_px)
    pictures = []
    for one in shown:
        image = one.whole(one.middle)[_same(rows, first, one, 1), _same(cols, first, one, 0)]
        pictures.append(
            picture(
                image,
                grey_window=grey_window,
                alt=f"magnified region of an axial slice, {display_name(one.name)}",
                caption=capital(display_name(one.name)),
                axes=AXES["axial"],
                voxel_um=one.voxel_um,
                longest_px=params.picture_px,
                quality=params.jpeg_quality,
            )
        )
    pictures += _taken_away(shown, rows, cols, params)
    return Gallery("The same region, magnified", pictures, window_text(grey_window, first.unit))


def _taken_away(shown: list[Shown], rows: slice, cols: slice, params: ReportSection) -> list[Picture]:
    """What denoising took away from the first volume: noise if all is well, structure if it blurs or invents."""
    denoised = next((one for one in shown[1:] if one.name == "denoised"), None)
    if denoised is None or denoised.volume.grid != shown[0].volume.grid:
        return []
    middle = shown[0].middle
    difference = (shown[0].whole(middle) - denoised.whole(middle))[rows, cols]
    span = float(np.percentile(np.abs(difference), 99)) or 1.0
    return [
        picture(
            difference,
            grey_window=(-span, span),
            alt="difference of the first and the denoised volume in the magnified region",
            caption=f"Taken away by denoising (±{span:.2g} {denoised.unit}): should hold noise only, no edges",
            axes=AXES["axial"],
            voxel_um=denoised.voxel_um,
            longest_px=params.picture_px,
            quality=params.jpeg_quality,
        )
    ]


def _read(name: str, volume: Volume, heights: list[float], longest_px: int) -> Shown:
    grid = volume.grid
    nearest = [round((z - grid.first_voxel_mm[2]) / grid.voxel_mm) for z in heights]
    indices = [int(np.clip(k, 0, grid.shape[0] - 1)) for k in nearest]
    frames, samples = [], []
    for index in indices:
        image = read_slice(volume, index)
        frames.append(shrink(image, longest_px))
        samples.append(image.ravel()[:: max(1, image.size // SAMPLE_PER_SLICE)].copy())
    return Shown(name, volume, indices, frames, np.concatenate(samples))


def _axial(one: Shown, place: int, grey_window: tuple[float, float], params: ReportSection) -> Picture:
    return picture(
        one.frames[place],
        grey_window=grey_window,
        alt=f"axial slice {one.indices[place]} of the {display_name(one.name)} volume",
        caption=f"Slice {one.indices[place]} of {one.volume.grid.shape[0]}, z = {_height(one, one.indices[place])}",
        axes=AXES["axial"],
        voxel_um=one.voxel_um,
        columns=one.volume.grid.shape[2],
        longest_px=params.picture_px,
        quality=params.jpeg_quality,
    )


def _height(one: Shown, index: int) -> str:
    grid = one.volume.grid
    z = grid.first_voxel_mm[2] + grid.voxel_mm * index
    return (f"{z:.3f} mm" if one.volume.calibrated else f"{z:.1f} voxels").replace("-", "−")


def _same(part: slice, source: Shown, target: Shown, axis_xyz: int) -> slice:
    """The range of indices of `target` that covers the same lengths along an axis (0 x, 1 y) as `part` of `source`."""
    a, b = source.volume.grid, target.volume.grid
    edge = a.first_voxel_mm[axis_xyz] - a.voxel_mm / 2
    other = b.first_voxel_mm[axis_xyz] - b.voxel_mm / 2
    start, stop = (round((edge + a.voxel_mm * at - other) / b.voxel_mm) for at in (part.start, part.stop))
    size = b.shape[2 - axis_xyz]
    return slice(max(0, min(start, size - 1)), max(1, min(stop, size)))
