"""The numbers of a whole scan that `align` can fit, and how little is known of them beforehand.

A change of the distance of source and detector keeps their magnification, so the source's distance of the axis goes
along and voxels keep their size: that of the object is a gauge, what data may hold is the angle of the cone.

No circular scan tells a tilt, but that of a slanted detector also skews its image, by the product of both angles: the
skew is fitted in place of it, to within what tilts and slants of a degree or two make.
"""

from dataclasses import dataclass, replace
from typing import Any

from xrmflow.geometry.acquisition import Acquisition


@dataclass(frozen=True)
class Number:
    """What is known of a number before a fit.

    Attributes:
        unit: px, deg or mm.
        prior: standard deviation of its Gaussian prior about the nominal value.
        largest: step that a fit may take at once.
        difference: step of central differences.
        bias: how much more than other numbers it takes up of what reconstructions leave.
        tight: whether the prior says so much that the number is fitted under it whatever data hold.
        gauge: whether no data hold it: it stays nominal.
    """

    unit: str
    prior: float
    largest: float
    difference: float
    bias: float = 1.0
    tight: bool = False
    gauge: bool = False


NUMBERS = {
    "centre_px": Number("px", prior=20.0, largest=8.0, difference=0.5),
    "roll_deg": Number("deg", prior=2.0, largest=2.0, difference=0.1),
    "tilt_deg": Number("deg", prior=1.5, largest=1.0, difference=0.5, gauge=True),
    "slant_deg": Number("deg", prior=1.5, largest=1.0, difference=0.5),
    # Tilt times slant, as small as that.
    "skew_deg": Number("deg", prior=0.04, largest=0.1, difference=0.1, tight=True),
    "midplane_px": Number("px", prior=1.0, largest=5.0, difference=0.5, bias=2.0),
    # Shares of the nominal length.
    "source_to_detector_mm": Number("mm", prior=0.02, largest=0.02, difference=0.005, bias=4.0),
}
# Those that move and turn the detector only.
DETECTOR = ("centre_px", "roll_deg", "tilt_deg", "slant_deg", "skew_deg")


def number_of(acquisition: Acquisition, name: str) -> Number:
    """A number's record for a scan: lengths in mm."""
    known = NUMBERS[name]
    if known.unit != "mm":
        return known
    length = float(getattr(acquisition, name))
    return replace(
        known, prior=known.prior * length, largest=known.largest * length, difference=known.difference * length
    )


def fittable(acquisition: Acquisition, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those that a scan has at all: parallel rays have no distances, few rows show no more than the centre."""
    if acquisition.rows < 8:
        return tuple(name for name in names if name == "centre_px")
    return tuple(name for name in names if getattr(acquisition, name) is not None)


def changed(acquisition: Acquisition, changes: dict[str, float]) -> Acquisition:
    """The acquisition with numbers changed by so much."""
    fields: dict[str, Any] = {name: getattr(acquisition, name) + by for name, by in changes.items()}
    if "source_to_detector_mm" in fields:
        share = fields["source_to_detector_mm"] / float(acquisition.source_to_detector_mm or 1)
        fields["source_to_axis_mm"] = float(acquisition.source_to_axis_mm or 0) * share
    return replace(acquisition, **fields)
