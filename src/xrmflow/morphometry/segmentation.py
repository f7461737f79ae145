"""Segmentation: Gaussian, threshold, region of interest, pores; with a record of how it was done."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from xrmflow.arrays import Reader
from xrmflow.metrics.labels import BONE, CANAL, LACUNA, MARROW, OUTSIDE
from xrmflow.morphometry import pores as pore_kinds
from xrmflow.morphometry.components import Mask, find_components
from xrmflow.morphometry.envelope import keep_slices, periosteal_envelope
from xrmflow.morphometry.grey import Levels, edge_blur, midpoint, otsu, phase_levels, smooth
from xrmflow.morphometry.masks import beside_in_slice
from xrmflow.morphometry.pores import Gates, Pores, find_pores
from xrmflow.morphometry.scale import Scale
from xrmflow.morphometry.slabs import WHOLE, Workspace

Method = Literal["midpoint", "otsu", "attenuation_per_cm", "attenuation_per_mm", "density_mgha_per_cm3", "grey"]
Note = dict[str, str]


@dataclass(frozen=True)
class Recipe:
    """How to segment. Lengths and volumes come twice: in micrometres, and in voxels for data without a voxel size.

    Attributes:
        method, threshold: unit of the threshold, and its value (None for midpoint and Otsu).
        density_slope_mgha_per_cm2, density_intercept_mgha_per_cm3: density = slope * attenuation (1/cm) + intercept.
        sigma_um, sigma_voxels: Gaussian; the first wins where it is given.
        least_bone_um3, least_bone_voxels: smaller pieces of bone are noise.
        voi: "periosteal" (inside the outer surface of the bone) or "whole" (every voxel).
        voi_start, voi_stop: slices, None for the ends.
        least_part: parts of the bone with less than this fraction of the largest one's volume are other objects.
        closing_um, closing_voxels: radius of the disc that closes the cortex.
        lacunae: whether to look for pores.
        lacuna_level, lacuna_seed_level: grey fractions, see `Gates`.
        lacuna_least_um3 …: gates, see `Gates`.
    """

    method: Method = "midpoint"
    threshold: float | None = None
    density_slope_mgha_per_cm2: float | None = None
    density_intercept_mgha_per_cm3: float | None = None
    sigma_um: float | None = None
    sigma_voxels: float = 0.8
    least_bone_um3: float = 500.0
    least_bone_voxels: float = 100.0
    voi: Literal["periosteal", "whole"] = "periosteal"
    voi_start: int | None = None
    voi_stop: int | None = None
    least_part: float = 0.05
    closing_um: float = 30.0
    closing_voxels: float = 10.0
    lacunae: bool = True
    lacuna_level: float = 0.5
    lacuna_seed_level: float = 0.35
    lacuna_least_um3: float = 50.0
    lacuna_most_um3: float = 2000.0
    lacuna_least_voxels: float = 20.0
    lacuna_most_voxels: float = 3000.0
    lacuna_elongation: float = 4.0
    canal_width_um: float = 100.0
    canal_width_voxels: float = 50.0
    marrow_fraction: float = 0.05

    def gates(self, scale: Scale) -> Gates:
        """The gates of pores in voxels."""
        return Gates(
            level=self.lacuna_level,
            seed_level=self.lacuna_seed_level,
            least=scale.voxels(self.lacuna_least_um3, self.lacuna_least_voxels, 3),
            most=scale.voxels(self.lacuna_most_um3, self.lacuna_most_voxels, 3),
            elongation=self.lacuna_elongation,
            canal_width=scale.voxels(self.canal_width_um, self.canal_width_voxels),
            marrow_fraction=self.marrow_fraction,
        )

    def sigma(self, scale: Scale) -> float:
        """Standard deviation of the Gaussian, voxels."""
        return self.sigma_voxels if self.sigma_um is None else scale.voxels(self.sigma_um, self.sigma_voxels)


@dataclass(frozen=True)
class Segmentation:
    """Labels and how they came about.

    Attributes:
        labels: (z, y, x) uint8, values of `xrmflow.metrics.labels`; 0 outside the volume of interest.
        context: the same without the cut to slices or mask: what measurements near the edge need to see.
        record: JSON-ready; units in the names.
    """

    labels: np.ndarray
    context: np.ndarray
    record: dict[str, Any]


def segment(
    volume: Reader, *, scale: Scale, recipe: Recipe, mask: Reader | None = None, work: Workspace = WHOLE
) -> Segmentation:
    """Label bone, marrow and soft tissue, lacunae and canals.

    Args:
        volume: (z, y, x) attenuation, 1/mm (1/voxel when the scale is not calibrated).
        scale: voxel size.
        recipe: settings.
        mask: (z, y, x), above 0 inside the volume of interest, on top of the recipe's; None for none.
        work: how much to look at at a time; the labels do not depend on it.

    Raises:
        ValueError: a mask of another shape, slices outside the volume, a threshold that leaves no bone or nothing but
            bone, a density or attenuation threshold for data without a voxel size.
    """
    if len(volume.shape) != 3:
        raise ValueError(f"volume: expected (z, y, x), got shape {volume.shape}")
    if mask is not None and mask.shape != volume.shape:
        raise ValueError(f"voi mask: expected the shape of the volume {volume.shape}, got {mask.shape}")
    grey = smooth(volume, recipe.sigma(scale), work=work)
    level = threshold_grey(grey, scale=scale, recipe=recipe, work=work)
    bone, specks = _bone(grey, level, scale, recipe, work)
    envelope = _envelope(bone, scale, recipe, work)
    levels = phase_levels(grey, bone, envelope, work=work)
    pores = find_pores(grey, envelope, levels, recipe.gates(scale), work=work) if recipe.lacunae else None
    context = _label(bone, envelope, pores, work)
    labels = _cut(context, recipe, mask, work)
    blur = edge_blur(grey, bone, levels, work=work)
    record = _record(recipe, scale, level, levels, blur) | _extent(labels, work)
    counts = {"bone_specks_removed": specks} | (pores.counts if pores else {})
    notes = _notes(recipe, scale, labels, levels, level, mask, work)
    return Segmentation(labels, context, record | {"components": counts, "notes": notes})


def _bone(grey: np.ndarray, level: float, scale: Scale, recipe: Recipe, work: Workspace) -> tuple[np.ndarray, int]:
    """What reaches the threshold, without specks, and how many these were."""
    least = scale.voxels(recipe.least_bone_um3, recipe.least_bone_voxels, 3)
    bone, specks = drop_specks(lambda z: grey[z] >= level, grey.shape, least, work=work)
    if not any(bone[slab.core].any() for slab in work.slabs(grey.shape)):
        most = max(float(grey[slab.core].max()) for slab in work.slabs(grey.shape))
        raise ValueError(
            f"threshold: expected some bone above {level:.6g} {_unit(scale)}, got none; the volume reaches {most:.6g}"
        )
    return bone, specks


def _envelope(bone: np.ndarray, scale: Scale, recipe: Recipe, work: Workspace) -> np.ndarray:
    """The volume of interest before it is cut."""
    if recipe.voi == "periosteal":
        closing = scale.voxels(recipe.closing_um, recipe.closing_voxels)
        return periosteal_envelope(bone, closing_voxels=closing, least_part=recipe.least_part, work=work)
    envelope = work.array(bone.shape, np.bool_)
    for slab in work.slabs(bone.shape):
        envelope[slab.core] = True
    return envelope


def threshold_grey(grey: np.ndarray, *, scale: Scale, recipe: Recipe, work: Workspace = WHOLE) -> float:
    """The threshold in the units of the volume (1/mm, or 1/voxel)."""
    value = recipe.threshold
    if recipe.method == "otsu":
        return otsu(grey, work=work)
    if recipe.method == "midpoint":
        return midpoint(grey, work=work)
    if value is None:
        raise ValueError(f"threshold: expected a number for threshold_method {recipe.method}, got none")
    if recipe.method == "grey":
        return value
    if not scale.calibrated:
        raise ValueError(
            f"threshold_method: expected midpoint, otsu or grey for data without a voxel size, got {recipe.method}; "
            "attenuation per length needs the voxel size (ingest.pixel_size_um)"
        )
    if recipe.method == "density_mgha_per_cm3":
        slope, intercept = _calibration_line(recipe)
        value = (value - intercept) / slope
    return value if recipe.method == "attenuation_per_mm" else value / 10


def drop_specks(bone: Mask, shape: tuple[int, ...], least: float, *, work: Workspace = WHOLE) -> tuple[np.ndarray, int]:
    """Bone without its components (26-connected) of fewer than `least` voxels, and how many there were."""
    parts = find_components(bone, shape, connectivity=26, work=work)
    kept = parts.sizes >= least
    kept[0] = False
    left = work.array(shape, np.bool_)
    for slab in work.slabs(shape):
        left[slab.core] = parts.having(kept, slab.core)
    return left, int(np.count_nonzero(~kept)) - 1


def _calibration_line(recipe: Recipe) -> tuple[float, float]:
    slope, intercept = recipe.density_slope_mgha_per_cm2, recipe.density_intercept_mgha_per_cm3
    if slope is None or intercept is None:
        raise ValueError(
            "threshold_method: expected density_slope_mgha_per_cm2 and density_intercept_mgha_per_cm3 with "
            f"density_mgha_per_cm3, got slope {slope}, intercept {intercept}"
        )
    return slope, intercept


def _label(bone: np.ndarray, envelope: np.ndarray, pores: Pores | None, work: Workspace) -> np.ndarray:
    """Labels of everything inside the envelope; holes in bone that are no pores are bone."""
    labels = work.array(bone.shape, np.uint8)
    for slab in work.slabs(bone.shape):
        z = slab.core
        labels[z] = np.where(envelope[z] & bone[z], np.uint8(BONE), envelope[z].view(np.uint8))
        if pores is not None:
            for kind, label in ((pore_kinds.LACUNA, LACUNA), (pore_kinds.CANAL, CANAL)):
                labels[z][pores.kinds[z] == kind] = label
    if pores is not None:
        _fill_noise_holes(labels, pores.kinds, work)
    return labels


def _fill_noise_holes(labels: np.ndarray, kinds: np.ndarray, work: Workspace) -> None:
    """Make bone of what is darker but has no way to marrow, to a pit, or to the outside within its slice."""
    holes = find_components(lambda z: labels[z] == MARROW, labels.shape, connectivity=6, work=work)
    noise = np.ones(holes.sizes.size, bool)
    noise[0] = False
    for slab in work.slabs(labels.shape):
        z = slab.core
        noise[holes[z][(kinds[z] == pore_kinds.OPEN) | beside_in_slice(labels[z] == OUTSIDE)]] = False
    for slab in work.slabs(labels.shape):
        labels[slab.core][holes.having(noise, slab.core)] = BONE


def _cut(context: np.ndarray, recipe: Recipe, mask: Reader | None, work: Workspace) -> np.ndarray:
    """Labels of the volume of interest: slices and mask."""
    start = recipe.voi_start or 0
    stop = context.shape[0] if recipe.voi_stop is None else recipe.voi_stop
    kept = keep_slices(context.shape[0], start, stop)
    labels = work.array(context.shape, np.uint8)
    for slab in work.slabs(context.shape):
        z = slab.core
        inside = kept[z, None, None] if mask is None else kept[z, None, None] & (np.asarray(mask[z]) > 0)
        labels[z] = np.where(inside, context[z], np.uint8(OUTSIDE))
    return labels


def _extent(labels: np.ndarray, work: Workspace) -> dict[str, Any]:
    """How many voxels are in the volume of interest, and its first slice and the one after its last."""
    counts = np.concatenate([np.count_nonzero(labels[slab.core], axis=(1, 2)) for slab in work.slabs(labels.shape)])
    if not counts.any():
        raise ValueError("voi: expected at least one voxel of the sample, got none; widen the slices or check the mask")
    first, last = np.flatnonzero(counts)[[0, -1]]
    return {"voi_voxels": int(counts.sum()), "voi_slices": [int(first), int(last) + 1]}


def _unit(scale: Scale) -> str:
    return "1/mm" if scale.calibrated else "1/voxel"


def _record(recipe: Recipe, scale: Scale, level: float, levels: Levels, blur: float) -> dict[str, Any]:
    """Thresholds and greys in every unit that is known, filter, gates; JSON-ready."""
    grey_unit = "per_mm" if scale.calibrated else "per_voxel"
    record: dict[str, Any] = {f"threshold_{grey_unit}": level}
    if scale.calibrated:
        record["threshold_per_cm"] = 10 * level
    slope, intercept = recipe.density_slope_mgha_per_cm2, recipe.density_intercept_mgha_per_cm3
    if scale.calibrated and slope is not None and intercept is not None:
        record["threshold_mgha_cm3"] = slope * 10 * level + intercept
        record["density_calibration"] = {"slope_mgha_per_cm2": slope, "intercept_mgha_per_cm3": intercept}
    sigma = recipe.sigma(scale)
    return record | {
        "threshold_method": recipe.method,
        f"bone_{grey_unit}": levels.bone,
        f"soft_tissue_{grey_unit}": levels.soft,
        "sigma_voxels": sigma,
        "sigma_um": sigma * scale.um if scale.calibrated else None,
        "edge_blur_voxels": blur,
        "voi": recipe.voi,
        "gates_voxels": asdict(recipe.gates(scale)) if recipe.lacunae else None,
    }


def _notes(
    recipe: Recipe,
    scale: Scale,
    labels: np.ndarray,
    levels: Levels,
    level: float,
    mask: Reader | None,
    work: Workspace,
) -> list[Note]:
    """What a reader of the numbers must know."""
    return [
        {"severity": severity, "text": text}
        for severity, text in (*_voi_notes(recipe, labels, mask, work), *_threshold_notes(recipe, scale, levels, level))
    ]


def _reaches_the_sides(labels: np.ndarray, work: Workspace) -> bool:
    """Whether anything lies in the first or last rows or columns."""
    ends = [0, -1]
    return any(labels[s.core][:, ends].any() or labels[s.core][:, :, ends].any() for s in work.slabs(labels.shape))


def _voi_notes(recipe: Recipe, labels: np.ndarray, mask: Reader | None, work: Workspace) -> list[tuple[str, str]]:
    notes = []
    if recipe.voi == "periosteal":
        notes.append(
            (
                "info",
                "volume of interest: inside the outer (periosteal) surface of the bone, cortex included; BV/TV is of "
                "this volume",
            )
        )
        if _reaches_the_sides(labels, work):
            notes.append(("warning", "the bone touches the sides of the volume: its periosteal surface is cut off"))
    else:
        notes.append(("info", "volume of interest: every voxel of the volume, air around the sample included"))
    if mask is not None:
        notes.append(("info", "volume of interest cut to a mask"))
    return notes


def _threshold_notes(recipe: Recipe, scale: Scale, levels: Levels, level: float) -> list[tuple[str, str]]:
    notes = []
    if recipe.method == "otsu":
        notes.append(
            (
                "warning",
                "threshold by Otsu's method: it follows the sample, so a treatment that changes the bone changes it "
                "too; use one fixed threshold to compare samples",
            )
        )
    if recipe.method == "midpoint":
        notes.append(
            (
                "assumption",
                "threshold halfway between the greys of bone and soft tissue in this volume: it follows the mineral "
                "content of the sample; use one fixed threshold to compare samples",
            )
        )
    if not scale.calibrated:
        notes.append(("warning", "no voxel size: uncalibrated, lengths in voxels"))
    fraction = float(levels.fraction(level))
    if not 0.2 <= fraction <= 0.8:
        notes.append(
            (
                "warning",
                f"the threshold lies {fraction:.0%} of the way from soft tissue to bone; thickness depends on it",
            )
        )
    return notes
