"""Make the small tables of this folder: mass attenuation coefficients and X-ray tube spectra.

Run `pip install "xrmflow[phantom]"` and then `python make_tables.py` here. The package itself only reads the CSV
files, so that neither tool is needed to simulate.

- `attenuation.csv`: total mass attenuation mu/rho in cm2/g (photo-electric + coherent + incoherent), from xraydb's
  Elam tables (Elam, Ravel & Sieber, Radiat. Phys. Chem. 63, 121 (2002)), summed over elements by mass fraction.
- `spectra.csv`: photon fluence per keV behind the tube's own beryllium window, normalised to sum 1 in each column,
  from SpekPy (Poludniowski et al., Med. Phys. 48, 3630 (2021)): reflection tungsten target, 12 degrees take-off angle,
  0.5 mm Be.
"""

from pathlib import Path

import numpy as np
import spekpy
import xraydb

HERE = Path(__file__).parent
ENERGIES_KEV = np.arange(3.5, 140, 1.0)
FORMULAS = {
    "water": "H2O",
    "hydroxyapatite": "Ca10(PO4)6(OH)2",
    "aluminium": "Al",
    "copper": "Cu",
    "glass": "SiO2",
    "caesium_iodide": "CsI",
}
# Mass fractions of ICRU-44 soft tissue (ICRU Report 44, 1989).
SOFT_TISSUE = {
    "H": 0.102,
    "C": 0.143,
    "N": 0.034,
    "O": 0.708,
    "Na": 0.002,
    "P": 0.003,
    "S": 0.003,
    "Cl": 0.002,
    "K": 0.003,
}
TUBE_KV = (30, 40, 50, 60, 80, 100, 120, 140)


def mass_attenuation(fractions: dict[str, float]) -> np.ndarray:
    """mu/rho in cm2/g at the table's energies of a mixture given by mass fractions."""
    total = sum(fractions.values())
    energies_ev = ENERGIES_KEV * 1000
    shares = [share / total * xraydb.mu_elam(element, energies_ev) for element, share in fractions.items()]
    return np.sum(shares, axis=0)


def by_mass(formula: str) -> dict[str, float]:
    """Mass of each element in one formula unit."""
    return {element: n * xraydb.atomic_mass(element) for element, n in xraydb.chemparse(formula).items()}


def spectrum(tube_kv: int) -> np.ndarray:
    """Relative photons in each 1 keV bin of the table."""
    tube = spekpy.Spek(kvp=tube_kv, th=12, targ="W", dk=0.5)
    tube.filter("Be", 0.5)
    energies, fluence = (np.asarray(values) for values in tube.get_spectrum(edges=False))
    binned, _ = np.histogram(energies, bins=np.append(ENERGIES_KEV - 0.5, ENERGIES_KEV[-1] + 0.5), weights=fluence)
    return binned / binned.sum()


def write(name: str, columns: dict[str, np.ndarray], digits: int) -> None:
    """One CSV file with the energies first."""
    table = np.column_stack([ENERGIES_KEV, *columns.values()])
    fmt = ["%.1f"] + [f"%.{digits}e"] * len(columns)
    np.savetxt(HERE / name, table, delimiter=",", fmt=fmt, header=",".join(["energy_kev", *columns]), comments="")


def main() -> None:
    """Write both tables."""
    mixtures = {name: by_mass(formula) for name, formula in FORMULAS.items()} | {"soft_tissue": SOFT_TISSUE}
    write("attenuation.csv", {name: mass_attenuation(mixture) for name, mixture in mixtures.items()}, digits=5)
    write("spectra.csv", {f"tungsten_{kv}_kv": spectrum(kv) for kv in TUBE_KV}, digits=4)


if __name__ == "__main__":
    main()
