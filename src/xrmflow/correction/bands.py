"""A band of detector rows with all their views: what rings and flickering pixels need to be seen.

Every view of a band is read and written once, some at a time, and what lies between is one array, which may lie on a
disk. No result depends on how many views are worked on at a time, nor on how tall a band is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Already, InMemory, Reader, Scratch, Writer, as_float32, blocks
from xrmflow.correction import air, defects, outliers, rings
from xrmflow.correction.plan import HALO, VIEWS
from xrmflow.correction.references import References
from xrmflow.correction.steps import Steps
from xrmflow.correction.sums import Sums
from xrmflow.correction.transmission import line_integrals, transmission

LOW_PHOTONS = 100.0


@dataclass(frozen=True)
class Survey:
    """Scan-wide numbers measured on a few rows before the bands are worked on."""

    noise: tuple[float, float] = (0.0, 0.0)
    usual_step: float = 0.0
    beam_scale: Tensor | None = None
    margins: air.Margins = field(default_factory=lambda: air.Margins(0, 0))


@dataclass(frozen=True)
class Scan:
    """What is corrected, and how: the same for all bands.

    Attributes:
        raw: (view, row, col) counts, transmission or line integrals, as `already` says.
        refs: flat and dark.
        steps: which corrections are applied.
        already: what `raw` holds.
        device: where views are worked on.
    """

    raw: Reader
    refs: References
    steps: Steps
    already: Already
    device: torch.device | str

    def counts(self, views: slice, rows: slice) -> Tensor:
        """(view, row, col) as recorded."""
        return torch.from_numpy(as_float32(self.raw[views, rows])).to(self.device)

    def transmitted(self, counts: Tensor, views: slice, rows: slice) -> Tensor:
        """The transmitted fraction of counts of these views and rows."""
        if self.already == "line_integral":
            return torch.exp(-counts)
        refs = self.refs.rows(rows)
        beam = refs.beam(views) if self.already == "counts" else None
        return counts if beam is None else transmission(counts, refs.dark, beam)

    def beam(self, rows: slice) -> Tensor | None:
        """(row, col) open-beam signal of the first view, grey levels; None for data that need none."""
        beam = self.refs.rows(rows).beam(slice(0, 1)) if self.already == "counts" else None
        return None if beam is None else beam[0]


class Band:
    """Rows of a scan while they are corrected.

    Args:
        scan: what they belong to.
        rows: of the detector.
        views_at_once: at least `FEWEST_VIEWS`, unless the scan has fewer.
        scratch: where the array is kept.
    """

    def __init__(self, scan: Scan, rows: slice, *, views_at_once: int, scratch: Scratch) -> None:
        views, total, cols = scan.raw.shape
        self._scan, self._rows, self._scratch = scan, rows, scratch
        self._window = slice(max(0, rows.start - HALO), min(total, rows.stop + HALO))
        self._inside = slice(rows.start - self._window.start, rows.stop - self._window.start)
        self._parts = blocks(views, views_at_once)
        self._values = scratch.array((views, self._window.stop - self._window.start, cols), np.float32)

    def correct(self, survey: Survey, sums: Sums, *, phase_follows: bool) -> None:
        """Line integrals, or, where the phase filter comes next, the transmission: without outliers and dead pixels."""
        scan, beam = self._scan, self._scan.beam(self._window)
        gain = scan.refs.photons_per_count
        photons = None if beam is None or gain is None else beam * gain
        steps = _Steps()
        for views, counts, transmitted, marked in self._without_outliers(survey):
            sums.outliers += int(marked[:, self._inside].sum())
            sums.low += self._low(transmitted, photons)
            if phase_follows:
                made = transmitted
            elif scan.already == "line_integral":
                made = outliers.replace_outliers(counts, marked)
            else:
                made = line_integrals(transmitted, photons, minimum_transmission=scan.steps.minimum_transmission)
            steps.add(transmitted)
            self._values[views] = made.cpu().numpy()
            self._scratch.release()
        if scan.steps.dead_pixel_tolerance is not None:
            self._mend(beam, steps, survey, scan.steps.dead_pixel_tolerance, sums)

    def remove_rings(self, sums: Sums) -> None:
        """Of the line integrals that `correct` left."""
        ringless(self._values, self._inside, self._scan.steps, sums, scratch=self._scratch)

    def write(self, out: Writer) -> None:
        """The rows of the band to (view, row, col) of the scan."""
        for views in blocks(len(self._values), VIEWS):
            out[views, self._rows] = self._values[views, self._inside]
            self._scratch.release()

    def _without_outliers(self, survey: Survey) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Views in order: which they are, counts, transmission without outliers, and where these were."""
        scan, sigmas = self._scan, self._scan.steps.outlier_sigmas
        for first, counts, kept in self._overlapping():
            views = slice(first, first + len(counts))
            transmitted = scan.transmitted(counts, views, self._window)
            if survey.beam_scale is not None:
                transmitted = transmitted / survey.beam_scale[views, None, None]
            if sigmas is None:
                marked = torch.zeros_like(transmitted, dtype=torch.bool)[kept]
                transmitted = transmitted[kept]
            else:
                marked = outliers.find_outliers(transmitted, sigmas=sigmas, noise=survey.noise)[kept]
                transmitted = outliers.replace_outliers(transmitted[kept], marked)
            yield slice(first + kept.start, first + kept.stop), counts[kept], transmitted, marked

    def _overlapping(self) -> Iterator[tuple[int, Tensor, slice]]:
        """First view, counts of some views, and those of them whose neighbours in time are there or do not exist."""
        held: Tensor | None = None
        for part in self._parts:
            counts = self._scan.counts(part, self._window)
            counts = counts if held is None else torch.cat([held, counts])
            first, last = part.stop - len(counts), part.stop == len(self._values)
            yield first, counts, slice(0 if first == 0 else 1, len(counts) if last else len(counts) - 1)
            held = counts[-2:]

    def _low(self, transmitted: Tensor, photons: Tensor | None) -> int:
        values = transmitted[:, self._inside]
        if photons is None:
            return int((values < self._scan.steps.minimum_transmission).sum())
        seen = photons[self._inside]
        return int(((values * seen < LOW_PHOTONS) & (seen > 0)).sum())

    def _mend(self, beam: Tensor | None, steps: "_Steps", survey: Survey, tolerance: float, sums: Sums) -> None:
        bad = torch.zeros(self._values.shape[1:], dtype=torch.bool, device=self._scan.device)
        if beam is not None:
            bad |= defects.defects_in_flat(beam, tolerance=tolerance)
        if len(self._values) >= 8:
            bad |= defects.defects_in_scan(steps.mean(), usual=survey.usual_step)
        sums.dead += int(bad[self._inside].sum())
        if not bad.any():
            return
        for views in self._parts:
            images = torch.from_numpy(self._values[views]).to(self._scan.device)
            self._values[views] = defects.fill(images, bad).cpu().numpy()
            self._scratch.release()


class _Steps:
    """Mean absolute step of each pixel from view to view, `xrmflow.correction.defects.mean_step`, views in order."""

    def __init__(self) -> None:
        self._before: Tensor | None = None
        self._total: Tensor | None = None
        self._count = 0

    def add(self, views: Tensor) -> None:
        """The next views (view, row, col)."""
        for view in views:
            if self._before is not None:
                step = (view - self._before).abs().double()
                self._total = step if self._total is None else self._total.add_(step)
                self._count += 1
            self._before = view

    def mean(self) -> Tensor:
        """(row, col)."""
        assert self._total is not None
        return (self._total / self._count).float()


def ringless(values: np.ndarray, inside: slice, steps: Steps, sums: Sums, *, scratch: Scratch | None = None) -> None:
    """Remove rings from rows of line integrals, in place.

    Args:
        values: (view, row, col).
        inside: rows that are changed; `xrmflow.correction.rings.ROWS_AROUND` on either side are looked at.
        steps: the method.
        sums: counts the values, and what changed.
        scratch: where the values lie.
    """
    views, total, cols = values.shape
    scratch = scratch or InMemory()
    sums.values += views * (inside.stop - inside.start) * cols
    if steps.rings == "none":
        sums.ring_squares += [0.0] * (inside.stop - inside.start)
        return
    if steps.rings == "offset":
        around = slice(max(0, inside.start - rings.ROWS_AROUND), min(total, inside.stop + rings.ROWS_AROUND))
        offsets = rings.offsets(values[:, around], release=scratch.release)
        offsets = offsets[inside.start - around.start : inside.stop - around.start].astype(np.float32)
        for some in blocks(views, VIEWS):
            values[some, inside] -= offsets
            scratch.release()
        sums.ring_squares += [views * float(np.square(row, dtype=np.float64).sum()) for row in offsets]
        return
    for row in range(inside.start, inside.stop):
        before = np.ascontiguousarray(values[:, row])
        after = _without_stripes(torch.from_numpy(before[:, None]), steps)[:, 0].numpy()
        sums.ring_squares.append(float(np.square(after - before, dtype=np.float64).sum()))
        values[:, row] = after
        scratch.release()


def _without_stripes(sinogram: Tensor, steps: Steps) -> Tensor:
    if steps.rings == "sorting":
        return rings.sort_rings(sinogram, size=steps.ring_size_px)
    return rings.filter_rings(sinogram, levels=steps.ring_levels, width=steps.ring_width)
