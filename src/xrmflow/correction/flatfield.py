"""The whole correction, counts to line integrals, over bands of rows of a scan that may be larger than memory.

Thresholds come from a survey of a few rows, so the result does not depend on how tall the bands are, and some of the
rows can be corrected by themselves.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from xrmflow.arrays import Already, InMemory, Reader, Scratch, Track, Writer, as_float32, blocks, untracked
from xrmflow.correction import air, defects, outliers, phase, rings
from xrmflow.correction.bands import LOW_PHOTONS, Band, Scan, Survey, ringless
from xrmflow.correction.plan import VIEWS, Plan, plan
from xrmflow.correction.references import References
from xrmflow.correction.steps import Steps
from xrmflow.correction.sums import Sums
from xrmflow.correction.transmission import line_integrals

SURVEY_BANDS, SURVEY_ROWS, SURVEY_VIEWS = 4, 8, 512
# Padded frames in the phase filter alive at once.
FRAME_COPIES = 8


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
    scratch: Scratch | None = None,
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
        memory_gb: for arrays, 1e9 bytes; no bit depends on it.
        scratch: where a band lies of which 64 rows with all views do not fit; by default in memory after all.
        device: where views are worked on.
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
    scan = Scan(raw, refs, steps, already, device)
    survey, sums, planned = _survey(scan), Sums(), plan(raw.shape, memory_gb=memory_gb)
    kept = InMemory() if planned.in_memory or scratch is None else scratch
    for band_rows in track(planned.bands(rows), label="flatfield"):
        band = Band(scan, band_rows, views_at_once=planned.views, scratch=kept)
        band.correct(survey, sums, phase_follows=bool(phase_strength))
        if not phase_strength:
            band.remove_rings(sums)
        band.write(out)
    if phase_strength:
        _retrieve(out, phase_strength, steps, memory_gb, device, track)
        _remove_rings(out, planned, steps, sums, kept, track)
    return Statistics(_known(refs, steps, already, survey) | _phase_record(phase_strength), sums)


def _survey(scan: Scan) -> Survey:
    views, total, cols = scan.raw.shape
    size, width = min(SURVEY_ROWS, total), max(4, cols // 32)
    # Bands keep off the first and last rows, where the object or the detector often ends.
    starts = sorted({int(s) for s in np.linspace(0.15, 0.85, SURVEY_BANDS) * (total - size)})
    looks_for_air = scan.already == "counts" and scan.steps.open_beam == "auto" and cols >= 16
    noise, usual, edges = [], [], []
    for start in starts:
        rows, beside = slice(start, start + size), []
        for some in blocks(views, SURVEY_VIEWS):
            transmitted = scan.transmitted(scan.counts(some, rows), some, rows)
            noise.append(outliers.scatter(transmitted))
            if len(transmitted) > 1:
                usual.append(defects.usual_step(defects.mean_step(transmitted)))
            if looks_for_air:
                # Medians keep dead pixels and outliers out of the brightness.
                smooth = outliers.median_of_neighbours(transmitted)
                beside.append(torch.cat([smooth[..., :width], smooth[..., -width:]], dim=2))
        edges += [torch.cat(beside)] if beside else []
    margins, scale = air.Margins(0, 0), None
    if edges:
        sample = torch.cat(edges, dim=1)
        margins = air.find_margins(sample, width=width)
        scale = air.beam_scale(sample, margins)
    sigmas = (float(np.median([n[0] for n in noise])), float(np.median([n[1] for n in noise])))
    return Survey(sigmas, float(np.median(usual)) if usual else 0.0, scale, margins)


def _retrieve(
    out: Writer, strength: float, steps: Steps, memory_gb: float, device: torch.device | str, track: Track
) -> None:
    """Transmission to line integrals with the phase retrieved, in place: whole views, some at a time."""
    views, rows, cols = out.shape
    reach = 2 * phase.reach_px(strength)
    at_once = int(memory_gb * 1e9 / (4 * FRAME_COPIES * (rows + reach) * (cols + reach)))
    for block in track(blocks(views, max(1, min(at_once, VIEWS))), label="phase"):
        transmitted = torch.from_numpy(as_float32(cast(Reader, out)[block])).to(device)
        retrieved = phase.retrieve_phase(transmitted, strength=strength)
        out[block] = line_integrals(retrieved, minimum_transmission=steps.minimum_transmission).cpu().numpy()


def _remove_rings(out: Writer, planned: Plan, steps: Steps, sums: Sums, scratch: Scratch, track: Track) -> None:
    """Rings, in place: a band is written once no later one looks at its rows any more."""
    reader, halo, (views, total, cols) = cast(Reader, out), rings.ROWS_AROUND, out.shape
    above: np.ndarray | None = None
    for rows in track(planned.bands(slice(0, total)), label="rings"):
        window = slice(max(0, rows.start - halo), min(total, rows.stop + halo))
        inside = slice(rows.start - window.start, rows.stop - window.start)
        values = scratch.array((views, window.stop - window.start, cols), np.float32)
        for some in blocks(views, VIEWS):
            values[some] = reader[some, window]
            if above is not None:
                values[some, : inside.start] = above[some]
        # What the next band looks at is still as it was.
        last = values[:, max(0, inside.stop - halo) : inside.stop]
        above = scratch.array(last.shape, np.float32)
        above[...] = last
        ringless(values, inside, steps, sums, scratch=scratch)
        for some in blocks(views, VIEWS):
            out[some, rows] = values[some, inside]
            scratch.release()


def _phase_record(strength: float) -> dict[str, Any]:
    if not strength:
        return {"phase": None}
    known = {"filter_strength": strength, "filter_reach_px": phase.reach_px(strength)}
    return {"phase": known, "log": "ln(transmission)"}


def _known(refs: References, steps: Steps, already: Already, survey: Survey) -> dict[str, Any]:
    """What of the statistics is known without looking at every row."""
    beam = refs.beam(slice(0, 1)) if already == "counts" else None
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
