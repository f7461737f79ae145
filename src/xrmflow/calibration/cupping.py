"""Beam hardening corrected without calibration measurements: bone is as dense inside as outside.

The correction is p' = p + c_2 p^2 + ..., its slope at zero one, so that it leaves thin objects alone and maps line
integrals onto those of the energy a thin object sees; it never renormalises a scan. With the basis volumes
V_i = FDK(p^i) the corrected volume is V_1 + c_2 V_2 + ... Hardening darkens bone that only hardened rays reach. How
much, up to a factor, is known without noise from the segmented bone itself: Z_i = FDK((A m)^i), m the bone mask at its
mean value (with smoothed surroundings), A the projector. The coefficients are those for which the corrected grey value
of bone does not follow Z:

    sum over bone voxels of (Z_j - <Z_j>_d) (V_1 + sum_i c_i V_i - <...>_d) = 0,   j = 2 ... degree

with <.>_d the mean over bone voxels of the same depth d below the surface, so that partial volumes and the blur of
edges cancel. It is an instrumental-variable estimate: noise in V_i, however strong, does not bias it, as it would bias
a fit of V_1 to V_2 or an entropy. Histogram entropy, scaled to the mean of bone, was tried first: with soft tissue
around the bone it falls without end as c_2 grows, for bone then outshines whatever else there is; the entropy of the
logarithm failed likewise.

The statistical uncertainty is that of left-out parts (jackknife), clustered two ways: sectors of the specimen share
its structure, blocks of slices share rings. Rings go all the way round: sectors alone understate them, by half in
small bones at 1,000 counts. Not in there is bone that really is denser outside, which no slice tells from hardening:
it is added as what a density difference of 1 % between the outer and the inner third would do. (Measured: mineral
that varies by 2 % in small simulated bones gave 0.8 to 1.1 %, and a third of the coefficient.) Where it is much more,
sums over slices tell (`xrmflow.calibration.totals`): a fit is refused of which they ask for less than half, or more
than twice.

What it cannot see: hardening by soft tissue that is the same for all bone (thick soft tissue it corrects too much, see
`xrmflow.calibration.materials`), and what a polynomial of this degree cannot follow. Measured with settings frozen on
24 simulated bones of unseen shape (40 to 80 kV, 10,000 counts, mineral varying by 2 %; bone 23 to 50 % too dark):
outer/inner difference of bone down by 89 to 100 %, median 98; mean attenuation of bone within 6 % of the monochromatic
truth, median 2.7 % too low; monochromatic scans unchanged. The scatter is mostly bone that really is denser outside or
inside; scans that share a protocol average it out (94 to 100 %, see `xrmflow.calibration.protocol`). More in
docs/benchmarks.md. Degree 3 is too uncertain at these sizes: it needs more slices, or more scans.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader
from xrmflow.calibration.basis import Slab, load_slab
from xrmflow.calibration.bone import (
    AIR_SHARE,
    LEAST_DEPTH,
    LEAST_VOXELS,
    bone_depth,
    goes_on_beyond,
    sectors_of,
    segment_bone,
    smoothing_for,
)
from xrmflow.calibration.homogeneity import System
from xrmflow.calibration.judgement import judge
from xrmflow.calibration.totals import Totals
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk
from xrmflow.reconstruction.weights import limited_arc_deg

# Each half of them, whose difference is the noise, must make a slice.
LEAST_VIEWS = 4
# Why scans are refused by fits of one material and of two, and by a wedge.
NO_NUMBERS = "line integrals that are no finite numbers"
GOES_ON = "bone goes on beyond the field of view, and hardens rays there too"


@dataclass(frozen=True)
class CuppingFit:
    """Result of `fit_cupping`.

    Attributes:
        coefficients: 1, c_2, ... to be used: (1, 0, ...) when the fit is not trusted.
        found: 1, c_2, ... as fitted.
        uncertainty: one standard deviation of c_2, ..., everything included.
        applied: whether the correction changes anything.
        trusted: whether the fit could be believed; a scan without hardening is believed and left alone.
        message: why, or why not.
        loss: squared inhomogeneity of bone along Z before and after, relative to its mean squared.
        grey_difference_before: (outer - inner) / mean grey value of bone, outer and inner being the thirds of least and
            most Z.
        grey_difference_after: the same after the correction.
        smoothing_px: used for the segmentation.
        statistical: the part of the uncertainty that more and better data would lessen.
        pictures: small arrays by name: before, after (y, x); radius_mm, profile_before, profile_after (r,); and powers
            (degree, y, x), profile_powers (degree, r), of which other coefficients make an "after".
        largest: line integral of the scan, leaving out the rarest 1 in 10,000.
        system: the equations that were solved; None where there was nothing like bone.
        totals: what it is checked against; None where slices are not seen as a whole.
        source: what it was fitted to, in words.
    """

    coefficients: tuple[float, ...]
    found: tuple[float, ...]
    uncertainty: tuple[float, ...]
    applied: bool
    trusted: bool
    message: str
    loss: tuple[float, ...] = ()
    grey_difference_before: float | None = None
    grey_difference_after: float | None = None
    smoothing_px: float | None = None
    statistical: tuple[float, ...] = ()
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    largest: float = 0.0
    system: System | None = None
    totals: Totals | None = None
    source: str = "the scan itself"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the pictures."""
        return {
            "coefficients": list(self.coefficients),
            "found": list(self.found),
            "uncertainty": list(self.uncertainty),
            "statistical_uncertainty": list(self.statistical),
            "applied": self.applied,
            "trusted": self.trusted,
            "message": self.message,
            "source": self.source,
            "loss": {"name": "inhomogeneity of bone", "evaluations": list(self.loss)},
            "grey_difference_before": self.grey_difference_before,
            "grey_difference_after": self.grey_difference_after,
            "smoothing_px": self.smoothing_px,
        }


def unchanged(message: str, *, degree: int = 2, trusted: bool = False, largest: float = 0.0) -> CuppingFit:
    """A fit that leaves the data alone."""
    nothing = (1.0, *[0.0] * (degree - 1))
    return CuppingFit(nothing, nothing, (), applied=False, trusted=trusted, message=message, largest=largest)


def fit_cupping(
    projections: Reader,
    acquisition: Acquisition,
    *,
    degree: int = 2,
    slices: int = 48,
    smoothing_px: float | None = None,
    device: torch.device | str = "cpu",
) -> CuppingFit:
    """Fit the beam-hardening correction to the scan itself, on a slab of slices.

    Args:
        projections: (view, row, col) line integrals, dimensionless.
        acquisition: calibrated geometry.
        degree: of the polynomial.
        slices: how many slices around the middle are used.
        smoothing_px: sigma of the smoothing before bone is segmented, voxels; None chooses it from the noise.
        device: where slices are reconstructed.

    Raises:
        ValueError: projections of another shape than the acquisition, a degree below two, no slices, a smoothing below
            zero.
    """
    if degree < 2:
        raise ValueError(f"degree: expected at least 2, got {degree}")
    if smoothing_px is not None and not smoothing_px >= 0:
        raise ValueError(f"smoothing_px: expected at least 0, got {smoothing_px}")
    slab = load_slab(projections, acquisition, degree=degree, slices=slices, device=device)
    if not slab.is_finite():
        return unchanged(f"{NO_NUMBERS}: data left unchanged", degree=degree)
    if slab.geometry.views < LEAST_VIEWS:
        text = f"{slab.geometry.views} views are too few to tell hardening from streaks: data left unchanged"
        return unchanged(text, degree=degree, largest=slab.largest)
    arc_deg = limited_arc_deg(slab.geometry)
    if arc_deg is not None:
        text = f"views span {arc_deg:.0f} degrees, too little to tell hardening from what is missing"
        return unchanged(f"{text}: data left unchanged", degree=degree, largest=slab.largest)
    basis = slab.basis().cpu().numpy()
    smoothing = smoothing_for(slab) if smoothing_px is None else smoothing_px
    segmented = segment_bone(basis[0], smoothing_px=smoothing)
    if segmented is None:
        text = "nothing like bone stands out of the slices: data left unchanged"
        return unchanged(text, degree=degree, largest=slab.largest)
    bone, surroundings = segmented
    depth = bone_depth(bone)
    chosen = depth >= LEAST_DEPTH
    if slab.is_cut_off() and goes_on_beyond(bone):
        return unchanged(f"{GOES_ON}: data left unchanged", degree=degree, largest=slab.largest)
    if chosen.sum() < LEAST_VOXELS:
        text = f"only {chosen.sum()} voxels of bone are {LEAST_DEPTH} voxels below its surface: data left unchanged"
        return unchanged(text, degree=degree, largest=slab.largest)
    modelled = model_integrals(basis[0], bone, surroundings, slab)
    shape = instruments(modelled, slab, degree=degree)
    system = System.of(basis, shape, depth, chosen, sectors_of(bone))
    return _conclude(system, Totals.of(slab, modelled), basis, chosen, shape, slab, smoothing)


def object_model(bone: np.ndarray, surroundings: np.ndarray, level: float) -> np.ndarray:
    """(z, y, x) bone at one level, the smoothed volume around it, nothing where that is next to nothing."""
    return np.where(bone, level, np.where(surroundings > AIR_SHARE * level, surroundings, 0.0)).astype(np.float32)


def model_integrals(volume: np.ndarray, bone: np.ndarray, surroundings: np.ndarray, slab: Slab) -> Tensor:
    """A m: (view, row, col) line integrals of bone at its mean value and of its smoothed surroundings, free of noise.

    Args:
        volume: (z, y, x) attenuation per mm.
        bone: (z, y, x) bool.
        surroundings: (z, y, x) smoothed volume, taken outside of bone.
        slab: geometry and grid.
    """
    return extended_integrals(object_model(bone, surroundings, float(volume[bone].mean())), slab)


def extended_integrals(volume: np.ndarray, slab: Slab) -> Tensor:
    """(view, row, col) line integrals of a slab (z, y, x) that goes on as it ends: rays of the outer views leave it."""
    spare = slab.geometry.rows // 2 + 2
    tall = np.pad(volume.astype(np.float32), ((spare, spare), (0, 0), (0, 0)), mode="edge")
    grid = VolumeGrid(tall.shape, slab.grid.voxel_mm, slab.grid.centre_mm)
    return project(torch.from_numpy(tall).to(slab.powers.device), slab.geometry, grid)


def instruments(modelled: Tensor, slab: Slab, *, degree: int) -> np.ndarray:
    """Z_i = FDK((A m)^i) for i = 2 ... degree: what hardening does to this bone, free of noise and up to a factor.

    Args:
        modelled: (view, row, col) A m, as `model_integrals` gives it.
        slab: geometry and grid.
        degree: of the polynomial.

    Returns:
        (degree - 1, z, y, x).
    """
    return np.stack([fdk(modelled**i, slab.geometry, slab.grid).cpu().numpy() for i in range(2, degree + 1)])


def _conclude(
    system: System,
    totals: Totals | None,
    basis: np.ndarray,
    chosen: np.ndarray,
    shape: np.ndarray,
    slab: Slab,
    smoothing: float,
) -> CuppingFit:
    found, statistical, density = system.solve(), system.statistical(), system.of_density()
    coefficients = (1.0, *(float(c) for c in found))
    applied, trusted, message = judge(coefficients, statistical, density, slab.largest, totals)
    used = coefficients if applied else (1.0, *[0.0] * len(found))
    before, after = basis[0], np.tensordot(np.asarray(used, np.float32), basis, axes=1)
    return CuppingFit(
        coefficients=used,
        found=coefficients,
        uncertainty=tuple(float(e) for e in np.hypot(statistical, density)),
        statistical=tuple(float(e) for e in statistical),
        applied=applied,
        trusted=trusted,
        message=message,
        loss=(1.0, system.inhomogeneity(np.asarray(used[1:]))),
        grey_difference_before=_grey_difference(before, shape[0], chosen),
        grey_difference_after=_grey_difference(after, shape[0], chosen),
        smoothing_px=smoothing,
        pictures=pictures(basis, used, chosen, slab.grid.voxel_mm),
        largest=slab.largest,
        system=system,
        totals=totals,
    )


def _grey_difference(volume: np.ndarray, shape: np.ndarray, chosen: np.ndarray) -> float:
    """(outer - inner) / mean of bone, outer where rays through the voxel are hardened least."""
    low, high = np.quantile(shape[chosen], (1 / 3, 2 / 3))
    outer, inner = volume[chosen & (shape <= low)].mean(), volume[chosen & (shape >= high)].mean()
    return float((outer - inner) / volume[chosen].mean())


def pictures(
    basis: np.ndarray, coefficients: tuple[float, ...], chosen: np.ndarray, voxel_mm: float
) -> dict[str, np.ndarray]:
    """The middle slice and the mean grey value of bone against the distance from the axis, of every power.

    Args:
        basis: (degree, z, y, x) reconstruction of each power.
        coefficients: 1, c_2, ... of the correction that is shown.
        chosen: (z, y, x) bool, bone.
        voxel_mm: edge of a voxel.
    """
    size = basis.shape[-1]
    x = np.arange(size) - (size - 1) / 2
    ring = np.broadcast_to(np.hypot(x[:, None], x[None]).astype(int), chosen.shape)[chosen]
    count = np.bincount(ring)
    seen = np.flatnonzero(count >= 30)
    profiles = np.stack([np.bincount(ring, volume[chosen].astype(float))[seen] / count[seen] for volume in basis])
    slices = basis[:, basis.shape[1] // 2].astype(np.float32)
    used = np.asarray(coefficients)
    return {
        "before": slices[0],
        "after": np.tensordot(used.astype(np.float32), slices, axes=1),
        "radius_mm": (seen + 0.5) * voxel_mm,
        "profile_before": profiles[0],
        "profile_after": used @ profiles,
        "powers": slices,
        "profile_powers": profiles,
    }
