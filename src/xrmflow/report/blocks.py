"""What a page is made of: plain values that the templates turn into HTML (and escape)."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from markupsafe import Markup

State = Literal["pass", "look", "fail", "info"]


@dataclass(frozen=True)
class Picture:
    """A grey or colour picture.

    Attributes:
        uri: the image as a data URI.
        width, height: its size, pixels.
        alt: what is seen, for those who do not see it.
        caption: one line below it.
        axes: which way the axes run, e.g. "x →, y ↑".
        bar_fraction, bar_label: scale bar as a part of the width, and its length with unit; 0 draws none.
        sharp: show pixels as squares (few of them, magnified) rather than interpolated.
    """

    uri: str
    width: int
    height: int
    alt: str
    caption: str
    axes: str = ""
    bar_fraction: float = 0.0
    bar_label: str = ""
    sharp: bool = False
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side under one heading."""

    title: str
    pictures: list[Picture]
    note: str = ""
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Slider:
    """A slice slider: frames[volume][position] are data URIs of slices at the same heights."""

    title: str
    volumes: list[str]
    frames: list[list[Picture]]
    note: str = ""
    kind: ClassVar[str] = "slider"


@dataclass(frozen=True)
class Plot:
    """A line drawing as inline SVG."""

    title: str
    svg: Markup
    alt: str
    note: str = ""
    kind: ClassVar[str] = "plot"


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `value` is the unrounded number as text, shown as a tool tip."""

    text: str
    value: str = ""
    state: State | Literal[""] = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title, columns, rows, note: what it says.
        numeric: positions of the columns set flush right.
        download: (file name, CSV text) offered as a link.
        folded: shown closed, opened by a click (and printed).
    """

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    numeric: frozenset[int] = frozenset()
    note: str = ""
    download: tuple[str, str] | None = None
    folded: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Facts:
    """Names and values, in columns, or in a `single` one."""

    title: str
    items: list[tuple[str, str]]
    single: bool = False
    folded: bool = False
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Text:
    """A paragraph; `state` draws a mark beside it."""

    text: str
    state: State | Literal[""] = ""
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class NotRun:
    """A step that has nothing to show, and why."""

    what: str
    reason: str
    kind: ClassVar[str] = "notrun"


@dataclass(frozen=True)
class Check:
    """One line of the summary: what was looked at, how it came out, in words."""

    name: str
    state: State
    text: str


@dataclass(frozen=True)
class Checks:
    """The summary of checks."""

    title: str
    items: list[Check]
    kind: ClassVar[str] = "checks"


Block = Picture | Gallery | Slider | Plot | Table | Facts | Text | NotRun | Checks


@dataclass(frozen=True)
class Section:
    """A chapter of the page."""

    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    intro: str = ""
