"""Scenes that the correction of beam hardening was not made for: is any made worse, or a wrong fit trusted.

Each scene is a plane of some materials that is the same in all rows, scanned with photon noise and whatever else its
line in `SCENES` names, in its true geometry. The correction is fitted to the noisy scan and judged on the noise-free
one, against the monochromatic scan of what a thin layer of each material attenuates:

- error: rms difference from that reference after the best scale, relative to the rms of the reference, over voxels of
  the object that lie three voxels from any edge;
- densest: error of the mean of the densest material, without a scale;
- verdict: "corrected" (error smaller), "made worse" (larger), or "left alone" (not applied).
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from calibration_objects import (
    BONE,
    COLS,
    FINER,
    SIZE,
    Parts,
    bone,
    bone_like,
    denser_cortex,
    disc,
    in_tube,
    pinned,
    plain,
    ring,
    rock,
    rods,
    root,
    three_bones,
    tooth,
    tube,
    walnut,
    young_struts,
)
from scipy.ndimage import gaussian_filter1d, maximum_filter, minimum_filter

from xrmflow.calibration.cupping import fit_cupping
from xrmflow.calibration.polynomial import linearise
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import scan_geometry
from xrmflow.phantom.materials import Material, attenuation_per_mm
from xrmflow.phantom.spectrum import DetectedSpectrum, detected_spectrum
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk

ROWS = 12
VERDICTS = ("corrected", "left alone", "made worse")


@dataclass(frozen=True)
class Scene:
    """An object and how it is scanned.

    Attributes:
        parts: what it is made of.
        width_mm: of the field of view.
        kv: tube voltage; None for the monochromatic scan of the same object.
        aluminium_mm: filter.
        counts: open-beam photons per pixel and view.
        views, arc_deg, beam, centre_px: the scan; the centre relative to the middle of the detector.
        scatter: constant that is added, share of the open beam.
        saturation: share of the open beam beyond which the detector sees no more.
        lag: share of a view that the next one still shows.
        rings: standard deviation of the pixels' error, line integral.
        glare: share of the signal that is spread over a tenth of the detector.
        edges: overshoot at edges: share of what a blur of one pixel takes away that is added, as phase contrast does.
        drift: relative amplitude of a slow change of the beam, twice per scan.
        linearised_for: material for which the vendor has linearised the scan.
    """

    parts: Callable[[], Parts]
    width_mm: float = 2.6
    kv: int | None = 60
    aluminium_mm: float = 0.5
    counts: float = 1e4
    views: int = 240
    arc_deg: float = 360.0
    beam: str = "cone"
    centre_px: float = 0.7
    scatter: float = 0.0
    saturation: float = 0.0
    lag: float = 0.0
    rings: float = 0.0
    glare: float = 0.0
    edges: float = 0.0
    drift: float = 0.0
    linearised_for: Material | None = None

    def spectrum(self) -> DetectedSpectrum:
        """What the detector sees of the tube; a monochromatic scan is one at what thin layers attenuate in it."""
        return detected_spectrum(self.kv or 60, filters_mm={"aluminium": self.aluminium_mm})

    def acquisition(self, rows: int) -> Acquisition:
        """The scan with so many rows."""
        voxel = self.width_mm / COLS
        angles = tuple(np.linspace(0, self.arc_deg, self.views, endpoint=False).tolist())
        distances = (None, None) if self.beam == "parallel" else (80 * self.width_mm, 200 * self.width_mm)
        pixel = voxel if self.beam == "parallel" else 2.5 * voxel
        centre = (COLS - 1) / 2 + self.centre_px
        return Acquisition(self.beam, angles, rows, COLS, pixel, *distances, centre, (rows - 1) / 2)  # type: ignore[arg-type]


SCENES = {
    "bone": Scene(bone),
    "bone, monochromatic": Scene(bone, kv=None),
    "bone, linearised for water": Scene(bone, linearised_for="water"),
    "bone, off centre": Scene(lambda: bone(0.2, -0.15)),
    "bone, 2,000 photons": Scene(bone, counts=2e3),
    "bone, a million photons": Scene(bone, counts=1e6),
    "bone, 60 views": Scene(bone, views=60),
    "bone, short scan": Scene(bone, arc_deg=200.0),
    "bone, offset detector": Scene(lambda: bone(0.0, 0.0), centre_px=25.0),
    "bone, parallel beam": Scene(bone, beam="parallel", arc_deg=180.0),
    "bone, scatter 2 %": Scene(bone, scatter=0.02),
    "bone, scatter 10 %": Scene(bone, scatter=0.10),
    "bone, monochromatic, scatter 5 %": Scene(bone, kv=None, scatter=0.05),
    "bone, detector saturated at 90 %": Scene(bone, saturation=0.9),
    "bone, monochromatic, saturated at 80 %": Scene(bone, kv=None, saturation=0.8),
    "bone, lag 3 %": Scene(bone, lag=0.03),
    "bone, rings": Scene(bone, rings=0.02),
    "bone, thick": Scene(bone, kv=40, width_mm=9.0, counts=1e5),
    "bone in a water tube": Scene(lambda: in_tube("water", 1.0), width_mm=8.0),
    "bone in 70 % ethanol": Scene(lambda: in_tube("water", 0.86), width_mm=8.0),
    "three bones in water": Scene(lambda: three_bones("water", 1.0), width_mm=6.0),
    "three bones in air": Scene(lambda: three_bones("water", 0.0), width_mm=6.0),
    "three bones in water, monochromatic": Scene(lambda: three_bones("water", 1.0), width_mm=6.0, kv=None),
    "bone with a copper pin": Scene(lambda: pinned("copper", 0.06)),
    "bone with an aluminium pin": Scene(lambda: pinned("aluminium", 0.1)),
    "bone, tissue truncated": Scene(lambda: bone_like(BONE * tube(), disc(0, 0, 1.3))),
    "bone, tissue truncated, monochromatic": Scene(lambda: bone_like(BONE * tube(), disc(0, 0, 1.3)), kv=None),
    "bone, itself truncated, monochromatic": Scene(lambda: bone_like(BONE * tube(size=1.9), disc(0, 0, 1.4)), kv=None),
    "bone 2 % denser outside, monochromatic": Scene(lambda: denser_cortex(0.02), kv=None),
    "bone 5 % denser outside, monochromatic": Scene(lambda: denser_cortex(0.05), kv=None),
    "round bone 5 % denser outside, monochromatic": Scene(ring, kv=None),
    "bone 15 % denser inside": Scene(lambda: denser_cortex(-0.15)),
    "bone 30 % denser inside": Scene(lambda: denser_cortex(-0.3)),
    "bone with a thick copper pin": Scene(lambda: pinned("copper", 0.2)),
    "bone beyond an offset detector's slice, monochromatic": Scene(lambda: bone(0.6, 0.0), centre_px=40.0, kv=None),
    "bone in a wide offset scan": Scene(lambda: bone_like(BONE * tube(size=1.6), disc(0, 0, 1.2)), centre_px=50.0),
    "bone in a wide offset scan, monochromatic": Scene(
        lambda: bone_like(BONE * tube(size=1.6), disc(0, 0, 1.2)), centre_px=50.0, kv=None
    ),
    "bone, monochromatic, glare 10 %": Scene(bone, kv=None, glare=0.1),
    "bone, monochromatic, bright edges": Scene(bone, kv=None, edges=1.0),
    "bone, bright edges": Scene(bone, edges=1.0),
    "bone, monochromatic, beam drifts by 2 %": Scene(bone, kv=None, drift=0.02),
    "bone, beam drifts by 2 %": Scene(bone, drift=0.02),
    "bone, monochromatic, 200 photons": Scene(bone, kv=None, counts=200.0),
    "aluminium oval, starved of photons, monochromatic": Scene(
        lambda: plain("aluminium", across=0.45), width_mm=20.0, kv=None, counts=2e3
    ),
    "bone 5 % denser outside": Scene(lambda: denser_cortex(0.05)),
    "bone 5 % denser inside": Scene(lambda: denser_cortex(-0.05)),
    "struts 8 % less dense, monochromatic": Scene(lambda: young_struts(0.08), kv=None),
    "struts 8 % less dense": Scene(lambda: young_struts(0.08)),
    "water cylinder": Scene(lambda: plain("water"), width_mm=25.0, kv=40),
    "water cylinder, monochromatic": Scene(lambda: plain("water"), width_mm=25.0, kv=None),
    "aluminium disc": Scene(lambda: plain("aluminium"), width_mm=8.0),
    "aluminium disc, off centre": Scene(lambda: plain("aluminium", 0.2), width_mm=8.0),
    "aluminium oval": Scene(lambda: plain("aluminium", across=0.45), width_mm=8.0),
    "aluminium disc, monochromatic": Scene(lambda: plain("aluminium"), width_mm=8.0, kv=None),
    "rods in resin": Scene(rods, width_mm=8.0),
    "rods in resin, monochromatic": Scene(rods, width_mm=8.0, kv=None),
    "tooth": Scene(tooth, width_mm=6.0, kv=80),
    "tooth, monochromatic": Scene(tooth, width_mm=6.0, kv=None),
    "root of a tooth": Scene(root, width_mm=6.0, kv=80),
    "root of a tooth, monochromatic": Scene(root, width_mm=6.0, kv=None),
    "walnut": Scene(walnut, width_mm=40.0, kv=40),
    "walnut, monochromatic": Scene(walnut, width_mm=40.0, kv=None),
    "rock": Scene(rock, width_mm=8.0, kv=80),
    "rock, monochromatic": Scene(rock, width_mm=8.0, kv=None),
}


@dataclass(frozen=True)
class Scan:
    """What was measured.

    Attributes:
        noisy, exact, true: line integrals as measured (view, row, col), without noise and monochromatic (view, 1, col).
        attenuation: (y, x) of the object, per mm.
    """

    noisy: np.ndarray
    exact: np.ndarray
    true: np.ndarray
    attenuation: np.ndarray


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of this part."""
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--only", default="", help="scenes whose name holds this")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every scene."""
    found = {}
    for name, scene in SCENES.items():
        if options.only in name:
            found[name] = judged(scene, options.seed)
    verdicts = [figures["verdict"] for figures in found.values()]
    return {"verdicts": {verdict: verdicts.count(verdict) for verdict in VERDICTS}, "scenes": found}


def scanned(scene: Scene, seed: int) -> Scan:
    """Scan it."""
    spectrum = scene.spectrum()
    parts = scene.parts()
    lengths: Parts = {name: _lengths(part, scene) for name, part in parts.items()}
    per_mm: Parts = {name: attenuation_per_mm(name, spectrum.energies_kev) for name in parts}
    thin: dict[Material, float] = {name: float(spectrum.weights @ mu) for name, mu in per_mm.items()}
    true = _weighted(thin, lengths)
    seen = np.exp(-true) if scene.kv is None else _transmitted(spectrum, per_mm, lengths)
    seen = _spoilt(seen, scene)
    rng = np.random.default_rng([seed, 5])
    counts = np.maximum(rng.poisson(scene.counts * np.repeat(seen, ROWS, axis=1)), 1)
    gain = scene.rings * rng.standard_normal((1, ROWS, COLS))
    noisy, exact = -np.log(counts / scene.counts) + gain, -np.log(seen)
    if scene.linearised_for:
        curve = _linearising(spectrum, scene.linearised_for)
        noisy, exact = curve(noisy), curve(exact)
    plane = _weighted(thin, parts)
    return Scan(*(a.astype(np.float32) for a in (noisy, exact, true, plane)))


def _transmitted(spectrum: DetectedSpectrum, per_mm: Parts, lengths: Parts) -> np.ndarray:
    seen = np.zeros_like(next(iter(lengths.values())))
    for k, weight in enumerate(spectrum.weights):
        at_energy: dict[Material, float] = {name: float(mu[k]) for name, mu in per_mm.items()}
        seen += weight * np.exp(-_weighted(at_energy, lengths))
    return seen


def _weighted(per_mm: Mapping[Material, float], parts: Parts) -> np.ndarray:
    return np.sum([per_mm[name] * part for name, part in parts.items()], axis=0)


def _spoilt(seen: np.ndarray, scene: Scene) -> np.ndarray:
    """Transmission as the detector shows it."""
    seen = (seen + scene.scatter) if scene.scatter else seen
    seen = np.minimum(seen, scene.saturation) if scene.saturation else seen
    if scene.glare:
        seen = (1 - scene.glare) * seen + scene.glare * gaussian_filter1d(seen, COLS / 10, axis=2, mode="nearest")
    if scene.edges:
        smooth = gaussian_filter1d(seen, 1.0, axis=2, mode="nearest")
        seen = seen + scene.edges * (seen - smooth)
    if scene.drift:
        seen = seen * (1 + scene.drift * np.sin(np.linspace(0, 4 * np.pi, len(seen)))[:, None, None])
    return (1 - scene.lag) * seen + scene.lag * np.roll(seen, 1, axis=0) if scene.lag else seen


def _linearising(spectrum: DetectedSpectrum, material: Material) -> Callable[[np.ndarray], np.ndarray]:
    mu = attenuation_per_mm(material, spectrum.energies_kev)
    thickness = np.linspace(-1, 300, 6000)
    measured = -np.log(np.exp(-mu[None] * thickness[:, None]) @ spectrum.weights)
    return lambda p: np.interp(p, measured, (spectrum.weights @ mu) * thickness)


def _lengths(part: np.ndarray, scene: Scene) -> np.ndarray:
    """(view, 1, col) path in a material, mm."""
    voxel = scene.width_mm / COLS / FINER
    volume = torch.from_numpy(np.repeat(part[None].astype(np.float32), 5, axis=0))
    return (
        project(volume, scan_geometry(scene.acquisition(1)), VolumeGrid((5, SIZE, SIZE), voxel)).numpy().astype(float)
    )


def judged(scene: Scene, seed: int) -> dict[str, Any]:
    """Figures of a scene."""
    scan = scanned(scene, seed)
    fit = fit_cupping(scan.noisy, scene.acquisition(ROWS))
    before, after, true = (
        _slice(p, scene)
        for p in (scan.exact, linearise(torch.from_numpy(scan.exact), fit.coefficients).numpy(), scan.true)
    )
    trial = _slice(linearise(torch.from_numpy(scan.exact), fit.found).numpy(), scene)
    inside, densest = _regions(scan.attenuation)
    errors = [_error(volume[inside], true[inside]) for volume in (before, after, trial)]
    return {
        "verdict": ("corrected" if errors[1] < errors[0] else "made worse") if fit.applied else "left alone",
        "trusted": fit.trusted,
        "largest": round(fit.largest, 2),
        "error_before_percent": round(errors[0], 2),
        "error_after_percent": round(errors[1], 2),
        "error_if_applied_percent": round(errors[2], 2),
        "densest_before_percent": round(100 * float(before[densest].mean() / true[densest].mean() - 1), 1),
        "densest_after_percent": round(100 * float(after[densest].mean() / true[densest].mean() - 1), 1),
        "message": fit.message,
    }


def _slice(p: np.ndarray, scene: Scene) -> np.ndarray:
    acquisition = scene.acquisition(3)
    grid = VolumeGrid((1, COLS, COLS), acquisition.voxel_mm)
    return fdk(torch.from_numpy(np.repeat(p, 3, axis=1)), scan_geometry(acquisition), grid).numpy()[0]


def _regions(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) voxels of the object far from edges, and those of the densest material among them."""
    spare = (SIZE - COLS * FINER) // 2
    seen = plane[spare:-spare, spare:-spare]
    reach = 6 * FINER + 1
    even = maximum_filter(seen, reach) - minimum_filter(seen, reach) < 0.06 * seen
    inside = (even & (seen > 0.01 * seen.max()))[::FINER, ::FINER]
    x = (np.arange(COLS) - (COLS - 1) / 2) / (COLS / 2)
    inside &= np.hypot(x, x[:, None]) < 0.93
    level = seen[::FINER, ::FINER]
    return inside, inside & (level > 0.8 * level[inside].max())


def _error(volume: np.ndarray, true: np.ndarray) -> float:
    scale = (volume * true).sum() / (volume**2).sum()
    return 100 * float(np.sqrt(((scale * volume - true) ** 2).mean() / (true**2).mean()))
