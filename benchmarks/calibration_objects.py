"""Planes of some materials, for `calibration_scenes.py`; lengths are in half widths of the field of view."""

import numpy as np
from scipy.ndimage import gaussian_filter

from xrmflow.phantom.materials import Material

COLS, FINER, REACH = 128, 2, 1.5
"""Pixels, voxels of the object per pixel, and the size of its grid relative to the field of view."""
SIZE = int(COLS * FINER * REACH)
Parts = dict[Material, np.ndarray]
"""(y, x) volume fraction of each material."""


def _plane() -> tuple[np.ndarray, np.ndarray]:
    """Places of the voxels along x and y."""
    x = (np.arange(SIZE) - (SIZE - 1) / 2) / (COLS * FINER / 2)
    return x[None], x[:, None]


def disc(x: float, y: float, radius: float, *, across: float | None = None, turn: float = 0.0) -> np.ndarray:
    """(y, x) bool: an ellipse of two half axes."""
    px, py = _plane()
    u, v = (px - x) * np.cos(turn) + (py - y) * np.sin(turn), (py - y) * np.cos(turn) - (px - x) * np.sin(turn)
    return (u / radius) ** 2 + (v / (across or radius)) ** 2 < 1


def bone_like(
    mineral: np.ndarray, around: np.ndarray, *, medium: Material = "soft_tissue", share: float = 1.0
) -> Parts:
    """Bone of some volume fraction of mineral, water for the rest of it, in a medium."""
    bone = mineral > 0
    parts: Parts = {"hydroxyapatite": mineral, "water": np.where(bone, 1 - mineral, 0.0)}
    parts[medium] = parts.get(medium, 0.0) + share * (around & ~bone)
    return parts


def ring() -> Parts:
    """A round tube of bone, denser outside."""
    px, py = _plane()
    solid = disc(0, 0, 0.6) & ~disc(0, 0, 0.3)
    return bone_like(BONE * solid * (1 + 0.05 * (np.hypot(px, py) / 0.45 - 1)), disc(0, 0, 0.7))


def tube(x: float = 0.0, y: float = 0.0, size: float = 1.0, turn: float = 0.3) -> np.ndarray:
    """(y, x) bool: an oval tube with struts, a bone cut across."""
    outer, inner = (disc(x, y, r * size, across=a * size, turn=turn) for r, a in ((0.62, 0.5), (0.4, 0.3)))
    struts = np.zeros_like(outer)
    for place, along in ((-0.17, 0.0), (0.1, 0.0), (0.05, 1.5)):
        px, py = _plane()
        u = (px - x) * np.cos(turn + along) + (py - y) * np.sin(turn + along)
        struts |= np.abs(u / size - place) < 0.045
    return outer & (~inner | struts)


BONE, DENTINE, ENAMEL = 0.45, 0.45, 0.9


def bone(x: float = 0.0, y: float = 0.0) -> Parts:
    """Bone in a thin layer of soft tissue."""
    return bone_like(BONE * tube(x, y), disc(x, y, 0.72, across=0.62, turn=0.3))


def denser_cortex(difference: float) -> Parts:
    """Bone whose mineral falls off towards its middle."""
    px, py = _plane()
    solid = tube()
    return bone_like(BONE * solid * (1 + difference * (np.hypot(px, py) / 0.5 - 1)), disc(0, 0, 0.72))


def young_struts(difference: float) -> Parts:
    """Bone whose struts hold less mineral than its cortex."""
    inner = disc(0, 0, 0.4, across=0.3, turn=0.3)
    return bone_like(BONE * tube() * np.where(inner, 1 - difference, 1.0), disc(0, 0, 0.72, across=0.62, turn=0.3))


def pinned(metal: Material, radius: float) -> Parts:
    """Bone with a pin through its marrow."""
    parts, pin = bone(), disc(0.05, 0.0, radius)
    pinned: Parts = {name: np.where(pin, 0.0, part) for name, part in parts.items()}
    pinned[metal] = pin.astype(float)
    return pinned


def three_bones(medium: Material, share: float) -> Parts:
    """Three bones in one tube, and what it is filled with."""
    places = ((-0.38, -0.2, 0.55, 0.2), (0.38, -0.25, 0.5, 1.2), (0.0, 0.4, 0.6, 2.2))
    bones = np.any([tube(x, y, size, turn) for x, y, size, turn in places], axis=0)
    return bone_like(BONE * bones, disc(0, 0, 0.92), medium=medium, share=share)


def in_tube(medium: Material, share: float) -> Parts:
    """A bone in a tube, and what it is filled with."""
    return bone_like(BONE * tube(), disc(0, 0, 0.9), medium=medium, share=share)


def plain(material: Material, x: float = 0.0, radius: float = 0.7, across: float | None = None) -> Parts:
    """One material in one piece."""
    return {material: disc(x, 0.0, radius, across=across).astype(float)}


def rods() -> Parts:
    """Rods of growing density in a cylinder of resin, as a density phantom has."""
    mineral = np.zeros((SIZE, SIZE))
    for k, share in enumerate((0.05, 0.1, 0.2, 0.3, 0.4)):
        angle = 2 * np.pi * k / 5
        mineral[disc(0.45 * np.cos(angle), 0.45 * np.sin(angle), 0.17)] = share
    return bone_like(mineral, disc(0, 0, 0.85), medium="water")


def tooth() -> Parts:
    """Enamel around dentine around pulp."""
    whole, dentine, pulp = (disc(0, 0, r, across=a) for r, a in ((0.75, 0.6), (0.58, 0.44), (0.17, 0.1)))
    mineral = np.where(dentine, DENTINE, ENAMEL) * (whole & ~pulp)
    return bone_like(mineral, whole, medium="water")


def root() -> Parts:
    """Dentine alone, denser outside by 8 %."""
    px, py = _plane()
    whole, pulp = disc(0, 0, 0.65, across=0.5), disc(0, 0, 0.14, across=0.1)
    mineral = DENTINE * (whole & ~pulp) * (0.92 + 0.08 * np.clip(np.hypot(px / 0.65, py / 0.5), 0, 1))
    return bone_like(mineral, whole, medium="water")


def walnut() -> Parts:
    """A shell of wood, a lobed kernel and air between."""
    shell = disc(0, 0, 0.85, across=0.78) & ~disc(0, 0, 0.76, across=0.69)
    lobes = [
        disc(x, y, 0.24, across=0.3, turn=t)
        for x, y, t in ((-0.3, 0.25, 0.5), (0.3, 0.25, -0.5), (-0.3, -0.28, -0.5), (0.3, -0.28, 0.5))
    ]
    kernel = np.any(lobes, axis=0)
    return {"water": 1.15 * shell + 0.85 * kernel}


def rock() -> Parts:
    """Grains of quartz and of a denser mineral with pores."""
    rng = np.random.default_rng(3)
    rough = gaussian_filter(rng.standard_normal((SIZE, SIZE)), 9)
    rough /= rough.std()
    other = gaussian_filter(rng.standard_normal((SIZE, SIZE)), 9)
    other /= other.std()
    core = disc(0, 0, 0.8)
    return {
        "glass": 1.0 * (core & (rough < 1.0) & (other < 0.8)),
        "hydroxyapatite": 0.9 * (core & (rough < 1.0) & (other >= 0.8)),
    }
