"""Which self-supervised losses find the beam-hardening correction: losses x photon counts x shapes, as a table.

python benchmarks/cupping_ablation.py --cases 4 --seed 400

Every loss chooses c_2 of p' = p + c_2 p^2 from the same two basis volumes of the same slab. All but the one that is
used (homogeneity, whose equations are solved) are minimised over c_2 from 0 to 4 in steps of 0.02; bone is what is
bright in the smoothed uncorrected volume. Printed is the median (least) reduction of the outer/inner
difference as in `calibration.py --what cupping`: 100 % leaves none of it, 0 all, and less than 0 makes it worse.

- entropy: of the histogram of grey values in the field of view, scaled to the mean of bone; sigma 2: of volumes
  smoothed first.
- variance: of the grey values of bone over their mean squared.
- total variation: mean length of the gradient over the mean of bone.
- odd and even: correlation of bone between the reconstructions of odd and even views, which noise does not raise: what
  is left in common is structure.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import scipy.ndimage
from calibration_bones import SPECTRA, random_bone, scan_recipe, scanned
from calibration_cupping import shells_of

from xrmflow.calibration.basis import Slab, load_slab
from xrmflow.calibration.bone import segment_bone
from xrmflow.calibration.cupping import fit_cupping, unchanged
from xrmflow.calibration.fan import field_of_view
from xrmflow.phantom.object import BoneRecipe
from xrmflow.reconstruction.fdk import fdk

GRID = np.arange(0, 4.001, 0.02)
COUNTS = (10000.0, 2000.0)
BINS = np.linspace(-0.3, 1.8, 211)
Loss = Callable[[np.ndarray, np.ndarray], float]

SHAPES: dict[str, Callable[[BoneRecipe], BoneRecipe]] = {
    "thick cortex": lambda bone: bone,
    "thin cortex": lambda bone: replace(bone, cortex_um=0.55 * bone.cortex_um),
    "dense core": lambda bone: replace(bone, trabecular_fraction=0.55),
}


def entropy(volume: np.ndarray, bone: np.ndarray) -> float:
    """Of the histogram of grey values over the mean of bone, nats."""
    inside = np.broadcast_to(field_of_view(volume.shape[2], 0.95), volume.shape)
    counts = np.histogram(volume[inside] / volume[bone].mean(), BINS)[0]
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def variance(volume: np.ndarray, bone: np.ndarray) -> float:
    """Of bone over its mean squared."""
    return float(volume[bone].var() / volume[bone].mean() ** 2)


def total_variation(volume: np.ndarray, bone: np.ndarray) -> float:
    """Mean length of the gradient over the mean of bone."""
    length = np.sqrt(sum(np.square(slope) for slope in np.gradient(volume)))
    return float(length.mean() / volume[bone].mean())


def minimiser(loss: Loss, basis: np.ndarray, bone: np.ndarray) -> float:
    """The c_2 of the grid with the least loss."""
    return float(GRID[np.argmin([loss(basis[0] + c * basis[1], bone) for c in GRID])])


def odd_and_even(slab: Slab, bone: np.ndarray) -> float:
    """The c_2 with the least covariance of bone between odd and even views, over its mean squared."""
    parts = [slice(first, None, 2) for first in (0, 1)]
    halves = [
        np.stack([fdk(power[part], slab.geometry.with_views(part), slab.grid).numpy()[bone] for power in slab.powers])
        for part in parts
    ]
    scores = []
    for c in GRID:
        one, other = (half[0] + c * half[1] for half in halves)
        scores.append(np.mean((one - one.mean()) * (other - other.mean())) / (one.mean() * other.mean()))
    return float(GRID[np.argmin(scores)])


def reductions(seed: int, shape: str, counts: float) -> dict[str, float]:
    """Of one bone, by loss."""
    recipe = scan_recipe(*SPECTRA[seed % len(SPECTRA)], rows=24, views=240, counts=counts)
    one = scanned(SHAPES[shape](random_bone(np.random.default_rng([seed, 0]), 0.02)), recipe, seed)
    slab = load_slab(one.measured, one.scan.acquisition, degree=2, slices=48)
    basis = slab.basis().numpy()
    smooth = np.stack([scipy.ndimage.gaussian_filter(volume, 2.0) for volume in basis])
    segmented = segment_bone(basis[0], smoothing_px=1.0)
    if segmented is None:
        raise RuntimeError("no bone was found in a reconstruction")
    bone = segmented[0]
    found = {
        "homogeneity": fit_cupping(one.measured, one.scan.acquisition).coefficients[1],
        "entropy": minimiser(entropy, basis, bone),
        "entropy, sigma 2": minimiser(entropy, smooth, bone),
        "variance": minimiser(variance, basis, bone),
        "total variation": minimiser(total_variation, basis, bone),
        "odd and even": odd_and_even(slab, bone),
    }
    shells = shells_of(one, 2)
    nothing = unchanged("")
    return {
        name: 100 * shells.judged(replace(nothing, coefficients=(1.0, c), found=(1.0, c))).reduction
        for name, c in found.items()
    }


def table(cells: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: a row a loss, a column a shape and count."""
    columns = list(cells)
    losses = list(next(iter(cells.values())))
    lines = [f"| loss | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for loss in losses:
        values = [cells[column][loss] for column in columns]
        lines.append(f"| {loss} | {' | '.join(f'{np.median(v):.0f} ({min(v):.0f})' for v in values)} |")
    return "\n".join(lines)


def main() -> None:
    """Run all cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=4, help="bones in each cell")
    parser.add_argument("--seed", type=int, default=400, help="number of the first bone")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    options = parser.parse_args()
    cells: dict[str, dict[str, list[float]]] = {}
    for shape in options.shapes:
        for counts in COUNTS:
            cell = cells.setdefault(f"{shape}, {counts:g} counts", {})
            for seed in range(options.seed, options.seed + options.cases):
                for loss, value in reductions(seed, shape, counts).items():
                    cell.setdefault(loss, []).append(value)
    print(table(cells))


if __name__ == "__main__":
    main()
