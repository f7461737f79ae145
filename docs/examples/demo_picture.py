"""The picture in the README: a slice of the demo's simulated bone before and after the networks, with what was found.

make demo
python docs/examples/demo_picture.py demo/results/bone docs/images/demo.png
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from xrmflow.io.stores import open_volume
from xrmflow.metrics.labels import BONE, LACUNA

TITLES = {"volume": "FDK", "denoised": "Noise2Inverse", "superres": "super-resolution", "found": "what is measured"}
OUTLINES = {BONE: "#f2a93b", LACUNA: "#4fc3f7"}


def main(scan: Path, picture: Path) -> None:
    """Draw the middle slice of each volume, and the outlines of bone and lacunae on the finest."""
    figure, panels = plt.subplots(1, 4, figsize=(12, 3.9), layout="constrained")
    for (name, title), panel in zip(TITLES.items(), panels, strict=True):
        volume = open_volume(scan / f"{'superres' if name == 'found' else name}.zarr")
        half_mm = volume.grid.voxel_mm * np.array(volume.grid.shape[1:]) / 2
        extent = (-half_mm[1] * 1e3, half_mm[1] * 1e3, -half_mm[0] * 1e3, half_mm[0] * 1e3)
        middle = volume.grid.shape[0] // 2
        panel.imshow(10 * volume.data[middle], cmap="gray", vmin=-5, vmax=26, extent=extent, origin="lower")
        panel.set(title=title, xlabel="µm", xticks=[-50, 0, 50], yticks=[])
        panel.set(xlim=(-95, 95), ylim=(-95, 95))
        if name == "found":
            labels = np.asarray(open_volume(scan / "bone" / "superres.zarr", "label").data[middle])
            for label, colour in OUTLINES.items():
                mask = labels == label
                panel.contour(mask, levels=[0.5], colors=colour, linewidths=1.2, extent=extent, origin="lower")
    figure.savefig(picture, dpi=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
