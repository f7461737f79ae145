"""Homogeneity as a loss that any differentiable correction can be trained on: bone as bright inside as outside.

For a polynomial the equations of `xrmflow.calibration.homogeneity` are solved at once. A module of your own, before or
after the reconstruction, has no such equations; this loss on the volume gives it gradients.
"""

import numpy as np
import torch
from torch import Tensor, nn

from xrmflow.calibration.basis import Slab
from xrmflow.calibration.bone import LEAST_DEPTH, bone_depth, segment_bone
from xrmflow.calibration.cupping import instruments, model_integrals
from xrmflow.calibration.homogeneity import MOST_DEPTH


class Homogeneity(nn.Module):
    """Loss: how much the mean grey value of bone differs with how strongly hardened the rays through it are.

    Voxels of the same depth below the surface of bone are put into bins of equally many by Z, what hardening does to
    this bone. With m_db the mean of the volume in bin b of depth d, m_d that of the depth and n_db voxels in the bin,

        loss = sum_db n_db (m_db - m_d)^2 / (sum_db n_db m^2),   m the mean of all

    is zero for bone as bright inside as outside, whatever its scale. Noise averages out within bins; a loss on single
    voxels (variance, total variation) would rather have less noise than less hardening.

    Args:
        depth: (z, y, x) int, voxels below the surface of bone, 0 outside.
        hardening: (z, y, x) Z, as `instruments` gives it.
        bins: of each depth.

    Raises:
        ValueError: fewer than two bins, arrays of different shapes, no bone as deep as `bone.LEAST_DEPTH`; and, when it
            is called, a volume of another shape.
    """

    index: Tensor
    place: Tensor

    def __init__(self, depth: np.ndarray, hardening: np.ndarray, *, bins: int = 8) -> None:
        super().__init__()
        if bins < 2:
            raise ValueError(f"bins: expected at least 2, got {bins}")
        if hardening.shape != depth.shape:
            raise ValueError(f"hardening: expected the shape of depth, {depth.shape}, got {hardening.shape}")
        chosen = np.flatnonzero(depth.ravel() >= LEAST_DEPTH)
        if not chosen.size:
            raise ValueError(f"depth: expected voxels of bone {LEAST_DEPTH} or more below its surface, got none")
        self.shape = depth.shape
        layer, strength = depth.ravel()[chosen], hardening.ravel()[chosen]
        bin_of = np.zeros(chosen.size, dtype=np.int64)
        for d in np.unique(layer):
            here = np.flatnonzero(layer == d)
            bin_of[here[np.argsort(strength[here], kind="stable")]] = np.arange(here.size) * bins // here.size
        self.bins = bins
        self.register_buffer("place", torch.from_numpy(chosen))
        self.register_buffer("index", torch.from_numpy(layer.astype(np.int64) * bins + bin_of))

    @classmethod
    def of(cls, slab: Slab, *, smoothing_px: float = 1.0, bins: int = 8) -> "Homogeneity":
        """The loss for a scan, its bone found in its own uncorrected reconstruction.

        Raises:
            ValueError: nothing like bone in it.
        """
        volume = slab.basis()[0].cpu().numpy()
        segmented = segment_bone(volume, smoothing_px=smoothing_px)
        if segmented is None:
            raise ValueError("slab: expected bone that stands out of the slices, got none")
        hardening = instruments(model_integrals(volume, *segmented, slab), slab, degree=2)[0]
        return cls(bone_depth(segmented[0]), hardening, bins=bins).to(slab.powers.device)

    def forward(self, volume: Tensor) -> Tensor:
        """Loss of a volume (z, y, x); gradients flow to it."""
        if tuple(volume.shape) != self.shape:
            raise ValueError(f"volume: expected shape {self.shape}, got {tuple(volume.shape)}")
        values = volume.reshape(-1)[self.place].double()
        count = torch.bincount(self.index, minlength=(MOST_DEPTH + 1) * self.bins).double().reshape(-1, self.bins)
        total = torch.zeros_like(count).reshape(-1).index_add(0, self.index, values).reshape(count.shape)
        mean = total / count.clamp(min=1)
        of_depth = total.sum(dim=1, keepdim=True) / count.sum(dim=1, keepdim=True).clamp(min=1)
        return (count * (mean - of_depth) ** 2).sum() / (count.sum() * values.mean() ** 2)
