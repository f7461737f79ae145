"""How a scan that may be larger than memory is corrected: in bands of detector rows, some views at a time."""

from dataclasses import dataclass

from xrmflow.arrays import blocks

# Rows along with a band: 5 that defects and outliers look at, and 4 of what these leave that rings look at.
HALO = 9
# Heights of bands are multiples of the rows, and views are taken by the views, that a chunk of projection stores has.
ROWS, VIEWS = 64, 32
# An outlier is compared with the views next to it, and the first and the last view with two.
FEWEST_VIEWS = 4
# Arrays of some views of a band alive at once: counts, transmission, medians and their temporaries (measured).
COPIES = 12
FLOAT = 4


@dataclass(frozen=True)
class Plan:
    """How a scan is worked on.

    Attributes:
        rows: of a band.
        views: worked on at a time.
        in_memory: whether the array of a band lies in memory.
    """

    rows: int
    views: int
    in_memory: bool

    def bands(self, rows: slice) -> list[slice]:
        """Some rows of the detector, cut where chunks of stores end."""
        first = rows.start // ROWS * ROWS
        cuts = (slice(first + part.start, first + part.stop) for part in blocks(rows.stop - first, self.rows))
        return [slice(max(rows.start, cut.start), cut.stop) for cut in cuts]


def plan(shape: tuple[int, ...], *, memory_gb: float) -> Plan:
    """The tallest bands that fit into memory; where none does, low ones on a disk.

    Args:
        shape: (view, row, col) of the scan.
        memory_gb: for arrays, 1e9 bytes.
    """
    views, rows, _ = shape
    at_once = min(VIEWS, views)
    for height in (rows, *range((rows - 1) // ROWS * ROWS, 0, -ROWS)):
        if band_bytes(shape, height) * (1 + COPIES * at_once / views) <= memory_gb * 1e9:
            return Plan(height, at_once, in_memory=True)
    height = min(ROWS, rows)
    fitting = int(memory_gb * 1e9 / (COPIES * band_bytes(shape, height) / views))
    return Plan(height, min(views, max(FEWEST_VIEWS, min(fitting, VIEWS))), in_memory=False)


def band_bytes(shape: tuple[int, ...], rows: int) -> float:
    """The array of a band of rows with those around it, all views."""
    return FLOAT * shape[0] * min(rows + 2 * HALO, shape[1]) * shape[2]
