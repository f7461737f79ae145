"""The whole correction, counts to line integrals, over row blocks of a scan that may be larger than memory.

Each block holds all views of some detector rows, since rings and flicker show only there; rows around a block are read
along where a step looks at neighbours. Thresholds come from a survey of a few rows, so the result does not depend on
the block size, and some of the rows can be corrected by themselves.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Already, Reader, Track, Writer, as_float32, blocks, untracked
from xrmflow.correction import air, defects, outliers, phase, rings
from xrmflow.correction.references import References
from xrmflow.correction.steps import Steps
from xrmflow.correction.transmission import line_integrals, transmission

LOW_PHOTONS = 100.0
SURVEY_BANDS, SURVEY_ROWS = 4, 8
# Tensors of a block's size alive at once, measured: counts, transmission, medians and their temporaries.
BLOCK_COPIES = 8
# The same of padded frames in the phase filter, and how many frames are worked on at once at most.
FRAME_COPIES, VIEWS_AT_ONCE = 8, 32


@dataclass(frozen=True)
class Survey:
    """Scan-wide numbers measured on a few rows before the blocks are worked on."""

    noise: tuple[float, float] = (0.0, 0.0)
    usual_step: float = 0.0
    beam_scale: Tensor | None = None
    margins: air.Margins = field(default_factory=lambda: air.Margins(0, 0))


@dataclass
class Sums:
    """What is counted over rows, by whatever blocks or jobs; in the end it is the same for a scan.

    Attributes:
        dead: pixels.
        values: line integrals.
        outliers: values replaced.
        low: values of few photons, or of little transmission.
        ring_squares: for each row the sum over its line integrals of the squares of what ring removal changed.
    """

    dead: int = 0
    values: int = 0
    outliers: int = 0
    low: int = 0
    ring_squares: list[float] = field(default_factory=list)

    @classmethod
    def of_parts(cls, parts: Iterable[dict[str, Any]]) -> "Sums":
        """The sums of a scan from those of its parts."""
        total = cls()
        for part in (cls(**part) for part in parts):
            total.dead += part.dead
            total.values += part.values
            total.outliers += part.outliers
            total.low += part.low
            total.ring_squares += part.ring_squares
        return total

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for `of_parts`."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """dead_pixels, outliers_fraction, low_count_fraction and ring_change_rms, for the record of the scan."""
        values = max(1, self.values)
        return {
            "dead_pixels": self.dead,
            "outliers_fraction": self.outliers / values,
            "low_count_fraction": self.low / values,
            # Rounded once, so that it does not matter in which order rows were added up.
            "ring_change_rms": (math.fsum(self.ring_squares) / values) ** 0.5,
        }


@dataclass(frozen=True)
class Statistics:
    """What a correction found.

    Attributes:
        known: what is known without looking at every row, JSON-ready: the same for every part of a scan.
        sums: over the rows that were corrected.
    """

    known: dict[str, Any]
    sums: Sums

    def summary(self) -> dict[str, Any]:
        """Both, for the record: open_beam_counts_median (photons per pixel and view, None when the gain is unknown),
        open_beam_grey_median, dead_pixels, outliers_fraction, low_count_fraction, ring_change_rms and what was done.
        """
        return self.known | self.sums.summary()


def correct(
    raw: Reader,
    out: Writer,
    refs: References,
    *,
    steps: Steps,
    rows: slice | None = None,
    already: Already = "counts",
    phase_strength: float = 0.0,
    memory_gb: float = 2.0,
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> Statistics:
    """Correct a scan, or some rows of it: counts to line integrals.

    Args:
        raw: (view, row, col) counts, transmission or line integrals, as `already` says.
        out: (view, row, col) receives line integrals, dimensionless; with a phase filter it is read as well.
        refs: from `xrmflow.correction.references.references_for`.
        steps: which corrections are applied.
        rows: those that are corrected and written, with the same bits as when all are; None for all. The phase filter
            needs all.
        already: what `raw` holds; steps that were done before are left out.
        phase_strength: of the phase filter, from `xrmflow.correction.phase.filter_strength`; 0: none.
        memory_gb: about how much memory a block may take.
        device: where blocks are worked on.
        track: shows progress.

    Returns:
        Statistics for the record of the scan.

    Raises:
        ValueError: shapes that differ, or rows that are not there.
    """
    if tuple(out.shape) != tuple(raw.shape):
        raise ValueError(f"out: expected the shape of raw {tuple(raw.shape)}, got {tuple(out.shape)}")
    total = raw.shape[1]
    rows = rows or slice(0, total)
    if not 0 <= rows.start < rows.stop <= total or (phase_strength and rows != slice(0, total)):
        raise ValueError(f"rows: expected some of {total}, all where the phase is retrieved, got {rows}")
    survey = _survey(raw, refs, steps, already, device)
    sums = Sums()
    halo = defects.ROWS_AROUND + rings.ROWS_AROUND
    height = block_rows(raw.shape, memory_gb=memory_gb, halo=halo)
    for part in track(blocks(rows.stop - rows.start, height), label="flatfield"):
        block = slice(rows.start + part.start, rows.start + part.stop)
        window = slice(max(0, block.start - halo), min(total, block.stop + halo))
        counts = torch.from_numpy(as_float32(raw[:, window])).to(device)
        inside = slice(block.start - window.start, block.stop - window.start)
        result = _correct_block(counts, refs.rows(window), survey, steps, already, inside, sums, bool(phase_strength))
        # A writer holds what it compresses: not all views at a time.
        for views in blocks(raw.shape[0], VIEWS_AT_ONCE):
            out[views, block] = result[views].cpu().numpy()
    if phase_strength:
        _retrieve(out, phase_strength, steps, memory_gb, device, track)
        _remove_rings(out, height, steps, sums, device, track)
    return Statistics(_known(refs, steps, already, survey) | _phase_record(phase_strength), sums)


def block_rows(shape: tuple[int, ...], *, memory_gb: float, halo: int) -> int:
    """Rows a block may have: a multiple of 64 (the stores' chunk) when they fit, else the next lower power of two."""
    views, rows, cols = shape
    fitting = int(memory_gb * 1e9 / (4 * BLOCK_COPIES * views * cols)) - 2 * halo
    if fitting >= rows:
        return rows
    if fitting >= 64:
        return fitting // 64 * 64
    return 2 ** int(np.log2(max(1, fitting)))


def _transmitted(counts: Tensor, refs: References, already: Already) -> Tensor:
    if already == "line_integral":
        return torch.exp(-counts)
    beam = refs.beam(counts.shape[0])
    if already == "transmission" or beam is None:
        return counts
    return transmission(counts, refs.dark, beam)


def _survey(raw: Reader, refs: References, steps: Steps, already: Already, device: torch.device | str) -> Survey:
    total, cols = raw.shape[1:]
    size = min(SURVEY_ROWS, total)
    # Bands keep off the first and last rows, where the object or the detector often ends.
    starts = sorted({int(s) for s in np.linspace(0.15, 0.85, SURVEY_BANDS) * (total - size)})
    bands = [slice(start, start + size) for start in starts]
    parts = [
        _transmitted(torch.from_numpy(as_float32(raw[:, band])).to(device), refs.rows(band), already) for band in bands
    ]
    noise = [outliers.scatter(part) for part in parts]
    usual = float(np.median([defects.usual_step(defects.mean_step(p)) for p in parts])) if raw.shape[0] > 1 else 0.0
    margins, scale = air.Margins(0, 0), None
    if already == "counts" and steps.open_beam == "auto" and cols >= 16:
        # Medians keep dead pixels and outliers out of the brightness.
        sample = torch.cat([outliers.median_of_neighbours(part) for part in parts], dim=1)
        margins = air.find_margins(sample, width=max(4, cols // 32))
        scale = air.beam_scale(sample, margins)
    sigmas = (float(np.median([n[0] for n in noise])), float(np.median([n[1] for n in noise])))
    return Survey(sigmas, usual, scale, margins)


def _correct_block(
    counts: Tensor,
    refs: References,
    survey: Survey,
    steps: Steps,
    already: Already,
    inside: slice,
    sums: Sums,
    phase_follows: bool,
) -> Tensor:
    """Line integrals without rings, or, where the phase filter comes next, the mended transmission."""
    transmitted = _transmitted(counts, refs, already)
    beam = None if already != "counts" else refs.beam(1)
    if survey.beam_scale is not None:
        transmitted = transmitted / survey.beam_scale[:, None, None]
    marked = None
    if steps.outlier_sigmas is not None:
        marked = outliers.find_outliers(transmitted, sigmas=steps.outlier_sigmas, noise=survey.noise)
        sums.outliers += int(marked[:, inside].sum())
        transmitted = outliers.replace_outliers(transmitted, marked)
    photons = None if beam is None or refs.photons_per_count is None else beam * refs.photons_per_count
    if phase_follows:
        # Mended first, or the filter would spread what is wrong.
        _count_low(transmitted[:, inside], None if photons is None else photons[:, inside], steps, sums)
        return _mend(transmitted, transmitted, beam, survey, steps, inside, sums)[:, inside]
    if already == "line_integral":
        integrals = counts if marked is None else outliers.replace_outliers(counts, marked)
    else:
        integrals = line_integrals(transmitted, photons, minimum_transmission=steps.minimum_transmission)
    _count_low(transmitted[:, inside], None if photons is None else photons[:, inside], steps, sums)
    integrals = _mend(integrals, transmitted, beam, survey, steps, inside, sums)
    return _ringless(integrals, steps, inside, sums)


def _retrieve(
    out: Writer, strength: float, steps: Steps, memory_gb: float, device: torch.device | str, track: Track
) -> None:
    """Transmission to line integrals with the phase retrieved, in place: whole views, some at a time."""
    views, rows, cols = out.shape
    reach = 2 * phase.reach_px(strength)
    at_once = int(memory_gb * 1e9 / (4 * FRAME_COPIES * (rows + reach) * (cols + reach)))
    for block in track(blocks(views, max(1, min(at_once, VIEWS_AT_ONCE))), label="phase"):
        transmitted = torch.from_numpy(as_float32(cast(Reader, out)[block])).to(device)
        retrieved = phase.retrieve_phase(transmitted, strength=strength)
        out[block] = line_integrals(retrieved, minimum_transmission=steps.minimum_transmission).cpu().numpy()


def _remove_rings(out: Writer, rows: int, steps: Steps, sums: Sums, device: torch.device | str, track: Track) -> None:
    """Rings, in place: a block is written once no later one looks at its rows any more."""
    halo, total = rings.ROWS_AROUND, out.shape[1]
    waiting: list[tuple[slice, np.ndarray]] = []
    for block in track(blocks(total, rows), label="rings"):
        window = slice(max(0, block.start - halo), min(total, block.stop + halo))
        integrals = torch.from_numpy(as_float32(cast(Reader, out)[:, window])).to(device)
        inside = slice(block.start - window.start, block.stop - window.start)
        waiting.append((block, _ringless(integrals, steps, inside, sums).cpu().numpy()))
        while waiting and (waiting[0][0].stop <= block.stop - halo or block.stop == total):
            done, values = waiting.pop(0)
            out[:, done] = values


def _ringless(integrals: Tensor, steps: Steps, inside: slice, sums: Sums) -> Tensor:
    ringless = _without_rings(integrals, steps, inside)
    integrals = integrals[:, inside]
    changed = (ringless - integrals).movedim(1, 0).cpu().numpy()
    sums.ring_squares += [float(np.square(row, dtype=np.float64).sum()) for row in changed]
    sums.values += integrals.numel()
    return ringless


def _mend(
    integrals: Tensor,
    transmitted: Tensor,
    beam: Tensor | None,
    survey: Survey,
    steps: Steps,
    inside: slice,
    sums: Sums,
) -> Tensor:
    if steps.dead_pixel_tolerance is None:
        return integrals
    bad = torch.zeros(integrals.shape[1:], dtype=torch.bool, device=integrals.device)
    if beam is not None:
        bad |= defects.defects_in_flat(beam[0], tolerance=steps.dead_pixel_tolerance)
    if integrals.shape[0] >= 8:
        bad |= defects.defects_in_scan(defects.mean_step(transmitted), usual=survey.usual_step)
    sums.dead += int(bad[inside].sum())
    return defects.fill(integrals, bad)


def _without_rings(integrals: Tensor, steps: Steps, inside: slice) -> Tensor:
    if steps.rings == "offset":
        return rings.offset_rings(integrals)[:, inside]
    integrals = integrals[:, inside]
    if steps.rings == "sorting":
        return rings.sort_rings(integrals, size=steps.ring_size_px)
    if steps.rings == "wavelet_fourier":
        return rings.filter_rings(integrals, levels=steps.ring_levels, width=steps.ring_width)
    return integrals


def _count_low(transmitted: Tensor, photons: Tensor | None, steps: Steps, sums: Sums) -> None:
    if photons is None:
        low = transmitted < steps.minimum_transmission
    else:
        low = (transmitted * photons < LOW_PHOTONS) & (photons > 0)
    sums.low += int(low.sum())


def _phase_record(strength: float) -> dict[str, Any]:
    if not strength:
        return {"phase": None}
    known = {"filter_strength": strength, "filter_reach_px": phase.reach_px(strength)}
    return {"phase": known, "log": "ln(transmission)"}


def _known(refs: References, steps: Steps, already: Already, survey: Survey) -> dict[str, Any]:
    """What of the statistics is known without looking at every row."""
    beam = refs.beam(1) if already == "counts" else None
    grey = None if beam is None else float(beam.median())
    gain = refs.photons_per_count
    scale = survey.beam_scale
    source = "settings" if steps.photons_per_count else "estimated from the scatter of the flats"
    low = f"transmission {steps.minimum_transmission:g}" if gain is None else f"{LOW_PHOTONS:g} photons"
    return {
        "open_beam_grey_median": grey,
        "open_beam_counts_median": None if grey is None or gain is None else grey * gain,
        "photons_per_count": gain,
        "photons_per_count_source": "unknown" if gain is None else source,
        "low_count_limit": low,
        "air_columns": [survey.margins.left, survey.margins.right],
        "beam_scale_range": None if scale is None else [float(scale.min()), float(scale.max())],
        "exposure_ratio": refs.exposure_ratio,
        "rings": steps.rings,
        "log": "ln((counts + 1/2) / open beam)" if gain is not None and already == "counts" else "ln(transmission)",
    }
