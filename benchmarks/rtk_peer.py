"""The same tasks with RTK (itk-rtk), in a process of its own; started by benchmarks/projector.py.

python benchmarks/rtk_peer.py FOLDER: reads task.json, volume.npy and projections.npy there, writes the result
of each job, NAME.npy, and prints CPU seconds of each repeat as one JSON line. Needs only numpy and itk-rtk.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    try:
        import itk  # pyright: ignore[reportMissingImports]
        from itk import RTK as rtk  # pyright: ignore[reportMissingImports]
    except ImportError:
        sys.exit(f"itk-rtk is missing in {sys.executable}: pip install itk-rtk there, or name another --peer-python")
    task = json.loads((folder / "task.json").read_text())
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(task["threads"])
    kind = itk.Image[itk.F, 3]
    circle, tilted = (_geometry(rtk, task[name]) for name in ("circle", "tilted"))
    pixels, voxels = (*reversed(task["pixel_mm"]), 1.0), (task["voxel_mm"],) * 3
    projections = np.load(folder / "projections.npy"), pixels
    volume = _turned(np.load(folder / "volume.npy")), voxels
    no_volume, no_projections = (np.zeros(volume[0].shape), voxels), (np.zeros(projections[0].shape), pixels)
    jobs = {
        "backproject": (rtk.FDKBackProjectionImageFilter[kind, kind], no_volume, projections, circle),
        "fdk": (rtk.FDKConeBeamReconstructionFilter[kind], no_volume, projections, circle),
        "project": (rtk.JosephForwardProjectionImageFilter[kind, kind], no_projections, volume, circle),
        "adjoint": (rtk.JosephBackProjectionImageFilter[kind, kind], no_volume, projections, circle),
        "tilted": (rtk.FDKBackProjectionImageFilter[kind, kind], no_volume, projections, tilted),
    }
    seconds = {name: [] for name in jobs}
    for _ in range(task["repeats"]):
        for name, job in jobs.items():
            took, result = _run(itk, *job)
            seconds[name].append(took)
            if name != "project":
                result = _turned_back(result)
            np.save(folder / f"{name}.npy", result)
    version = itk.Version.GetITKVersion()
    print(json.dumps({"seconds": seconds, "itk": version}))


def _run(itk, kind, first, second, geometry):
    """CPU seconds of a filter made anew, and its result as an array.

    The images are made anew too: filters that work in place take the first one's memory.
    """
    images = [_image(itk, *given) for given in (first, second)]
    job = kind.New()
    for number, image in enumerate(images):
        job.SetInput(number, image)
    job.SetGeometry(geometry)
    before = _cpu_seconds()
    job.Update()
    took = _cpu_seconds() - before
    return took, itk.array_from_image(job.GetOutput())


def _cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _geometry(rtk, views):
    geometry = rtk.ThreeDCircularProjectionGeometry.New()
    for view in views:
        geometry.AddProjection(*view)
    return geometry


def _image(itk, array, spacing):
    """An image with its physical origin in its middle; views have no place of their own."""
    image = itk.image_from_array(np.ascontiguousarray(array, dtype=np.float32))
    image.SetSpacing(spacing)
    image.SetOrigin([-0.5 * (n - 1) * s for n, s in zip(reversed(array.shape), spacing, strict=True)])
    return image


def _turned(volume):
    """From our (z, y, x) to RTK's, whose y is our z and whose z is our -y."""
    return volume.transpose(1, 0, 2)[::-1]


def _turned_back(volume):
    return np.ascontiguousarray(volume[::-1].transpose(1, 0, 2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
