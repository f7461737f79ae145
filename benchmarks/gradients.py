"""What gradients to the geometry cost: CPU-seconds of the gradient over those of the forward transform; one JSON line.

python benchmarks/gradients.py --size 128 --views 64

For `project` (to the rays) and `backproject` (to the maps from voxels to pixels), on a circle and with the detector
tilted by 1 degree and each view shifted at random. The calls take turns; medians.
"""

import argparse
import json
import resource
import statistics

import torch

from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.perturbation import perturbed
from xrmflow.geometry.trajectories import circular_cone
from xrmflow.projectors import cpu, sensitivity
from xrmflow.projectors.setup import Setup


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    _ratios(32, 4, repeats=1)  # compiles the kernels
    ratios = _ratios(options.size, options.views, repeats=options.repeats)
    print(json.dumps(vars(options) | {"threads": torch.get_num_threads(), "gradient_over_forward": ratios}))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Cost of gradients to the geometry, one JSON line.")
    parser.add_argument("--size", type=int, default=128, help="voxels and detector pixels a side")
    parser.add_argument("--views", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args(arguments)


def _ratios(size: int, views: int, *, repeats: int) -> dict[str, dict[str, float]]:
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand((size,) * 3, generator=generator)
    projections = torch.rand((views, size, size), generator=generator)
    ratios = {}
    for name, setup in _setups(size, views).items():
        jobs = {
            "project": lambda setup=setup: cpu.project(volume, setup),
            "by_rays": lambda setup=setup: sensitivity.rays_gradient(volume, projections, setup),
            "backproject": lambda setup=setup: cpu.backproject(projections, setup),
            "by_maps": lambda setup=setup: sensitivity.maps_gradient(projections, volume, setup),
        }
        seconds = {job: [] for job in jobs}
        for _ in range(repeats):
            for job, run in jobs.items():
                before = _cpu_seconds()
                run()
                seconds[job].append(_cpu_seconds() - before)
        taken = {job: statistics.median(values) for job, values in seconds.items()}
        pairs = {"project": "by_rays", "backproject": "by_maps"}
        ratios[name] = {job: round(taken[gradient] / taken[job], 2) for job, gradient in pairs.items()}
    return ratios


def _setups(size: int, views: int) -> dict[str, Setup]:
    circle = circular_cone(
        torch.arange(views, dtype=torch.float64) * 360 / views + 0.1,
        rows=size,
        cols=size,
        pixel_mm=1.6,
        source_to_axis_mm=1000 * size / 256,
        source_to_detector_mm=1500 * size / 256,
    )
    jitter = torch.randn((views, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid = VolumeGrid((size, size, size), 1.0)
    return {"circle": Setup(circle, grid), "tilted": Setup(perturbed(circle, tilt_deg=1.0, shifts_px=jitter), grid)}


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
