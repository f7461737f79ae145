"""A bone with a known answer: cortical shell, trabecular core, lacunae, vascular canals, soft tissue around.

The object is defined analytically (walls, ellipsoids, tubes) and by one smooth random field (trabeculae), and sampled
with partial volumes on a grid finer than any reconstruction of it. Matter is hydroxyapatite and water: a voxel holds
a volume fraction `mineral` of hydroxyapatite, and water for the rest where there is tissue at all. Pores, marrow and
soft tissue are water.

Form and pore sizes are those of mouse bone; a preset with a small field of view shrinks the whole bone, not the pores.
"""

from dataclasses import dataclass, replace

import numpy as np

from xrmflow.arrays import Track, blocks, untracked
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.metrics.labels import BONE, CANAL, LABELS, LACUNA, MARROW, OUTSIDE
from xrmflow.phantom.materials import DENSITY_G_PER_CM3, attenuation_per_mm
from xrmflow.phantom.pores import Canal, Lacuna, box_around, random_canals, random_lacunae, stamp
from xrmflow.phantom.shaft import EllipticCylinder, Shaft, covered, random_wall
from xrmflow.phantom.texture import SmoothField, banded_field

SLAB = 16


@dataclass(frozen=True)
class BoneRecipe:
    """What the bone is like; lengths in micrometres.

    Attributes:
        outer_um: (x, y) semi-axes of the periosteal wall.
        cortex_um: mean thickness of the cortex.
        tissue_um: (x, y) semi-axes of the soft tissue around the bone; must lie within the field of view.
        roughness: relative amplitude of the bulges of the walls.
        form_wavelength_um: length along the bone over which its form changes.
        trabecular_wavelength_um: spacing of the trabeculae, centre to centre.
        trabecular_fraction: bone volume fraction of the trabecular core.
        lacuna_semi_axes_um: typical semi-axes of a lacuna, ascending; the first is also the least.
        lacuna_variation: relative spread of the lacunae's size.
        lacunae_per_mm3: lacunae per volume of cortex.
        lacuna_clearance_um: bone left around each lacuna.
        canal_radius_um: radius of the vascular canal along the bone.
        mineral_mg_per_cm3: hydroxyapatite per volume of bone matrix.
        mineral_variation: relative standard deviation of it within the bone.
    """

    outer_um: tuple[float, float]
    cortex_um: float
    tissue_um: tuple[float, float]
    roughness: float = 0.03
    form_wavelength_um: float = 250.0
    trabecular_wavelength_um: float = 27.0
    trabecular_fraction: float = 0.3
    lacuna_semi_axes_um: tuple[float, float, float] = (3.1, 4.3, 7.0)
    lacuna_variation: float = 0.1
    lacunae_per_mm3: float = 70e3
    lacuna_clearance_um: float = 2.5
    canal_radius_um: float = 6.0
    mineral_mg_per_cm3: float = 1100.0
    mineral_variation: float = 0.02

    @property
    def mineral_fraction(self) -> float:
        """Volume fraction of hydroxyapatite in bone matrix."""
        return self.mineral_mg_per_cm3 / (DENSITY_G_PER_CM3["hydroxyapatite"] * 1000)


@dataclass(frozen=True)
class Bone:
    """The object sampled on a grid.

    Attributes:
        recipe: what was asked for.
        grid: the sampling; taller than the field of view by `margin` voxels at each end.
        margin: voxels.
        mineral: (z, y, x) float32 volume fraction of hydroxyapatite.
        labels: (z, y, x) uint8, values of `xrmflow.metrics.labels`: what fills most of the voxel. "marrow" is all soft
            tissue inside the periosteum, "outside" everything beyond it.
        tissue: the soft tissue's outline.
        shaft, canals, lacunae: the analytic parts; the lacunae of the whole grid.
    """

    recipe: BoneRecipe
    grid: VolumeGrid
    margin: int
    mineral: np.ndarray
    labels: np.ndarray
    tissue: EllipticCylinder
    shaft: Shaft
    canals: tuple[Canal, ...]
    lacunae: tuple[Lacuna, ...]

    @property
    def core(self) -> slice:
        """The z indices that belong to the field of view."""
        return slice(self.margin, self.grid.shape[0] - self.margin)

    def seen_lacunae(self) -> list[tuple[Lacuna, bool]]:
        """The lacunae that reach into the field of view, each with whether it lies in it as a whole."""
        view = self.grid.slab(self.core)
        half, up = view.voxel_mm * view.shape[0] / 2, np.array([0.0, 0.0, 1.0])
        depths = [half - abs(one.centre_mm[2] - view.centre_mm[2]) for one in self.lacunae]
        reaches = [one.reach_mm(up) for one in self.lacunae]
        pairs = zip(self.lacunae, depths, reaches, strict=True)
        return [(one, bool(depth > reach)) for one, depth, reach in pairs if depth > -reach]

    def attenuation_per_mm(self, energy_kev: float, rows: slice) -> np.ndarray:
        """Attenuation at one energy of the slices `rows`, (z, y, x) float32, 1/mm."""
        mineral, water = (float(attenuation_per_mm(m, energy_kev)) for m in ("hydroxyapatite", "water"))
        x, y, _ = coordinates_mm(self.grid)
        return mineral * self.mineral[rows] + water * (self.tissue.fraction(x, y) - self.mineral[rows])


def make_bone(recipe: BoneRecipe, grid: VolumeGrid, *, seed: int, margin: int = 0, track: Track = untracked) -> Bone:
    """Make a bone and sample it.

    Args:
        recipe: what it is like.
        grid: the field of view on the sampling grid.
        seed: of everything random, which depends on the extent of the grid, not on its voxel size.
        margin: slices to add at each end, for rays and shifts that look beyond the field of view.
        track: shows progress.
    """
    rng = np.random.default_rng([seed, 1])
    nz, ny, nx = grid.shape
    tall = VolumeGrid((nz + 2 * margin, ny, nx), grid.voxel_mm, grid.centre_mm)
    shaft, tissue = _shaft(rng, recipe), EllipticCylinder((0.0, 0.0), _mm(recipe.tissue_um))
    bottom, top = _bounds(tall)
    canals = random_canals(rng, shaft, (bottom[2], top[2]), recipe.canal_radius_um * 1e-3)
    lacunae = _lacunae(rng, recipe, shaft, canals, (bottom[2], top[2]))
    mineral, labels = _sample_walls(rng, recipe, shaft, tall, track)
    _carve(mineral, labels, tall, shaft, canals, lacunae)
    return Bone(recipe, tall, margin, mineral, labels, tissue, shaft, tuple(canals), tuple(lacunae))


def coarsened(bone: Bone, factor: int) -> Bone:
    """The same bone on a grid `factor` times coarser: mean mineral, most frequent label."""
    if factor == 1:
        return bone
    shape = tuple(size // factor for size in bone.grid.shape)
    grid = VolumeGrid(shape, bone.grid.voxel_mm * factor, bone.grid.centre_mm)  # type: ignore[arg-type]
    shares = [cube_means(bone.labels == label, factor) for label in LABELS.values()]
    labels = np.argmax(shares, axis=0).astype(np.uint8)
    return replace(
        bone, grid=grid, margin=bone.margin // factor, mineral=cube_means(bone.mineral, factor), labels=labels
    )


def cube_means(volume: np.ndarray, factor: int) -> np.ndarray:
    """Mean over cubes of `factor` voxels along each edge, (z, y, x) float32; every size must be a multiple of it."""
    nz, ny, nx = (size // factor for size in volume.shape)
    cubes = volume.reshape(nz, factor, ny, factor, nx, factor)
    return cubes.mean(axis=(1, 3, 5), dtype=np.float32)


def coordinates_mm(grid: VolumeGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and z of the voxel centres along each axis, mm."""
    nz, ny, nx = grid.shape
    x, y, z = (first + grid.voxel_mm * np.arange(n) for first, n in zip(grid.first_voxel_mm, (nx, ny, nz), strict=True))
    return x, y, z


def volume_fractions(bone: Bone) -> dict[str, float]:
    """Volumes within the field of view from the labels: total, bone, lacunae, canals (mm3) and their ratios."""
    counts = np.zeros(len(LABELS))
    for rows in blocks(bone.grid.shape[0], SLAB):
        inside = slice(max(rows.start, bone.core.start), min(rows.stop, bone.core.stop))
        counts += np.bincount(bone.labels[inside].ravel(), minlength=len(LABELS))
    volume = dict(zip(LABELS, (counts * bone.grid.voxel_mm**3).tolist(), strict=True))
    total = sum(volume.values()) - volume["outside"]
    return {
        "total_mm3": total,
        "bone_mm3": volume["bone"],
        "lacunae_mm3": volume["lacuna"],
        "canals_mm3": volume["canal"],
        "bone_fraction": volume["bone"] / total,
        "lacunar_porosity": volume["lacuna"] / (volume["bone"] + volume["lacuna"]),
    }


def _mm(lengths_um: tuple[float, float]) -> tuple[float, float]:
    return lengths_um[0] * 1e-3, lengths_um[1] * 1e-3


def _bounds(grid: VolumeGrid) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner (x, y, z), mm."""
    half = grid.voxel_mm * np.array(grid.shape[::-1]) / 2
    return np.asarray(grid.centre_mm) - half, np.asarray(grid.centre_mm) + half


def _shaft(rng: np.random.Generator, recipe: BoneRecipe) -> Shaft:
    wavelength, cortex = recipe.form_wavelength_um * 1e-3, recipe.cortex_um * 1e-3
    outer = random_wall(rng, _mm(recipe.outer_um), roughness=recipe.roughness, wavelength_mm=wavelength)
    thickness = random_wall(rng, (cortex, cortex), roughness=2.5 * recipe.roughness, wavelength_mm=wavelength)
    return Shaft(outer, thickness)


def _lacunae(
    rng: np.random.Generator, recipe: BoneRecipe, shaft: Shaft, canals: list[Canal], z_range_mm: tuple[float, float]
) -> list[Lacuna]:
    angles, heights = np.linspace(0, 2 * np.pi, 90, endpoint=False), np.linspace(*z_range_mm, 50)
    outer, inner = shaft.walls_mm(angles, heights)
    cortex_mm3 = np.pi * np.mean(outer**2 - inner**2) * (z_range_mm[1] - z_range_mm[0])
    a, b, c = (length * 1e-3 for length in recipe.lacuna_semi_axes_um)
    return random_lacunae(
        rng,
        shaft,
        canals,
        count=round(recipe.lacunae_per_mm3 * cortex_mm3),
        z_range_mm=z_range_mm,
        semi_axes_mm=(a, b, c),
        variation=recipe.lacuna_variation,
        clearance_mm=recipe.lacuna_clearance_um * 1e-3,
    )


def _sample_walls(
    rng: np.random.Generator, recipe: BoneRecipe, shaft: Shaft, grid: VolumeGrid, track: Track
) -> tuple[np.ndarray, np.ndarray]:
    """Mineral fraction and labels of the bone without its pores."""
    lower, upper = _bounds(grid)
    spacing = recipe.trabecular_wavelength_um * 1e-3
    network = banded_field(rng, lower_mm=lower, upper_mm=upper, wavelength_mm=spacing, stretch_z=1.3)
    mineralisation = banded_field(rng, lower_mm=lower, upper_mm=upper, wavelength_mm=4 * spacing, bandwidth=0.5)
    level = float(np.quantile(network.knots, 1 - recipe.trabecular_fraction))
    x, y, z = coordinates_mm(grid)
    radius, angle = np.hypot(x, y[:, None]).astype(np.float32), np.arctan2(y[:, None], x)
    mineral = np.empty(grid.shape, np.float32)
    labels = np.empty(grid.shape, np.uint8)
    slopes = network.gradient_per_mm()
    for rows in track(blocks(grid.shape[0], SLAB), label="sampling the object"):
        outer, inner = (wall.astype(np.float32) for wall in shaft.walls_mm(angle, z[rows]))
        cortex = np.minimum(covered(outer - radius, grid.voxel_mm), covered(radius - inner, grid.voxel_mm))
        core = np.minimum(
            _network(network, slopes, level, (x, y, z[rows]), grid.voxel_mm), covered(inner - radius, grid.voxel_mm)
        )
        bone = np.minimum(cortex + core, 1)
        density = 1 + recipe.mineral_variation * mineralisation.on_grid(x, y, z[rows])
        mineral[rows] = recipe.mineral_fraction * density * bone
        labels[rows] = np.where(bone >= 0.5, BONE, np.where(radius < outer, MARROW, OUTSIDE))
    return mineral, labels


def _network(
    field: SmoothField,
    slopes: SmoothField,
    level: float,
    points: tuple[np.ndarray, np.ndarray, np.ndarray],
    voxel_mm: float,
) -> np.ndarray:
    """Share of each voxel in which the field exceeds the level."""
    steepness = np.maximum(slopes.on_grid(*points), 0.2 * float(slopes.knots.mean()))
    return covered((field.on_grid(*points) - level) / steepness, voxel_mm)


def _carve(
    mineral: np.ndarray, labels: np.ndarray, grid: VolumeGrid, shaft: Shaft, canals: list[Canal], lacunae: list[Lacuna]
) -> None:
    """Empty the pores of mineral and label them, in place."""
    for lacuna in lacunae:
        extent = np.array([lacuna.reach_mm(axis) for axis in np.eye(3)]) + grid.voxel_mm
        box = box_around(lacuna.centre_mm - extent, lacuna.centre_mm + extent, grid)
        if box is not None:
            share = stamp(lacuna.depth_mm, box, grid)
            mineral[box] *= 1 - share
            labels[box][share >= 0.5] = LACUNA
    for canal in canals:
        _carve_canal(mineral, labels, grid, shaft, canal)


def _carve_canal(mineral: np.ndarray, labels: np.ndarray, grid: VolumeGrid, shaft: Shaft, canal: Canal) -> None:
    """Empty one canal, piece by piece; within the marrow it stays marrow."""
    reach = canal.radius_mm + 2 * grid.voxel_mm
    for a, b in zip(canal.path_mm[:-1], canal.path_mm[1:], strict=True):
        box = box_around(np.minimum(a, b) - reach, np.maximum(a, b) + reach, grid)
        if box is None:
            continue
        piece = Canal(np.array([a, b]), canal.radius_mm)
        share = stamp(lambda points, piece=piece: piece.radius_mm - piece.distance_mm(points), box, grid)
        mineral[box] = np.minimum(mineral[box], mineral[box].max(initial=0) * (1 - share))
        x, y, z = (c[s] for c, s in zip(coordinates_mm(grid), box[::-1], strict=True))
        inner = shaft.walls_mm(np.arctan2(y[:, None], x), z)[1]
        labels[box][(share >= 0.5) & (np.hypot(x, y[:, None]) > inner) & (labels[box] != OUTSIDE)] = CANAL
