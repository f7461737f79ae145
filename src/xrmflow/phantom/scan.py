"""A simulated scan: polychromatic cone-beam views of a bone, in a geometry the file will not quite admit to.

Rays run to 2 x 2 (`supersampling`) points of each pixel through a volume finer than the reconstruction. Photons are
attenuated energy by energy, intensities (not line integrals) are blurred and averaged over the pixel. Scatter and
refraction are not modelled, and the noise is that of counted photons, whatever their energy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from xrmflow.arrays import Track, untracked
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry, scan_geometry
from xrmflow.metrics.labels import OUTSIDE
from xrmflow.phantom.detector import Detector, DetectorRecipe, binned, blur, make_detector
from xrmflow.phantom.materials import Material, attenuation_per_mm
from xrmflow.phantom.object import Bone
from xrmflow.phantom.spectrum import DetectedSpectrum, detected_spectrum, monochromatic
from xrmflow.projectors.transform import project

OBJECT_FACTOR = 2
"""Voxels of the object along the edge of a voxel of the reconstruction."""
SUBPIXELS_AT_ONCE = 2**23
TABLE = (512, 64)
"""Steps of the table of transmissions: so fine that linear interpolation errs by less than 1e-6 up to a few mm."""


@dataclass(frozen=True)
class ScanRecipe:
    """How the bone is scanned: the one place for all of its parameters.

    Attributes:
        rows, cols, views: of the detector and the scan.
        voxel_um: size of a pixel at the rotation axis, micrometres.
        detector: counts, noise and faults.
        source_to_axis_mm, axis_to_detector_mm: mm.
        arc_deg: angular range; the last view lies one step before its end.
        tube_kv: tube voltage, kV; one of those in `tables/spectra.csv`.
        filters_mm: thickness of each filter, mm.
        scintillator_mm: thickness of the CsI scintillator, mm.
        source_fwhm_um: size of the focal spot, micrometres.
        detector_fwhm_px: the detector's point spread, pixels.
        centre_offset_px: column of the axis from the middle of the detector; the file does not record it.
        roll_deg: rotation of the detector in its plane; the file does not record it.
        shift_px: largest random shift of a view along rows and columns; the file records each.
        exposure_s: seconds a view.
        supersampling: rays along each edge of a pixel.
    """

    rows: int
    cols: int
    views: int
    voxel_um: float
    detector: DetectorRecipe
    source_to_axis_mm: float = 6.0
    axis_to_detector_mm: float = 9.0
    arc_deg: float = 360.0
    tube_kv: int = 30
    filters_mm: dict[Material, float] = field(default_factory=lambda: {"aluminium": 0.25})
    scintillator_mm: float = 0.2
    source_fwhm_um: float = 1.2
    detector_fwhm_px: float = 1.0
    centre_offset_px: float = 2.3
    roll_deg: float = 0.15
    shift_px: float = 3.0
    exposure_s: float = 2.0
    supersampling: int = 2

    def spectrum(self) -> DetectedSpectrum:
        """Of the open-beam signal."""
        return detected_spectrum(self.tube_kv, filters_mm=self.filters_mm, scintillator_mm=self.scintillator_mm)

    @property
    def blur_fwhm_px(self) -> float:
        """Detector and source blur together, pixels."""
        spread = self.axis_to_detector_mm / self.source_to_axis_mm * self.source_fwhm_um
        pixel = self.voxel_um * (1 + self.axis_to_detector_mm / self.source_to_axis_mm)
        return float(np.hypot(spread / pixel, self.detector_fwhm_px))


@dataclass(frozen=True)
class SimulatedScan:
    """A scan with its truth.

    Attributes:
        recipe: what was asked for.
        acquisition: the true geometry.
        counts: (view, row, col) uint16.
        flats, darks: (n, row, col) uint16.
        detector: the detector with its faults.
        line_integrals: (view, row, col) float32, noise-free, of monochromatic radiation at the effective energy,
            blurred as the counts are.
        effective_energy_kev: keV; see `DetectedSpectrum.effective_energy_kev`.
    """

    recipe: ScanRecipe
    acquisition: Acquisition
    counts: np.ndarray
    flats: np.ndarray
    darks: np.ndarray
    detector: Detector
    line_integrals: np.ndarray
    effective_energy_kev: float

    @property
    def nominal(self) -> Acquisition:
        """The geometry the file records: centred, upright, with the views' shifts."""
        return replace(self.acquisition, centre_px=(self.recipe.cols - 1) / 2, roll_deg=0.0)


def true_acquisition(recipe: ScanRecipe, rng: np.random.Generator) -> Acquisition:
    """The geometry in which the views are really taken."""
    magnification = 1 + recipe.axis_to_detector_mm / recipe.source_to_axis_mm
    shifts = rng.uniform(-recipe.shift_px, recipe.shift_px, (2, recipe.views)).astype(np.float32)
    # Files record single precision: the truth is what they can hold.
    angles = (np.arange(recipe.views) * (recipe.arc_deg / recipe.views)).astype(np.float32)
    return Acquisition(
        beam="cone",
        angles_deg=tuple(angles.tolist()),
        rows=recipe.rows,
        cols=recipe.cols,
        pixel_mm=recipe.voxel_um * 1e-3 * magnification,
        source_to_axis_mm=recipe.source_to_axis_mm,
        source_to_detector_mm=recipe.source_to_axis_mm + recipe.axis_to_detector_mm,
        centre_px=(recipe.cols - 1) / 2 + recipe.centre_offset_px,
        midplane_px=(recipe.rows - 1) / 2,
        roll_deg=recipe.roll_deg,
        shift_u_px=tuple(shifts[0].tolist()),
        shift_v_px=tuple(shifts[1].tolist()),
    )


def object_grid(recipe: ScanRecipe) -> VolumeGrid:
    """The scan's field of view in voxels `OBJECT_FACTOR` times finer than its own."""
    n = OBJECT_FACTOR
    return VolumeGrid((recipe.rows * n, recipe.cols * n, recipe.cols * n), recipe.voxel_um * 1e-3 / n)


def object_margin(recipe: ScanRecipe) -> int:
    """Slices of `object_grid` to add at each end so that no ray of any view leaves the object through them."""
    half = recipe.rows / 2 + recipe.shift_px
    flare = recipe.cols * recipe.voxel_um * 1e-3 / recipe.source_to_axis_mm
    tilt = recipe.cols / 2 * np.sin(np.deg2rad(abs(recipe.roll_deg)))
    return int(np.ceil(OBJECT_FACTOR * (half * (1 + flare) + tilt - recipe.rows / 2))) + 2


def simulate_scan(bone: Bone, recipe: ScanRecipe, *, seed: int, track: Track = untracked) -> SimulatedScan:
    """Scan a bone.

    Args:
        bone: the object, sampled at least as high as the field of view with `object_margin`.
        recipe: how.
        seed: of shifts, faults and noise; views draw from generators of their own, so blocks of views do not matter.
        track: shows progress.
    """
    acquisition = true_acquisition(recipe, np.random.default_rng([seed, 2]))
    detector = make_detector(recipe.detector, (recipe.rows, recipe.cols), np.random.default_rng([seed, 3]))
    spectrum = recipe.spectrum()
    energy = spectrum.effective_energy_kev(bone.recipe.mineral_fraction)
    counts = np.empty((recipe.views, recipe.rows, recipe.cols), np.uint16)
    line_integrals = np.empty(counts.shape, np.float32)
    for views, mineral, water in _paths(bone, acquisition, recipe, track):
        seen = _seen(mineral, water, spectrum, recipe)
        line_integrals[views] = -np.log(_seen(mineral, water, monochromatic(energy), recipe))
        for i in range(views.start, views.stop):
            rng = np.random.default_rng([seed, 4, i])
            counts[i] = detector.view(seen[i - views.start], i / recipe.views, rng)
    rng = np.random.default_rng([seed, 5])
    return SimulatedScan(
        recipe, acquisition, counts, detector.flats(rng), detector.darks(rng), detector, line_integrals, energy
    )


def transmission(mineral_mm: np.ndarray, water_mm: np.ndarray, spectrum: DetectedSpectrum) -> np.ndarray:
    """Share of the signal behind path lengths of hydroxyapatite and water, sum_E w(E) exp(-sum_m mu_m(E) t_m).

    Read off a table over both path lengths.

    Args:
        mineral_mm: float32 path lengths in hydroxyapatite, of any shape, mm.
        water_mm: the same in water, mm.
        spectrum: of the open-beam signal.

    Returns:
        float32 of that shape.
    """
    ranges = [np.linspace(t.min(), t.max() + 1e-6, n) for t, n in zip((mineral_mm, water_mm), TABLE, strict=True)]
    slopes = [attenuation_per_mm(m, spectrum.energies_kev) for m in ("hydroxyapatite", "water")]
    factors = [np.exp(-np.outer(t, slope)) for t, slope in zip(ranges, slopes, strict=True)]
    table = (factors[0] * spectrum.weights) @ factors[1].T
    places = [(t - r[0]) / (r[1] - r[0]) for t, r in zip((mineral_mm, water_mm), ranges, strict=True)]
    return map_coordinates(table, places, output=np.float32, order=1, mode="nearest")


def _paths(
    bone: Bone, acquisition: Acquisition, recipe: ScanRecipe, track: Track
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of views with the path lengths in hydroxyapatite and water of the rays to their sub-pixels, mm."""
    n = recipe.supersampling
    box, grid = _occupied(bone)
    mineral = torch.from_numpy(bone.mineral[box])
    size = max(1, SUBPIXELS_AT_ONCE // (recipe.rows * recipe.cols * n * n))
    starts = range(0, recipe.views, size)
    for start in track(starts, label="projecting the object"):
        views = slice(start, min(start + size, recipe.views))
        fine = _subdivided(acquisition.with_views(views), n)
        geometry = scan_geometry(fine)
        in_mineral = project(mineral, geometry, grid).numpy()
        yield views, in_mineral, _in_tissue(bone, geometry) - in_mineral


def _seen(mineral_mm: np.ndarray, water_mm: np.ndarray, spectrum: DetectedSpectrum, recipe: ScanRecipe) -> np.ndarray:
    """Transmission as blurred and averaged by the pixels."""
    fine = transmission(mineral_mm, water_mm, spectrum)
    return binned(blur(fine, recipe.blur_fwhm_px * recipe.supersampling), recipe.supersampling)


def _subdivided(acquisition: Acquisition, n: int) -> Acquisition:
    """The same detector in pixels n times smaller."""
    return replace(
        acquisition,
        rows=acquisition.rows * n,
        cols=acquisition.cols * n,
        pixel_mm=acquisition.pixel_mm / n,
        centre_px=acquisition.centre_px * n + (n - 1) / 2,
        midplane_px=acquisition.midplane_px * n + (n - 1) / 2,
        shift_u_px=tuple(n * s for s in acquisition.shift_u_px),
        shift_v_px=tuple(n * s for s in acquisition.shift_v_px),
    )


def _occupied(bone: Bone) -> tuple[tuple[slice, slice, slice], VolumeGrid]:
    """The box of the grid that holds bone, and the grid of that box."""
    inside = (bone.labels != OUTSIDE).any(axis=0)
    _, ny, nx = bone.grid.shape
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    y, x = slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(cols[0] - 1, 0), cols[-1] + 2)
    (y0, y1, _), (x0, x1, _) = y.indices(ny), x.indices(nx)
    centre = np.asarray(bone.grid.centre_mm) + bone.grid.voxel_mm * np.array(
        [(x0 + x1 - nx) / 2, (y0 + y1 - ny) / 2, 0]
    )
    grid = VolumeGrid((bone.grid.shape[0], y1 - y0, x1 - x0), bone.grid.voxel_mm, tuple(centre.tolist()))
    return (slice(None), y, x), grid


def _in_tissue(bone: Bone, geometry: ScanGeometry) -> np.ndarray:
    """Path lengths of the rays to all pixels in the soft tissue's outline, (view, row, col) float32, mm."""
    v = (torch.arange(geometry.rows, dtype=torch.float64) - (geometry.rows - 1) / 2)[:, None, None]
    u = (torch.arange(geometry.cols, dtype=torch.float64) - (geometry.cols - 1) / 2)[:, None]
    lengths = np.empty((geometry.views, geometry.rows, geometry.cols), np.float32)
    for i in range(geometry.views):
        pixels = geometry.detector[i] + v * geometry.v[i] + u * geometry.u[i]
        lengths[i] = bone.tissue.chord_mm(geometry.source[i].numpy(), pixels.numpy())
    return lengths
