"""The chain from detector counts to attenuation as one differentiable call.

Every step is a torch module with gradients to its input and its parameters, so a loss on the volume reaches the raw
counts, the flats, the darks, the beam-hardening coefficients, and a user's own modules before and after the
reconstruction. The workflow's stages do the same with three more steps that have no gradient: outliers, dead
pixels and rings (`xrmflow.correction`). They are left out here and can be put in as `repair`, a module that maps
transmission to transmission; and the centre, which `xrmflow.calibration.centre` finds, enters as the geometry.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from xrmflow.calibration.polynomial import linearise
from xrmflow.correction.transmission import MINIMUM_TRANSMISSION, line_integrals, open_beam, transmission
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.geometry.scan import ScanGeometry
from xrmflow.reconstruction.fdk import fdk
from xrmflow.reconstruction.filters import Window

Step = Callable[[Tensor], Tensor]


class ToLineIntegrals(nn.Module):
    """Counts (view, row, col) to line integrals: dark and flat, then the logarithm.

    Args:
        flats: (n, row, col) or (row, col) grey levels with no object in the beam.
        darks: (n, row, col) or (row, col) grey levels with no beam; None when the detector subtracts them.
        exposure_ratio: exposure of a projection over that of a flat.
        photons_per_count: detector gain; with it the logarithm is unbiased at low counts.
        minimum_transmission: floor of the transmission where the gain is not known.
        repair: maps transmission to transmission, for outliers, dead pixels or rings.
    """

    def __init__(
        self,
        flats: Tensor,
        darks: Tensor | None = None,
        *,
        exposure_ratio: float = 1.0,
        photons_per_count: float | None = None,
        minimum_transmission: float = MINIMUM_TRANSMISSION,
        repair: Step | None = None,
    ) -> None:
        super().__init__()
        self.flats, self.darks = flats, darks
        self.exposure_ratio, self.photons_per_count = exposure_ratio, photons_per_count
        self.minimum_transmission, self.repair = minimum_transmission, repair

    def forward(self, counts: Tensor) -> Tensor:
        """Line integrals (view, row, col), dimensionless."""
        dark = torch.zeros_like(counts[0]) if self.darks is None else _frame("darks", self.darks, counts)
        beam = open_beam(_frame("flats", self.flats, counts), dark, exposure_ratio=self.exposure_ratio)
        transmitted = transmission(counts, dark, beam)
        if self.repair is not None:
            transmitted = self.repair(transmitted)
        photons = None if self.photons_per_count is None else beam * self.photons_per_count
        return line_integrals(transmitted, photons, minimum_transmission=self.minimum_transmission)


class Linearise(nn.Module):
    """The beam-hardening polynomial with trainable coefficients; the slope at zero stays one.

    Args:
        coefficients: (c_2, c_3, …) of p' = p + c_2 p^2 + c_3 p^3 + …, dimensionless.
    """

    def __init__(self, coefficients: Sequence[float] = (0.0,)) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.tensor(coefficients, dtype=torch.float64))

    def forward(self, measured: Tensor) -> Tensor:
        """Corrected line integrals of the same shape."""
        c = self.coefficients.to(measured)
        return linearise(measured, torch.cat([torch.ones_like(c[:1]), c]))


def reconstruct(
    counts: Tensor,
    flats: Tensor,
    darks: Tensor | None,
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    cupping: Step | None = None,
    before: Step | None = None,
    after: Step | None = None,
    window: Window = "ram-lak",
    exposure_ratio: float = 1.0,
    photons_per_count: float | None = None,
    repair: Step | None = None,
) -> Tensor:
    """Attenuation from raw counts: after(FDK(before(cupping(-ln((counts - dark) / (flat - dark)))))).

    Args:
        counts: (view, row, col) grey levels, floating point.
        flats, darks: see `ToLineIntegrals`.
        geometry: where source and detector are in each view, mm.
        grid: where to reconstruct, mm.
        cupping: maps line integrals to line integrals, e.g. `Linearise`.
        before: your own module on line integrals (view, row, col).
        after: your own module on the volume (z, y, x).
        window: of the ramp filter.
        exposure_ratio, photons_per_count, repair: see `ToLineIntegrals`.

    Returns:
        (z, y, x) attenuation per mm, or whatever `after` makes of it.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    steps = ToLineIntegrals(
        flats, darks, exposure_ratio=exposure_ratio, photons_per_count=photons_per_count, repair=repair
    )
    values = steps(counts)
    for step in (cupping, before):
        values = values if step is None else step(values)
    volume = fdk(values, geometry, grid, window=window)
    return volume if after is None else after(volume)


def _frame(name: str, frames: Tensor, counts: Tensor) -> Tensor:
    frame = frames.mean(dim=0) if frames.ndim == 3 else frames
    if frame.shape != counts.shape[1:]:
        raise ValueError(f"{name}: expected frames of {tuple(counts.shape[1:])} pixels, got {tuple(frame.shape)}")
    return frame
