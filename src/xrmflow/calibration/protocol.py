"""One beam-hardening correction for all scans of a protocol: the same tube, filter and kind of specimen.

Hardening is a property of the spectrum, and so the same in all of them; how mineral is spread is each bone's own. One
bone that by chance is denser outside looks like hardening; n bones are so by chance in n different ways. So the
equations of all scans (`xrmflow.calibration.homogeneity`), each as means over its voxels of bone, are added up and
solved once. A correction shared by all also cannot take out a difference between groups of bones, as corrections fitted
bone by bone might.

The uncertainty of one bone from noise is what left-out parts of it tell; that of three bones and more is at least what
left-out bones tell (jackknife). The part for bone that really is denser outside is that of one bone divided by the root
of their number, but never by more than three: all mice may have something in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xrmflow.calibration.cupping import CuppingFit, unchanged
from xrmflow.calibration.homogeneity import System, jackknife, solved
from xrmflow.calibration.judgement import judge
from xrmflow.calibration.totals import Totals

# Left-out bones tell something from this many on.
LEAST_BONES = 3
# The least share of one bone's uncertainty of density that is left, however many bones there are.
COMMON_DENSITY = 1 / 3


@dataclass(frozen=True)
class ScanEquations:
    """What a scan brings.

    Attributes:
        system: its equations, or None where nothing like bone was found.
        largest: its largest line integral.
        totals: its second opinion, or None where there is none.
    """

    system: System | None
    largest: float
    totals: Totals | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """By name, for a file."""
        found = {"largest": np.asarray(self.largest)}
        if self.system is not None:
            names = ("matrix", "right", "density", "voxels")
            found |= {name: np.asarray(getattr(self.system, name)) for name in names}
        if self.totals is not None:
            found |= {"totals_matrix": self.totals.matrix, "totals_right": self.totals.right}
        return found

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> "ScanEquations":
        """From arrays by name."""
        largest = float(arrays["largest"])
        if "matrix" not in arrays:
            return cls(None, largest)
        system = System(arrays["matrix"], arrays["right"], arrays["density"], int(arrays["voxels"]))
        totals = Totals(arrays["totals_matrix"], arrays["totals_right"]) if "totals_matrix" in arrays else None
        return cls(system, largest, totals)


def fit_protocol(scans: Sequence[ScanEquations], *, degree: int = 2) -> CuppingFit:
    """One correction from the equations of several scans.

    It holds for scans without bone too: bounds are those of the largest line integral of all.

    Args:
        scans: what each brings.
        degree: of the polynomial, where no scan brings equations.

    Raises:
        ValueError: no scans, or equations of different degrees.
    """
    if not scans:
        raise ValueError("scans: expected at least one, got none")
    largest = max(scan.largest for scan in scans)
    systems = [scan.system for scan in scans if scan.system is not None]
    if not systems:
        text = f"nothing like bone in any of {len(scans)} scans: data left unchanged"
        return unchanged(text, degree=degree, largest=largest)
    degrees = {system.right.shape[-1] + 1 for system in systems}
    if len(degrees) > 1:
        raise ValueError(f"scans: expected equations of one degree, got {sorted(degrees)}")
    matrix = np.stack([system.matrix.sum(axis=(0, 1)) / system.voxels for system in systems])
    right = np.stack([system.right.sum(axis=(0, 1)) / system.voxels for system in systems])
    found = solved(matrix.sum(axis=0), right.sum(axis=0))
    statistical = _statistical(systems, matrix, right)
    density = _of_density(systems, matrix)
    coefficients = (1.0, *(float(c) for c in found))
    opinions = [scan.totals for scan in scans if scan.system is not None and scan.totals is not None]
    totals = Totals.joined(opinions) if opinions else None
    applied, trusted, message = judge(coefficients, statistical, density, largest, totals)
    used = coefficients if applied else (1.0, *[0.0] * len(found))
    before, after = right.sum(axis=0), matrix.sum(axis=0) @ np.asarray(used[1:]) + right.sum(axis=0)
    return CuppingFit(
        coefficients=used,
        found=coefficients,
        uncertainty=tuple(float(e) for e in np.hypot(statistical, density)),
        statistical=tuple(float(e) for e in statistical),
        applied=applied,
        trusted=trusted,
        message=f"{len(systems)} of {len(scans)} scans together: {message}",
        loss=(1.0, float(np.sum(after**2) / max(np.sum(before**2), 1e-30))),
        largest=largest,
    )


def _statistical(systems: list[System], matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Standard deviation of c_2, ...: from each scan's own, and at least from left-out scans."""
    shares = np.linalg.pinv(matrix.sum(axis=0)) @ matrix
    own = sum(share**2 @ system.statistical() ** 2 for share, system in zip(shares, systems, strict=True))
    between = jackknife(matrix, right) if len(systems) >= LEAST_BONES else np.zeros(right.shape[1])
    return np.sqrt(np.maximum(own, between))


def _of_density(systems: list[System], matrix: np.ndarray) -> np.ndarray:
    """Change of c_2, ... if bones really are denser outside, each by chance, and a little all together."""
    density = np.mean([system.density / system.voxels for system in systems], axis=0)
    one = np.abs(solved(matrix.mean(axis=0), density))
    return one * max(1 / np.sqrt(len(systems)), COMMON_DENSITY)
