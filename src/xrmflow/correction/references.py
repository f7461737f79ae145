"""Flat and dark frames: robust averages, drift between flats, and the detector gain they reveal."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Already, Reader, Track, as_float32, untracked
from xrmflow.correction.dynamic import DynamicFlats, components_of, weights_of_views
from xrmflow.correction.steps import Steps
from xrmflow.correction.transmission import open_beam
from xrmflow.errors import RawFileError

OUTLIER_SIGMAS = 6.0


def average(frames: Tensor) -> Tensor:
    """Mean frame without outliers: values more than 6 robust sigmas from the pixel's median are left out.

    Args:
        frames: (n, row, col) grey levels. One or two frames are averaged as they are.

    Returns:
        (row, col) grey levels.
    """
    if frames.ndim != 3 or frames.shape[0] < 1:
        raise ValueError(f"frames: expected shape (n, row, col) with n >= 1, got {tuple(frames.shape)}")
    if frames.shape[0] < 3:
        return frames.mean(dim=0)
    middle = frames.median(dim=0).values
    away = (frames - middle).abs()
    # One sigma for the whole frame: with a handful of frames a pixel's own spread says nothing.
    sigma = 1.4826 * away.median() * (frames.shape[0] / (frames.shape[0] - 1)) ** 0.5
    kept = away <= OUTLIER_SIGMAS * sigma * (middle / middle.median()).clamp_min(1.0).sqrt()
    return torch.where(kept, frames, 0.0).sum(dim=0) / kept.sum(dim=0).clamp_min(1)


def photons_per_count(flats: Tensor, dark: Tensor | float = 0.0) -> float | None:
    """Detector gain from the scatter of repeated flats: photons per grey level = mean signal / variance.

    The variance comes from differences of consecutive frames, so that slow drift does not count. A blur after detection
    lowers the variance, readout noise raises it: this is an estimate, good enough for the low-count logarithm.

    Args:
        flats: (n, row, col) grey levels.
        dark: (row, col) or a number, grey levels.

    Returns:
        Photons per grey level, or None with fewer than two flats or no scatter.
    """
    if flats.shape[0] < 2:
        return None
    steps = flats[1:] - flats[:-1]
    steps = steps - steps.mean(dim=(1, 2), keepdim=True)
    signal = (flats - dark).mean(dim=0)
    lit = signal > 0.5 * signal.median()
    scatter = steps[:, lit]
    core = scatter.abs() <= OUTLIER_SIGMAS * (1.4826 * scatter.abs().median())
    variance = scatter[core].square().mean() / 2
    if not variance > 0:
        return None
    return float(signal[lit].median() / variance)


@dataclass(frozen=True)
class Flats:
    """Averaged flats and when they were taken.

    Attributes:
        frames: (group, row, col) one averaged frame a group, grey levels.
        views: (group,) increasing; the number of views that had been taken before the group.
    """

    frames: Tensor
    views: tuple[float, ...]

    def at(self, views: Tensor) -> Tensor:
        """The flat at given view indices, linear in between: (view, row, col), or (1, row, col) for a single group."""
        if len(self.views) == 1:
            return self.frames
        times = torch.tensor(self.views, dtype=torch.float64)
        views = views.to(torch.float64).cpu()
        after = torch.searchsorted(times, views.contiguous()).clamp(1, len(times) - 1)
        share = ((views - times[after - 1]) / (times[after] - times[after - 1])).clamp(0, 1).to(self.frames)
        after = after.to(self.frames.device)
        share = share[:, None, None]
        return self.frames[after - 1] * (1 - share) + self.frames[after] * share

    def rows(self, rows: slice) -> "Flats":
        """The same for a window of detector rows."""
        return Flats(self.frames[:, rows], self.views)


def flats_of(frames: Tensor, taken_at: Sequence[float] | None, *, interpolate: bool) -> Flats:
    """Average flats into one frame, or into one frame for each time they were taken.

    Args:
        frames: (n, row, col) grey levels.
        taken_at: for each frame, the number of views taken before it; None means one group.
        interpolate: keep the groups apart, so that `Flats.at` follows a drift.
    """
    if taken_at is not None and len(taken_at) != frames.shape[0]:
        raise ValueError(f"taken_at: expected one number for each of {frames.shape[0]} flats, got {len(taken_at)}")
    if not interpolate or taken_at is None:
        return Flats(average(frames)[None], (0.0,))
    times = np.asarray(taken_at, dtype=float)
    groups = np.unique(times)
    averaged = [average(frames[torch.from_numpy(np.flatnonzero(times == t)).to(frames.device)]) for t in groups]
    return Flats(torch.stack(averaged), tuple(float(t) for t in groups))


@dataclass(frozen=True)
class References:
    """What a scan is compared with.

    Attributes:
        flats: averaged flats, grey levels; None when the data need no division.
        dark: (row, col) grey levels; zero when none was measured.
        exposure_ratio: exposure of a projection over that of a flat.
        photons_per_count: photons per grey level of a projection; None when not known.
        record: where flat and dark came from, JSON-ready.
        notes: what was assumed, one sentence each.
    """

    flats: Flats | DynamicFlats | None
    dark: Tensor
    exposure_ratio: float = 1.0
    photons_per_count: float | None = None
    record: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def rows(self, rows: slice) -> "References":
        """The same for a window of detector rows."""
        flats = None if self.flats is None else self.flats.rows(rows)
        return References(flats, self.dark[rows], self.exposure_ratio, self.photons_per_count)

    def beam(self, views: slice) -> Tensor | None:
        """Open-beam signal I0 of these views, (view or 1, row, col) grey levels; None without flats."""
        if self.flats is None:
            return None
        flat = self.flats.at(torch.arange(views.start, views.stop))
        return open_beam(flat, self.dark, exposure_ratio=self.exposure_ratio)


def references_for(
    raw: Reader,
    *,
    flats: np.ndarray | None,
    darks: np.ndarray | None,
    steps: Steps,
    already: Already = "counts",
    exposure_s: float | None = None,
    flat_exposure_s: float | None = None,
    flats_taken_at: Sequence[float] | None = None,
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> References:
    """Average flats and darks, decide what stands in for those that are missing, and find the detector gain.

    Args:
        raw: (view, row, col) the scan; read only when a flat has to be estimated.
        flats: (n, row, col) grey levels, or None.
        darks: the same.
        steps: which corrections are applied, and what to do about missing references.
        already: what `raw` holds; only counts need references.
        exposure_s: of a projection, s.
        flat_exposure_s: of a flat, s; the flats are scaled when both exposures are known.
        flats_taken_at: for each flat, the number of views taken before it; None when not recorded.
        device: where the references live.
        track: shows progress where the whole scan is read.

    Raises:
        RawFileError: a flat or dark is missing and the settings say that this is an error.
    """
    shape = raw.shape[1:]
    for name, frames in (("flats", flats), ("darks", darks)):
        if frames is not None and tuple(frames.shape[-2:]) != tuple(shape):
            raise ValueError(f"{name}: expected frames of (row, col) = {tuple(shape)}, got {tuple(frames.shape[-2:])}")
    if already != "counts":
        text = f"the file holds {already.replace('_', ' ')}s: not divided by a flat again"
        return References(
            None, torch.zeros(shape, device=device), record={"flat": "none", "dark": "none"}, notes=(text,)
        )
    notes: list[str] = []
    record = {"dark": "measured", "flat": "measured"}
    dark = _dark(darks, shape, steps, record, notes, device)
    gain = steps.photons_per_count
    if flats is None or not len(flats):
        averaged = _stand_in(raw, dark, steps, record, notes)
        return References(averaged, dark, 1.0, gain, record, tuple(notes))
    frames = torch.from_numpy(as_float32(flats)).to(device)
    ratio = _exposure_ratio(exposure_s, flat_exposure_s, notes)
    if steps.flats == "dynamic":
        return _dynamic(raw, frames, dark, ratio, gain, record, notes, track)
    # Averaging happens at the flat's exposure; a grey level is worth the same number of photons at any exposure.
    gain = gain or photons_per_count(frames, dark)
    times = _times(flats_taken_at, len(frames), raw.shape[0], steps, notes)
    averaged = flats_of(frames, times, interpolate=steps.flats == "interpolate")
    return References(averaged, dark, ratio, gain, record, tuple(notes))


def _dynamic(
    raw: Reader,
    frames: Tensor,
    dark: Tensor,
    ratio: float,
    gain: float | None,
    record: dict[str, str],
    notes: list[str],
    track: Track,
) -> References:
    """A flat for each view where the pattern of the flats changes, their mean where it does not."""
    found = components_of(frames - dark)
    if found is None:
        notes.append(f"dynamic flats: no component of {len(frames)} flats stands out of the noise; their mean is taken")
        gain = gain or photons_per_count(frames, dark)
        return References(flats_of(frames, None, interpolate=False), dark, ratio, gain, record, tuple(notes))
    notes.append(f"dynamic flats: {len(found.parts)} component(s) of {len(frames)} flats stand out of the noise")
    weights = weights_of_views(raw, found, dark=dark, exposure_ratio=ratio, track=track)
    if gain is None:
        # What the components explain is no photon noise; with k of n frames' freedom gone, neither is all of it left.
        left = (len(frames) / (len(frames) - len(found.parts))) ** 0.5
        gain = photons_per_count(found.mean + (frames - dark - found.of_flats()) * left)
    flats = DynamicFlats((found.mean + dark)[None], found.parts, weights)
    return References(flats, dark, ratio, gain, record | {"flats": "dynamic"}, tuple(notes))


def _dark(
    darks: np.ndarray | None,
    shape: tuple[int, ...],
    steps: Steps,
    record: dict[str, str],
    notes: list[str],
    device: torch.device | str,
) -> Tensor:
    if darks is not None and len(darks):
        return average(torch.from_numpy(as_float32(darks)).to(device))
    if steps.missing_dark == "error":
        raise RawFileError(
            "no dark frames in the scan; flatfield.missing_dark: expected zero to take it as subtracted, got error"
        )
    record["dark"] = "none"
    notes.append(
        "no dark frames in the scan: taken to have been subtracted by the detector (flatfield.missing_dark: zero)"
    )
    return torch.zeros(shape, device=device)


def _stand_in(raw: Reader, dark: Tensor, steps: Steps, record: dict[str, str], notes: list[str]) -> Flats | None:
    """What replaces a missing flat, as the settings say."""
    if steps.missing_flat == "error":
        raise RawFileError(
            "no flat (reference) frames in the scan; give a reference file at ingest, or set flatfield.missing_flat "
            "to estimate "
            "(from the edges of the scan) or none (the values are transmissions)"
        )
    record["flat"] = {"estimate": "estimated", "none": "none"}[steps.missing_flat]
    if steps.missing_flat == "none":
        notes.append("no flat frames: recorded values were taken for transmissions (flatfield.missing_flat: none)")
        return None
    notes.append(
        "no flat frames: open beam estimated from the brighter edge of each row (flatfield.missing_flat: estimate)"
    )
    return Flats(estimated_flat(raw, width=max(4, raw.shape[2] // 32)).to(dark), (0.0,))


def estimated_flat(raw: Reader, *, width: int) -> Tensor:
    """A flat made up from the scan: in each row the mean over all views of the brighter edge, constant along columns.

    It knows nothing of the detector's pattern, and is wrong for an object wider than the detector.

    Args:
        raw: (view, row, col) counts.
        width: columns of each edge that are averaged.

    Returns:
        (1, row, col) grey levels, dark included.
    """
    cols = raw.shape[2]
    left = as_float32(raw[:, :, :width]).mean(axis=(0, 2))
    right = as_float32(raw[:, :, cols - width :]).mean(axis=(0, 2))
    return torch.from_numpy(np.maximum(left, right))[None, :, None].repeat(1, 1, cols)


def _exposure_ratio(exposure_s: float | None, flat_exposure_s: float | None, notes: list[str]) -> float:
    if exposure_s and flat_exposure_s:
        return exposure_s / flat_exposure_s
    missing = "or" if exposure_s or flat_exposure_s else "and"
    notes.append(f"exposure of the projections {missing} of the flats is not recorded: taken to be equal")
    return 1.0


def _times(
    taken_at: Sequence[float] | None, frames: int, views: int, steps: Steps, notes: list[str]
) -> Sequence[float] | None:
    if steps.flats != "interpolate" or taken_at is not None or frames < 2:
        return taken_at
    notes.append("times of the flats are not recorded: first half taken as before, second half as after the scan")
    return [0.0 if i < frames // 2 else float(views) for i in range(frames)]
