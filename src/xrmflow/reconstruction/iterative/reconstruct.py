"""A whole scan reconstructed iteratively, from a Reader to a Writer: grid, weights, noise, memory, method."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader, Track, Writer, as_float32, blocks, untracked
from xrmflow.errors import SettingsError
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry, check_projections
from xrmflow.reconstruction.iterative.cgls import cgls
from xrmflow.reconstruction.iterative.region import surrounding_grid
from xrmflow.reconstruction.iterative.sart import os_sart, sirt
from xrmflow.reconstruction.iterative.stopping import Result, Stop
from xrmflow.reconstruction.iterative.tv import tv_pdhg
from xrmflow.reconstruction.iterative.variation import matched_strength, noise_level

logger = logging.getLogger(__name__)

Method = Literal["tv", "os-sart", "sirt", "cgls"]
ITERATIONS: dict[Method, int] = {"tv": 120, "os-sart": 30, "sirt": 200, "cgls": 30}
# What each method holds at its peak, copies of the volume and of the projections, those of the transform included
# (measured), on top of interpreter, libraries and compiled kernels.
COPIES: dict[Method, tuple[float, float]] = {"tv": (12, 9), "os-sart": (6, 8), "sirt": (6, 9), "cgls": (6, 9)}
RUNTIME_BYTES, FLOAT = 0.4e9, 4
VIEWS_AT_ONCE, SLICES_AT_ONCE = 32, 64


@dataclass(frozen=True)
class Recipe:
    """How a scan is reconstructed.

    Attributes:
        method: which.
        iterations: at most; None takes the method's own number.
        strength: of TV, in units of `matched_strength`.
        subsets: of OS-SART; None takes the root of the number of views.
        nonnegative: whether values below 0 are excluded (CGLS cannot).
        photon_weights: whether each line integral counts in proportion to the photons that made it, exp(-p).
        stop_at_noise: whether methods without a prior end where the residual is the noise.
        relative_change: as in `Stop`.
        left_out_columns: at both ends of the detector rows.
        padding: as in `surrounding_grid`.
    """

    method: Method = "tv"
    iterations: int | None = None
    strength: float = 1.0
    subsets: int | None = None
    nonnegative: bool = True
    photon_weights: bool = True
    stop_at_noise: bool = True
    relative_change: float = 1e-4
    left_out_columns: int = 0
    padding: float = 0.0


@dataclass(frozen=True)
class Summary:
    """What was done.

    Attributes:
        shape: (z, y, x) voxels that took part, those around the grid included.
        noise: standard deviation of the (weighted) line integrals, as estimated from them.
        strength_mm: of TV; None for the other methods.
        residuals, stopped_because: as in `Result`.
    """

    shape: tuple[int, int, int]
    noise: float
    strength_mm: float | None
    residuals: list[float]
    stopped_because: str


def reconstruct(
    projections: Reader,
    volume: Writer,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    recipe: Recipe,
    *,
    prepare: Callable[[Tensor], Tensor] | None = None,
    memory_gb: float = 4.0,
    device: torch.device | str = "cpu",
    track: Track = untracked,
) -> Summary:
    """Reconstruct a scan on a grid; logs what it will take before it starts.

    Voxels are added around the grid wherever rays of the scan pass, and cut off at the end: what lies there would
    otherwise be drawn into it.

    Args:
        projections: (view, row, col) line integrals.
        volume: (z, y, x), receives attenuation per mm.
        geometry: the scan, mm.
        grid: where to reconstruct, mm.
        recipe: how.
        prepare: applied to each block (view, row, col) of line integrals, e.g. a linearisation.
        memory_gb: what the whole process may use, 1e9 bytes.
        device: where it runs.
        track: shows progress.

    Raises:
        ValueError: shapes that do not fit, or projections that are not finite.
        SettingsError: too small a budget.
    """
    if tuple(volume.shape) != tuple(grid.shape):
        raise ValueError(f"volume: expected shape (z, y, x) = {tuple(grid.shape)}, got {tuple(volume.shape)}")
    if not 0 <= 2 * recipe.left_out_columns < geometry.cols:
        raise SettingsError(
            f"iterative.left_out_columns: expected less than half of the {geometry.cols} columns, "
            f"got {recipe.left_out_columns}"
        )
    wide, box = surrounding_grid(grid, geometry, padding=recipe.padding)
    _check_memory(recipe.method, geometry, wide, memory_gb)
    data = _read(projections, geometry, prepare, device)
    weights = _weights(data, recipe)
    noise = noise_level(data, weights=weights)
    result, strength = _run(data, geometry, wide, recipe, weights, noise, track)
    logger.info(
        "iterative: %s ended by %s after %d rounds, residual %.3g (noise %.3g)",
        recipe.method,
        result.stopped_because,
        len(result.residuals) - (recipe.method != "os-sart"),
        result.residuals[-1] / math.sqrt(data.numel()),
        noise,
    )
    inner = result.volume[box]
    for rows in blocks(grid.shape[0], SLICES_AT_ONCE):
        volume[rows] = inner[rows].cpu().numpy()
    return Summary(wide.shape, noise, strength, result.residuals, result.stopped_because)


def memory_bytes(method: Method, geometry: ScanGeometry, grid: VolumeGrid) -> float:
    """Peak memory of a method on a grid, the program itself included."""
    volumes, scans = COPIES[method]
    pixels = float(geometry.views) * geometry.rows * geometry.cols
    return RUNTIME_BYTES + FLOAT * (volumes * math.prod(grid.shape) + scans * pixels)


def _check_memory(method: Method, geometry: ScanGeometry, grid: VolumeGrid, memory_gb: float) -> None:
    needed = math.ceil(memory_bytes(method, geometry, grid) / 1e7) / 100
    logger.info(
        "iterative: %s of %d x %d x %d voxels from %d views of %d x %d pixels, needs %.2f GB of memory",
        method,
        *grid.shape,
        geometry.views,
        geometry.rows,
        geometry.cols,
        needed,
    )
    if needed > memory_gb:
        raise SettingsError(
            f"iterative.memory_gb: expected at least {needed:.2f} for {method} of this scan on "
            f"{' x '.join(map(str, grid.shape))} voxels, got {memory_gb:.2f}; allow more, take larger voxels "
            "(fdk.voxel_size_um) or another iterative.method, or leave it out of `measure`"
        )


def _read(
    projections: Reader,
    geometry: ScanGeometry,
    prepare: Callable[[Tensor], Tensor] | None,
    device: torch.device | str,
) -> Tensor:
    check_projections(projections.shape, geometry)
    data = torch.empty(tuple(projections.shape), device=device)
    for views in blocks(geometry.views, VIEWS_AT_ONCE):
        block = as_float32(projections[views])
        if not np.isfinite(block).all():
            raise ValueError(
                f"projections: expected finite line integrals, got others in views {views.start} to {views.stop}"
            )
        part = torch.from_numpy(block).to(device)
        with torch.no_grad():
            data[views] = part if prepare is None else prepare(part)
    return data


def _weights(data: Tensor, recipe: Recipe) -> Tensor | None:
    """In proportion to the photons; 0 in the columns that are left out; None where all are 1."""
    if not (recipe.photon_weights or recipe.left_out_columns):
        return None
    weights = torch.exp(-data.clamp(min=0)) if recipe.photon_weights else torch.ones_like(data[:1, :1])
    if recipe.left_out_columns:
        weights[..., : recipe.left_out_columns] = 0
        weights[..., -recipe.left_out_columns :] = 0
    return weights


def _run(
    data: Tensor,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    recipe: Recipe,
    weights: Tensor | None,
    noise: float,
    track: Track,
) -> tuple[Result, float | None]:
    iterations = ITERATIONS[recipe.method] if recipe.iterations is None else recipe.iterations
    stop = Stop(relative_change=recipe.relative_change, noise=noise if recipe.stop_at_noise else None)
    if recipe.method == "tv":
        strength = recipe.strength * matched_strength(data, geometry, grid, noise=noise, weights=weights)
        logger.info("iterative: noise %.3g in the line integrals, strength of TV %.3g mm", noise, strength)
        result = tv_pdhg(
            data,
            geometry,
            grid,
            strength=strength,
            iterations=iterations,
            weights=weights,
            nonnegative=recipe.nonnegative,
            stop=Stop(relative_change=recipe.relative_change),
            track=track,
        )
        return result, strength
    if recipe.method == "cgls":
        return cgls(data, geometry, grid, iterations=iterations, weights=weights, stop=stop, track=track), None
    options = {"weights": weights, "nonnegative": recipe.nonnegative, "stop": stop, "track": track}
    if recipe.method == "sirt":
        return sirt(data, geometry, grid, iterations=iterations, **options), None
    return os_sart(data, geometry, grid, iterations=iterations, subsets=recipe.subsets, **options), None
