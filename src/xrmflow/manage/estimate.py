"""What a run will take: disk, memory and time, from the size of a scan. Orders of magnitude, not promises.

Rates are for one CPU core and were measured on a two-core machine without a GPU.
"""

import math
from dataclasses import asdict, dataclass

BYTES_FLOAT = 4
BASE_BYTES = 0.8e9
STARTUP_S = 4.0
READ_BYTES_PER_S = 80e6
CORRECTED_PIXELS_PER_S = 1.5e6
BACKPROJECTED_PER_S = 1e9
# Projection and adjoint together, and how often an iterative reconstruction asks for them.
ITERATED_PER_S, ITERATIONS, ITERATIVE_COPIES = 1e9, 120, 12
# Trial slices of the centre search, at no more than this size.
TRIAL_SLICES, TRIAL_COLS = 150, 768
TRAINING_S = 180.0
DENOISED_PIXELS_PER_S = 1.5e6
MEASURED_VOXELS_PER_S = 2e6
FLATFIELD_BUDGET_BYTES = 2e9


@dataclass(frozen=True)
class Needs:
    """What a run will take.

    Attributes:
        disk_gb: by store, 1e9 bytes. disk_peak_gb: all of them together.
        memory_gb: the largest stage, 1e9 bytes.
        seconds: by stage. seconds_total: their sum.
        cores: cores the time is for.
    """

    disk_gb: dict[str, float]
    disk_peak_gb: float
    memory_gb: float
    seconds: dict[str, float]
    seconds_total: float
    cores: int

    def to_dict(self) -> dict[str, object]:
        """The needs as plain values."""
        return asdict(self)


def needs(
    *,
    views: int,
    rows: int,
    cols: int,
    bytes_per_pixel: int,
    shape: tuple[int, int, int] | None = None,
    splits: int = 4,
    denoise: bool = True,
    superres_factor: int | None = None,
    iterate: bool = False,
    memory_budget_gb: float = 4.0,
    cores: int = 1,
) -> Needs:
    """Estimate a run on one scan.

    Args:
        views: projections.
        rows: detector rows.
        cols: detector columns.
        bytes_per_pixel: of the raw frames.
        shape: voxels (z, y, x) of the volume; the natural grid (rows, cols, cols) when None.
        splits: sub-reconstructions for Noise2Inverse.
        denoise: whether Noise2Inverse is trained and applied.
        superres_factor: how many times finer the super-resolved volume is; None for none.
        iterate: whether the scan is reconstructed iteratively too.
        memory_budget_gb: the budget given to the reconstruction, 1e9 bytes.
        cores: that the run may use.
    """
    pixels, voxels = float(views) * rows * cols, float(math.prod(shape or (rows, cols, cols)))
    fine = voxels * superres_factor**3 if superres_factor else 0.0
    measured = (1 + denoise + iterate) * voxels + fine
    volume = BYTES_FLOAT * voxels / 1e9
    disk = {
        "raw": pixels * bytes_per_pixel / 1e9,
        "projections": BYTES_FLOAT * pixels / 1e9,
        "volume": volume,
        "iterative": volume if iterate else 0.0,
        "splits": splits * volume if denoise else 0.0,
        "denoised": volume if denoise else 0.0,
        "superres": BYTES_FLOAT * fine / 1e9,
        "masks": measured / 1e9,
    }
    updates = views * voxels
    side = min(cols, TRIAL_COLS)
    trials = TRIAL_SLICES * min(views, 2 * side) * side**2
    seconds = {
        "starting": STARTUP_S * (13 if denoise else 8),
        "ingest": pixels * bytes_per_pixel / READ_BYTES_PER_S,
        "flatfield": pixels / (CORRECTED_PIXELS_PER_S * cores),
        "align, cupping": 2 * trials / (BACKPROJECTED_PER_S * cores),
        "fdk": updates / (BACKPROJECTED_PER_S * cores),
        "iterative": ITERATIONS * updates / (ITERATED_PER_S * cores) * iterate,
        "n2i": (TRAINING_S + updates / BACKPROJECTED_PER_S / cores + voxels / DENOISED_PIXELS_PER_S / cores) * denoise,
        "super-resolution": (TRAINING_S + fine / DENOISED_PIXELS_PER_S / cores) * bool(fine),
        "segment, morphometry": measured / MEASURED_VOXELS_PER_S,
    }
    memory = BASE_BYTES + max(memory_budget_gb * 1e9, FLATFIELD_BUDGET_BYTES, 3 * BYTES_FLOAT * max(voxels, fine))
    smallest = BASE_BYTES + 4 * BYTES_FLOAT * (pixels + max(voxels, fine))
    largest = max(min(memory, smallest), BASE_BYTES + ITERATIVE_COPIES * BYTES_FLOAT * (voxels + pixels) * iterate)
    return Needs(
        disk_gb={name: round(size, 6) for name, size in disk.items()},
        disk_peak_gb=round(sum(disk.values()), 6),
        memory_gb=round(largest / 1e9, 2),
        seconds={name: round(value, 1) for name, value in seconds.items()},
        seconds_total=round(sum(seconds.values()), 1),
        cores=cores,
    )
