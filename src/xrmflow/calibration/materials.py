"""Beam hardening of bone in thick soft tissue: one coefficient for each of two materials.

A polynomial of the line integral alone corrects soft tissue as if it hardened like bone. It hardens less, so that what
makes bone even makes thick soft tissue too bright. With the line integral of bone alone, p_b, known from the segmented
bone of the first reconstruction,

    p' = p + p (c_b p_b + c_s (p - p_b))

corrects each for itself; with c_s = c_b it is the polynomial of degree two. The slope at zero is one. It is linear in
the coefficients, so that each term is reconstructed once, and they solve the same equations as one material does
(`xrmflow.calibration.cupping`): bone as bright inside as outside at equal depth, with instruments

    Z_b = FDK(A m A m_b),  Z_s = FDK(A m (A m - A m_b)),

m the segmented volume and m_b its bone, free of noise. Source of the form: Kyriakou et al., Med. Phys. 37, 5179 (2010);
of the split by materials: Joseph & Spital, J. Comput. Assist. Tomogr. 2, 100 (1978).

It needs p_b for every ray. That means segmenting and projecting the whole first volume, not the slab that the
coefficients are fitted on: the workflow does not do so yet, and its stages correct one material.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xrmflow.arrays import Reader
from xrmflow.calibration.basis import Slab, load_slab
from xrmflow.calibration.bone import (
    LEAST_DEPTH,
    LEAST_VOXELS,
    bone_depth,
    goes_on_beyond,
    sectors_of,
    segment_bone,
    smoothing_for,
)
from xrmflow.calibration.cupping import GOES_ON, LEAST_VIEWS, NO_NUMBERS, extended_integrals, object_model
from xrmflow.calibration.homogeneity import System
from xrmflow.calibration.judgement import DENSITY_SIGNIFICANCE, LARGEST_EFFECT, LEAST_EFFECT, SIGNIFICANCE
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.projectors.transform import project
from xrmflow.reconstruction.fdk import fdk
from xrmflow.reconstruction.weights import limited_arc_deg


@dataclass(frozen=True)
class TwoMaterialFit:
    """Result of `fit_two_materials`.

    Attributes:
        coefficients: c_b, c_s to be used: zeros when the fit is not trusted.
        found: c_b, c_s as fitted.
        uncertainty: one standard deviation of each, noise and a real difference of density included.
        applied: whether the correction changes anything.
        message: why, or why not.
        bone_per_mm: attenuation that segmented bone is given for p_b, per mm.
    """

    coefficients: tuple[float, float]
    found: tuple[float, float]
    uncertainty: tuple[float, float]
    applied: bool
    message: str
    bone_per_mm: float


def correct_two_materials(line_integrals: Tensor, bone: Tensor, coefficients: tuple[float, float] | Tensor) -> Tensor:
    """Corrected line integrals p' = p + p (c_b p_b + c_s (p - p_b)).

    Args:
        line_integrals: p, any shape, dimensionless; gradients flow to them.
        bone: p_b, the same shape: line integrals of bone alone.
        coefficients: c_b and c_s, numbers or a tensor (gradients flow to it too).

    Raises:
        ValueError: other than two coefficients.
    """
    if len(coefficients) != 2:
        raise ValueError(f"coefficients: expected two, of bone and of soft tissue, got {len(coefficients)}")
    return line_integrals * (1 + coefficients[0] * bone + coefficients[1] * (line_integrals - bone))


def bone_integrals(bone: Tensor, bone_per_mm: float, geometry: ScanGeometry, grid: VolumeGrid) -> Tensor:
    """(view, row, col) line integrals of segmented bone, p_b.

    Args:
        bone: (z, y, x) bool.
        bone_per_mm: attenuation that bone is given.
        geometry: the scan, mm.
        grid: of the mask.
    """
    return project(bone.float() * bone_per_mm, geometry, grid)


def fit_two_materials(
    projections: Reader,
    acquisition: Acquisition,
    *,
    slices: int = 48,
    smoothing_px: float | None = None,
    device: torch.device | str = "cpu",
) -> TwoMaterialFit:
    """Fit both coefficients to the scan itself, on a slab of slices.

    Refused, with coefficients of zero, are fits that are no more than their uncertainty, and those that cannot be:
    soft tissue that hardens more than bone, or the wrong way round.

    Args:
        projections: (view, row, col) line integrals, dimensionless.
        acquisition: calibrated geometry.
        slices: how many slices around the middle are used.
        smoothing_px: sigma of the smoothing before bone is segmented, voxels; None chooses it from the noise.
        device: where slices are reconstructed.
    """
    slab = load_slab(projections, acquisition, degree=1, slices=slices, device=device)
    if not slab.is_finite():
        return _refused(NO_NUMBERS)
    if slab.geometry.views < LEAST_VIEWS:
        return _refused(f"{slab.geometry.views} views are too few to tell hardening from streaks")
    if (arc_deg := limited_arc_deg(slab.geometry)) is not None:
        return _refused(f"views span {arc_deg:.0f} degrees, too little to tell hardening from what is missing")
    first = slab.basis()[0].cpu().numpy()
    segmented = segment_bone(first, smoothing_px=smoothing_for(slab) if smoothing_px is None else smoothing_px)
    if segmented is None:
        return _refused("nothing like bone stands out of the slices")
    bone, surroundings = segmented
    if slab.is_cut_off() and goes_on_beyond(bone):
        return _refused(GOES_ON)
    depth = bone_depth(bone)
    chosen = depth >= LEAST_DEPTH
    if chosen.sum() < LEAST_VOXELS:
        return _refused(f"only {chosen.sum()} voxels of bone are {LEAST_DEPTH} voxels below its surface")
    level = float(first[bone].mean())
    modelled, of_bone = (
        extended_integrals(volume, slab)
        for volume in (object_model(bone, surroundings, level), np.where(bone, level, 0.0))
    )
    basis = np.concatenate([first[None], _terms(slab.powers[0], of_bone, slab)])
    system = System.of(basis, _terms(modelled, of_bone, slab), depth, chosen, sectors_of(bone))
    return _judged(system, slab.largest, float(of_bone.max()), level)


def _terms(p: Tensor, of_bone: Tensor, slab: Slab) -> np.ndarray:
    """(2, z, y, x) reconstructions of p p_b and of p (p - p_b)."""
    return np.stack([fdk(p * part, slab.geometry, slab.grid).cpu().numpy() for part in (of_bone, p - of_bone)])


def _judged(system: System, largest: float, largest_bone: float, level: float) -> TwoMaterialFit:
    found, noise, density = system.solve(), system.statistical(), system.of_density()
    bone, soft = (float(c) for c in found)
    reach = np.array([largest_bone, max(largest - largest_bone, 0.0)])
    effect, uncertain, unclear = float(found @ reach), noise[0] * reach[0], density[0] * reach[0]
    words = (
        f"c_b = {bone:.3g} +- {noise[0]:.2g} (noise) +- {density[0]:.2g} (density), "
        f"c_s = {soft:.3g} +- {noise[1]:.2g} +- {density[1]:.2g}: "
        f"up to {100 * effect:+.1f} % at the largest line integrals"
    )
    spread = np.hypot(noise, density)
    fault = ""
    if not np.isfinite(found).all() or effect > LARGEST_EFFECT:
        fault = "out of bounds"
    elif bone * reach[0] < max(LEAST_EFFECT, SIGNIFICANCE * uncertain, DENSITY_SIGNIFICANCE * unclear):
        fault = "no significant hardening by bone"
    elif not -SIGNIFICANCE * spread[1] <= soft <= bone + SIGNIFICANCE * float(np.hypot(*spread)):
        fault = "soft tissue cannot harden more than bone, nor the wrong way round"
    used = (0.0, 0.0) if fault else (bone, float(np.clip(soft, 0.0, bone)))
    return TwoMaterialFit(
        coefficients=used,
        found=(bone, soft),
        uncertainty=(float(spread[0]), float(spread[1])),
        applied=not fault,
        message=f"{words}; {fault}: data left unchanged" if fault else words,
        bone_per_mm=level,
    )


def _refused(why: str) -> TwoMaterialFit:
    return TwoMaterialFit((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), False, f"{why}: data left unchanged", 0.0)
