"""One scan of few, noisy views, reconstructed in every way: a picture, and the figures of docs/benchmarks.md.

    python docs/examples/iterative_gallery.py

Seconds are of one core: what all threads took together.

The object is a piece of bone: a cortex with pores, struts in the marrow, longer than the field of view. Its line
integrals are exact, not projections of the voxels that are then reconstructed.
"""

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.trajectories import circular_cone
from xrmflow.metrics.images import psnr, ssim
from xrmflow.projectors.analytic import ellipsoid, project_ellipsoid
from xrmflow.reconstruction.fdk import fdk
from xrmflow.reconstruction.iterative.cgls import cgls
from xrmflow.reconstruction.iterative.region import surrounding_grid
from xrmflow.reconstruction.iterative.sart import os_sart, sirt
from xrmflow.reconstruction.iterative.stopping import Stop
from xrmflow.reconstruction.iterative.tv import tv_fista, tv_pdhg
from xrmflow.reconstruction.iterative.variation import matched_strength, noise_level

BONE, MARROW = 2.0, 0.3  # attenuation, per mm


def bone():
    """Ellipsoids that add up to the object, for a field of view of 1 mm."""
    rng = np.random.default_rng(3)
    solid = {"turn_rad": 0.3, "centre_mm": (0.0, 0.0, 0.0)}
    bodies = [
        solid | {"semi_axes_mm": (0.42, 0.36, 9.0), "attenuation_per_mm": BONE},
        solid | {"semi_axes_mm": (0.32, 0.26, 9.0), "attenuation_per_mm": MARROW - BONE},
    ]
    for angle in np.arange(13) / 13 * 2 * np.pi:  # struts across the marrow
        reach = rng.uniform(0.05, 0.2)
        bodies.append(
            {
                "centre_mm": (reach * np.cos(angle), 0.8 * reach * np.sin(angle), rng.uniform(-0.05, 0.05)),
                "semi_axes_mm": (rng.uniform(0.05, 0.1), rng.uniform(0.012, 0.025), rng.uniform(0.06, 0.2)),
                "turn_rad": angle + rng.uniform(0.5, 2.0),
                "attenuation_per_mm": BONE - MARROW,
            }
        )
    for angle in np.linspace(0, 2 * np.pi, 14, endpoint=False):  # pores in the cortex
        x, y = 0.37 * np.cos(angle), 0.31 * np.sin(angle)
        centre = (x * np.cos(0.3) - y * np.sin(0.3), x * np.sin(0.3) + y * np.cos(0.3), rng.uniform(-0.03, 0.03))
        radius = rng.uniform(0.012, 0.025)
        bodies.append({"centre_mm": centre, "semi_axes_mm": (radius, radius, 0.12), "attenuation_per_mm": -BONE})
    return bodies


def simulated(options):
    """Geometry, the grid seen, the true volume on it, and noisy line integrals of the exact ones."""
    size, rows, voxel = options.size, max(options.size // 4, 4), 1.0 / options.size
    geometry = circular_cone(
        torch.linspace(0, 360, options.views + 1)[:-1],
        rows=rows,
        cols=size,
        pixel_mm=2 * voxel,
        source_to_axis_mm=10.0,
        source_to_detector_mm=20.0,
    )
    inner = VolumeGrid((rows, size, size), voxel)
    clean = sum(project_ellipsoid(geometry, **body) for body in bone())
    truth = sum(ellipsoid(inner, samples=3, **body) for body in bone()).float()
    random = torch.Generator().manual_seed(0)
    counts = torch.poisson(options.photons * torch.exp(-clean), generator=random).clamp(min=1)
    return geometry, inner, truth, -torch.log(counts / options.photons).float()


def methods_for(p, geometry, inner, grid, *, noise, strength, effort):
    """A call for each method, by its name."""
    weights = torch.exp(-p)  # a line integral counts as the photons that made it
    stop, often = Stop(noise=noise), lambda usual: max(2, round(effort * usual))
    scan = (p, geometry, grid)
    return {
        "FDK": lambda: fdk(p, geometry, inner),
        "FDK, Hann": lambda: fdk(p, geometry, inner, window="hann"),
        "CGLS": lambda: cgls(*scan, iterations=often(30), weights=weights, stop=stop),
        "SIRT": lambda: sirt(*scan, iterations=often(200), weights=weights, stop=stop),
        "OS-SART": lambda: os_sart(*scan, iterations=often(30), weights=weights, stop=stop),
        "TV (PDHG)": lambda: tv_pdhg(*scan, strength=strength, iterations=often(120), weights=weights),
        "TV (FISTA)": lambda: tv_fista(*scan, strength=strength, iterations=often(60), weights=weights),
    }


def compared(methods, truth, box):
    """Volumes and residuals by method, and a row of the table each: rounds, why it ended, seconds, quality."""
    volumes, curves, table, middle = {"truth": truth}, {}, [], len(truth) // 2
    for name, method in methods.items():
        begin = time.process_time()
        result = method()
        seconds = time.process_time() - begin
        direct = isinstance(result, torch.Tensor)
        volumes[name] = volume = result if direct else result.volume[box]
        curves[name] = [] if direct else result.residuals
        rounds = max(len(curves[name]) - (name != "OS-SART"), 0) or ""
        quality = psnr(volume, truth, data_range=BONE)
        similar = ssim(volume[middle], truth[middle], data_range=BONE)
        table.append((name, rounds, "" if direct else result.stopped_because, seconds, quality, similar))
    return volumes, curves, table


def main(arguments=None):
    """Reconstruct, print the table, draw the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=96, help="detector columns")
    parser.add_argument("--views", type=int, default=48)
    parser.add_argument("--photons", type=float, default=3000.0, help="a pixel, without the object")
    parser.add_argument("--effort", type=float, default=1.0, help="iterations, as a fraction of the usual")
    parser.add_argument("--out", type=Path, default=Path("docs/images/iterative_gallery.png"))
    options = parser.parse_args(arguments)
    geometry, inner, truth, p = simulated(options)
    grid, box = surrounding_grid(inner, geometry)  # rays also pass above and below the detector's height at the axis
    weights = torch.exp(-p)
    noise = noise_level(p, weights=weights)
    strength = matched_strength(p, geometry, grid, noise=noise, weights=weights)
    fdk(p, geometry, inner), sirt(p, geometry, grid, iterations=1)  # compiles the kernels
    methods = methods_for(p, geometry, inner, grid, noise=noise, strength=strength, effort=options.effort)
    volumes, curves, table = compared(methods, truth, box)
    true_noise = options.photons**-0.5
    print(f"noise of the line integrals {noise:.4f} (true {true_noise:.4f}), strength of TV {strength:.2e} mm")
    print("| method | rounds | ended by | CPU-seconds | PSNR, dB | SSIM, middle slice |\n|---|---|---|---|---|---|")
    for name, rounds, reason, seconds, quality, similar in table:
        print(f"| {name} | {rounds} | {reason} | {seconds:.2f} | {quality:.1f} | {similar:.3f} |")
    draw(volumes, curves, table, noise * p.numel() ** 0.5, options)


def draw(volumes, curves, table, level, options):
    """Middle slices above; how the residuals fall, and what it costs, below."""
    figure = plt.figure(figsize=(12, 8.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.75, 1))
    quality = {row[0]: row[4] for row in table}
    for axis, (name, volume) in zip(above.subplots(2, 4).flat, volumes.items(), strict=True):
        axis.imshow(volume[len(volume) // 2].numpy(), cmap="gray", vmin=-0.2, vmax=1.15 * BONE, interpolation="nearest")
        axis.set_title(f"{name}, {quality[name]:.1f} dB" if name in quality else name, fontsize=11)
        axis.set_axis_off()
    left, right = below.subplots(1, 2)
    shown = {name: curve for name, curve in curves.items() if curve}
    colours = dict(zip(shown, plt.get_cmap("tab10").colors, strict=False))
    for name, curve in shown.items():
        first = 1 if name == "OS-SART" else 0  # its residuals are met during a round
        left.loglog(np.arange(len(curve)) + first + 1, curve, label=name, color=colours[name])
    left.axhline(level, color="0.5", linestyle="--", label="noise")
    left.set(xlabel="round (1 is the start)", ylabel="weighted residual", title="How the residual falls")
    left.legend(fontsize=8, frameon=False)
    for name, _, _, seconds, value, _ in table:
        right.plot(seconds, value, "o", color=colours.get(name, "0.4"))
        place = (6, 4) if name not in ("SIRT", "TV (FISTA)") else (6, -12)
        right.annotate(name, (seconds, value), xytext=place, textcoords="offset points", fontsize=9)
    right.set(xscale="log", xlabel="CPU-seconds", ylabel="PSNR, dB", title="What it costs, what it gives")
    right.margins(x=0.2, y=0.15)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
