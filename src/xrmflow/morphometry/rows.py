"""Lines of the tables."""

from typing import Any

import numpy as np

from xrmflow.morphometry.scale import Scale

Row = dict[str, Any]
COLUMNS = ("scan", "volume", "compartment", "symbol", "name", "value", "unit", "method", "note")
"""Of the table of bone numbers, of one scan or of many."""
SLICE_COLUMNS = ("z", "z_mm", "TA", "BA", "BA_TA", "area_unit")
LACUNA_COLUMNS = (
    "id",
    *("x_mm", "y_mm", "z_mm"),
    *("volume_um3", "grey_volume_um3"),
    *("semi_axis_long_um", "semi_axis_middle_um", "semi_axis_short_um"),
    *("x_voxel", "y_voxel", "z_voxel"),
    *("volume_voxels", "grey_volume_voxels"),
    *("semi_axis_long_voxels", "semi_axis_middle_voxels", "semi_axis_short_voxels"),
    *("stretch", "oblateness", "touching_border"),
)


def row(symbol: str, name: str, value: float | None, unit: str, method: str = "", note: str = "") -> Row:
    """One line of the table; a value that is not known is None."""
    known = value is not None and np.isfinite(value)
    return {"symbol": symbol, "name": name, "value": float(value) if known else None, "unit": unit} | {  # type: ignore[arg-type]
        "method": method,
        "note": note if known or note else "skipped: nothing to measure",
    }


def fraction_name(scale: Scale) -> str:
    """What a volume fraction above a threshold is, with and without a calibration."""
    return "bone volume fraction" if scale.calibrated else "mineralised fraction"


def uncalibrated(scale: Scale) -> str:
    """The word that stays with data without a voxel size, all the way to the table."""
    return "" if scale.calibrated else "uncalibrated"


def noted(scale: Scale, text: str) -> str:
    """A note, after that word where it belongs."""
    return "; ".join(filter(None, (uncalibrated(scale), text)))
