"""Open-beam normalisation: the air beside the object shows how bright the source was in each view."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Air is level: the outer and the inner half of a margin agree to this fraction, and to this many standard errors.
LEVEL = 0.003
STANDARD_ERRORS = 4.0
# Flats and projections are taken minutes apart: air farther from one than this is not believed to be air.
NEAR_ONE = 0.15


@dataclass(frozen=True)
class Margins:
    """How many columns at the left and right edge show air in all views (0: none)."""

    left: int
    right: int

    def columns(self, cols: int) -> Tensor:
        """Column indices of both margins."""
        return torch.cat([torch.arange(self.left), torch.arange(cols - self.right, cols)])


def find_margins(transmitted: Tensor, *, width: int) -> Margins:
    """Which edges of the detector see air throughout.

    Args:
        transmitted: (view, row, col) transmitted fraction of some rows.
        width: columns at each edge that are looked at.

    Returns:
        `width` or 0 for each edge. An edge is air when its outer and inner half have the same mean over the scan and
        it is near the open beam in each view.
    """
    cols = transmitted.shape[2]
    if not 2 <= width <= cols // 2:
        raise ValueError(f"width: expected 2 to {cols // 2} columns, got {width}")
    left, right = transmitted[:, :, :width], transmitted[:, :, -width:].flip(2)
    return Margins(*(width if _is_air(edge) else 0 for edge in (left, right)))


def _is_air(edge: Tensor) -> bool:
    half = edge.shape[2] // 2
    # A view's mean over rows: each half is one number a view, compared as a pair, so that source flicker cancels.
    outer, inner = edge[:, :, :half].mean(dim=(1, 2)), edge[:, :, half:].mean(dim=(1, 2))
    difference = (inner - outer) / outer.clamp_min(1e-6)
    error = float(difference.std()) / edge.shape[0] ** 0.5 if edge.shape[0] > 1 else 0.0
    level = abs(float(difference.mean())) < max(LEVEL, STANDARD_ERRORS * error)
    # Part of the object that enters in some views only shows in those views.
    spread = float((difference - difference.median()).abs().median())
    intruded = float(difference.min() - difference.median()) < -max(3 * LEVEL, 8 * spread)
    near = float((edge.mean(dim=(1, 2)) - 1).abs().max()) < NEAR_ONE
    return level and near and not intruded


def beam_scale(transmitted: Tensor, margins: Margins) -> Tensor | None:
    """Brightness of the source in each view relative to the flats, from the margins; None when neither is air.

    A scatter over views no larger than the noise of the margin itself is not believed: the scan then has one scale.

    Args:
        transmitted: (view, row, col) transmitted fraction of some rows.
        margins: from `find_margins`.

    Returns:
        (view,) dimensionless.
    """
    chosen = margins.columns(transmitted.shape[2]).to(transmitted.device)
    if not chosen.numel():
        return None
    air = transmitted.index_select(2, chosen).flatten(1)
    scale = air.mean(dim=1)
    noise = air.std(dim=1).median() / air.shape[1] ** 0.5
    if scale.shape[0] > 1 and not scale.std() > 2 * noise:
        return scale.mean().expand_as(scale)
    return scale
