"""Slices as pictures: window, orientation, size, scale bar, outlines. Arrays in, data URIs out."""

import base64
import io
import math

import numpy as np
from PIL import Image
from scipy import ndimage

from xrmflow.metrics.labels import BONE, CANAL, LACUNA
from xrmflow.report.blocks import Picture

OUTLINES = {BONE: (255, 176, 32), LACUNA: (64, 208, 255), CANAL: (255, 96, 168)}
SHARP_BELOW_PX = 400


def window(sample: np.ndarray, low_percentile: float, high_percentile: float) -> tuple[float, float]:
    """Grey values shown black and white: percentiles of the finite values, never equal."""
    finite = sample[np.isfinite(sample)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, [low_percentile, high_percentile]))
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def grey(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] onto 0..255 (uint8), clipped; NaN is black."""
    scaled = np.nan_to_num((np.asarray(image, dtype=np.float64) - low) / (high - low))
    return np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def upright(image: np.ndarray) -> np.ndarray:
    """Turn an array whose rows run along +y or +z so that they run upwards on the page."""
    return image[::-1]


def shrink(image: np.ndarray, longest_px: int) -> np.ndarray:
    """Average over areas so that no edge exceeds `longest_px` (float32); smaller images are returned as they are."""
    scale = longest_px / max(image.shape)
    if scale >= 1:
        return image
    height, width = (max(1, round(n * scale)) for n in image.shape)
    resized = Image.fromarray(np.nan_to_num(image).astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(resized)


def data_uri(pixels: np.ndarray, *, quality: int | None = None) -> str:
    """Encode uint8 grey (h, w) or colour (h, w, 3) as a data URI: JPEG at `quality`, or exact PNG for None."""
    name = "png" if quality is None else "jpeg"
    encoded = _encode(pixels, "PNG") if quality is None else _encode(pixels, "JPEG", quality=quality, subsampling=0)
    return f"data:image/{name};base64,{base64.b64encode(encoded).decode('ascii')}"


def scale_bar(width_um: float) -> tuple[float, str]:
    """A round length of about a quarter of the picture: (part of the width, label).

    >>> scale_bar(1000.0)
    (0.2, '200 µm')
    """
    target = width_um / 4
    power = 10.0 ** math.floor(math.log10(target))
    length = max(step * power for step in (1, 2, 5) if step * power <= target * (1 + 1e-9))
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return length / width_um, label


def picture(
    image: np.ndarray,
    *,
    grey_window: tuple[float, float],
    alt: str,
    caption: str,
    axes: str = "",
    voxel_um: float | None = None,
    columns: int | None = None,
    longest_px: int = 560,
    quality: int = 82,
    rows_upwards: bool = True,
) -> Picture:
    """A slice as a `Picture`.

    Args:
        image: (rows, columns) values.
        grey_window: values shown black and white.
        alt: what is seen, for those who do not see it.
        caption: one line below it.
        axes: which way the axes run; empty draws no scale bar.
        voxel_um: edge of a voxel, micrometres, for the scale bar; None when unknown (the bar then counts voxels).
        columns: voxels across, when `image` was shrunk already.
        longest_px: larger images are averaged down to this.
        quality: of JPEG.
        rows_upwards: row 0 at the bottom, as for slices; False for sinograms.
    """
    small = shrink(np.asarray(image, dtype=np.float64), longest_px)
    pixels = grey(upright(small) if rows_upwards else small, *grey_window)
    bar = _bar(columns or image.shape[1], voxel_um) if axes else (0.0, "")
    return _picture(pixels, alt=alt, caption=caption, axes=axes, bar=bar, quality=quality)


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    grey_window: tuple[float, float],
    alt: str,
    caption: str,
    axes: str = "",
    voxel_um: float | None = None,
    longest_px: int = 560,
    quality: int = 82,
) -> Picture:
    """A slice with its mask drawn as outlines: bone amber, lacunae blue, canals pink; outside the VOI darkened.

    `labels` has the shape of `image`: 0 outside the VOI, 1 marrow, 2 bone, 3 lacuna, 4 canal.
    """
    step = max(1, math.ceil(max(image.shape) / (2 * longest_px)))
    image, labels = image[::step, ::step], np.asarray(labels)[::step, ::step]
    factor = max(1, longest_px // max(image.shape))
    pixels = np.repeat(_enlarge(grey(image, *grey_window), factor)[..., None], 3, axis=2)
    large = _enlarge(labels, factor)
    pixels[large == 0] //= 2
    line = max(1, factor // 3)
    for label, colour in OUTLINES.items():
        inside = np.isin(large, (BONE, LACUNA, CANAL)) if label == BONE else large == label
        pixels[outline(inside, line)] = colour
    bar = _bar(image.shape[1] * step, voxel_um) if axes else (0.0, "")
    return _picture(
        upright(pixels), alt=alt, caption=caption, axes=axes, bar=bar, quality=max(quality, 88), sharp=False
    )


def outline(mask: np.ndarray, width_px: int = 1) -> np.ndarray:
    """The rim of a mask, inside it, `width_px` wide; the picture's edge is not rim."""
    cross = ndimage.generate_binary_structure(2, 1)
    return mask & np.logical_not(ndimage.binary_erosion(mask, cross, width_px, border_value=1))


def busiest(image: np.ndarray, edge_px: int) -> tuple[slice, slice]:
    """The square of `edge_px`, at most half the image, with most structure (variance after smoothing over 3 x 3).

    Squares are tried in steps of a quarter edge, and the outer eighth of the image is avoided where there is room.
    """
    smooth = ndimage.uniform_filter(np.nan_to_num(np.asarray(image, dtype=np.float64)), 3)
    edges = [max(1, min(edge_px, n // 2)) for n in image.shape]
    starts = [_starts(n, edge) for n, edge in zip(image.shape, edges, strict=True)]
    best = max(
        ((r, c) for r in starts[0] for c in starts[1]),
        key=lambda at: float(smooth[at[0] : at[0] + edges[0], at[1] : at[1] + edges[1]].var()),
    )
    return slice(best[0], best[0] + edges[0]), slice(best[1], best[1] + edges[1])


def _starts(length: int, edge: int) -> list[int]:
    margin = min(length // 8, (length - edge) // 2)
    return list(range(margin, length - edge - margin + 1, max(1, edge // 4))) or [0]


def _enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _bar(columns: int, voxel_um: float | None) -> tuple[float, str]:
    if voxel_um is not None:
        return scale_bar(columns * voxel_um)
    length = max(1, round(columns / 4))
    length = length if length < 10 else round(length, -1)
    return length / columns, f"{length} voxels (uncalibrated)"


def _picture(
    pixels: np.ndarray,
    *,
    alt: str,
    caption: str,
    axes: str,
    bar: tuple[float, str],
    quality: int,
    sharp: bool | None = None,
) -> Picture:
    height, width = pixels.shape[:2]
    few = max(height, width) < SHARP_BELOW_PX
    return Picture(
        uri=data_uri(pixels, quality=None if few and pixels.ndim == 2 else quality),
        width=width,
        height=height,
        alt=alt,
        caption=caption,
        axes=axes,
        bar_fraction=round(bar[0], 5),
        bar_label=bar[1],
        sharp=few if sharp is None else sharp,
    )


def _encode(pixels: np.ndarray, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format_, **options)
    return buffer.getvalue()
