"""The spectrum a detector sees, and the one energy that stands for it.

`DetectedSpectrum.weights` are the shares of the open-beam signal: tube photons behind the filters, times what the
scintillator makes of a photon of that energy. A ray through path lengths t_m of materials m transmits
T = sum_E w(E) exp(-sum_m mu_m(E) t_m).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xrmflow.phantom.materials import Material, attenuation_per_mm, bone_attenuation_per_mm, read_table

NEGLIGIBLE = 1e-4


@dataclass(frozen=True)
class DetectedSpectrum:
    """Shares of the open-beam signal by photon energy.

    Attributes:
        energies_kev: (n,) bin centres, keV.
        weights: (n,) shares, summing to 1.
    """

    energies_kev: np.ndarray
    weights: np.ndarray

    def mean_energy_kev(self) -> float:
        """Mean energy of the open-beam signal, keV."""
        return float(self.weights @ self.energies_kev)

    def mean_attenuation_per_mm(self, mineral_fraction: float) -> float:
        """Signal-weighted mean attenuation of bone at zero thickness, 1/mm: -d ln T / dt at t = 0."""
        return float(self.weights @ bone_attenuation_per_mm(mineral_fraction, self.energies_kev))

    def effective_energy_kev(self, mineral_fraction: float) -> float:
        """The energy at which bone attenuates as it does on average in this spectrum at zero thickness, keV.

        It solves mu_bone(E_eff) = sum_E w(E) mu_bone(E). A beam-hardening correction with unit slope at zero maps
        measured line integrals onto those of monochromatic radiation of this energy, so a corrected volume should
        show mu_bone(E_eff).
        """
        fine = np.arange(self.energies_kev[0], self.energies_kev[-1], 0.01)
        attenuation = bone_attenuation_per_mm(mineral_fraction, fine)
        # mu falls with energy (bone has no edge above 4.1 keV), and np.interp wants growing abscissae.
        return float(np.interp(-self.mean_attenuation_per_mm(mineral_fraction), -attenuation, fine))


def detected_spectrum(
    tube_kv: int, *, filters_mm: Mapping[Material, float] | None = None, scintillator_mm: float | None = 0.2
) -> DetectedSpectrum:
    """Spectrum of the signal of an energy-integrating detector with a CsI scintillator.

    w(E) is proportional to N(E) exp(-sum mu_f t_f) E (1 - exp(-mu_CsI t)).

    Args:
        tube_kv: one of the tabulated tube voltages (tungsten, 0.5 mm Be), kV.
        filters_mm: thickness of each filter in the beam, mm.
        scintillator_mm: thickness of the scintillator, mm; None for a detector that counts every photon once.

    Raises:
        ValueError: a voltage that is not tabulated.
    """
    table = read_table("spectra.csv")
    if f"tungsten_{tube_kv}_kv" not in table:
        known = ", ".join(name.split("_")[1] for name in table if name != "energy_kev")
        raise ValueError(f"tube_kv: expected one of {known}, got {tube_kv}")
    energies, signal = table["energy_kev"], table[f"tungsten_{tube_kv}_kv"]
    for material, thickness_mm in (filters_mm or {}).items():
        signal = signal * np.exp(-attenuation_per_mm(material, energies) * thickness_mm)
    if scintillator_mm is not None:
        absorbed = 1 - np.exp(-attenuation_per_mm("caesium_iodide", energies) * scintillator_mm)
        signal = signal * energies * absorbed
    return _trimmed(energies, signal)


def monochromatic(energy_kev: float) -> DetectedSpectrum:
    """A spectrum of one energy."""
    return DetectedSpectrum(np.array([energy_kev]), np.array([1.0]))


def _trimmed(energies_kev: np.ndarray, signal: np.ndarray) -> DetectedSpectrum:
    """Normalise, dropping bins that carry nothing."""
    kept = signal > NEGLIGIBLE * signal.max()
    return DetectedSpectrum(energies_kev[kept], signal[kept] / signal[kept].sum())
