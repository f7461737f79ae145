"""How plots look: thin, quiet, readable on light and dark pages, the same bytes for the same numbers."""

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, NullFormatter

INK = "#010203"
"""Drawn as the page's text colour, whatever that is."""

SERIES = ("#2f7ed8", "#e07b39", "#3a9d5d", "#a05ac8", "#c94f6d")
"""One colour a volume or curve; distinguishable without red-green vision and legible on white and on near-black."""

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xrmflow",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.prop_cycle": cycler(color=SERIES),
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def plain_powers(axis: Axis) -> None:
    """Label the decades of a logarithmic axis in plain text (10⁻³): the page draws text, not formulas."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    axis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    exponent = round(math.log10(value))
    if 0 <= exponent < 4 or exponent in (-1, -2):
        return f"{value:g}"
    return "10" + str(exponent).translate(SUPERSCRIPTS)


@contextmanager
def drawing(width_in: float = 5.0, height_in: float = 2.9) -> Iterator[Figure]:
    """A figure in the report's style; nothing global is changed."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def svg(figure: Figure) -> Markup:
    """The figure as inline SVG that takes its ink from the page (`currentColor`).

    The text comes from matplotlib, which escapes it.
    """
    buffer = io.StringIO()
    with mpl.rc_context(SETTINGS):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = text.replace(INK, "currentColor").replace("xlink:href", "href")
    text = re.sub(r"(font: )?([\d.]+px) [^;\"]*sans-serif[^;\"]*", r"font-size: \2", text)
    return Markup(re.sub(r"\n\s*", "\n", text))
