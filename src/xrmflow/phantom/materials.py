"""Attenuation of the materials that scans of bone are made of.

The tables beside this module are made by `tables/make_tables.py`.
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np

Material = Literal["water", "hydroxyapatite", "aluminium", "copper", "glass", "caesium_iodide", "soft_tissue"]
DENSITY_G_PER_CM3: dict[Material, float] = {
    "water": 1.0,
    "hydroxyapatite": 3.16,
    "aluminium": 2.699,
    "copper": 8.96,
    "glass": 2.20,
    "caesium_iodide": 4.51,
    "soft_tissue": 1.06,
}
TABLES = Path(__file__).parent / "tables"


def attenuation_per_mm(material: Material, energy_kev: np.ndarray | float) -> np.ndarray:
    """Linear attenuation coefficient mu(E), 1/mm, interpolated in log-log.

    Args:
        material: one of `Material`, at its density in `DENSITY_G_PER_CM3`.
        energy_kev: photon energies within the table (3.5 to 139.5 keV), keV.

    Raises:
        ValueError: an unknown material or an energy outside of the table.
    """
    if material not in get_args(Material):
        raise ValueError(f"material: expected one of {get_args(Material)}, got {material!r}")
    table = read_table("attenuation.csv")
    energy, known = np.asarray(energy_kev, dtype=float), table["energy_kev"]
    if energy.size and (energy.min() < known[0] or energy.max() > known[-1]):
        raise ValueError(f"energy_kev: expected {known[0]} to {known[-1]} keV, got {energy.min()} to {energy.max()}")
    per_cm = np.exp(np.interp(np.log(energy), np.log(known), np.log(table[material]))) * DENSITY_G_PER_CM3[material]
    return per_cm / 10


def bone_attenuation_per_mm(mineral_fraction: float, energy_kev: np.ndarray | float) -> np.ndarray:
    """mu(E) of bone matrix, 1/mm: hydroxyapatite at a volume fraction, water for the rest (collagen and water)."""
    mineral = attenuation_per_mm("hydroxyapatite", energy_kev)
    return mineral_fraction * mineral + (1 - mineral_fraction) * attenuation_per_mm("water", energy_kev)


@lru_cache(maxsize=4)
def read_table(name: str) -> dict[str, np.ndarray]:
    """Columns by name of one of the CSV tables."""
    path = TABLES / name
    header = path.read_text().split("\n", 1)[0].split(",")
    values = np.loadtxt(path, delimiter=",", skiprows=1, unpack=True)
    return dict(zip(header, values, strict=True))
