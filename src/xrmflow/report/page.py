"""The page: which blocks stand in which chapter, rendered to one HTML text."""

from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from xrmflow.config.report import ReportSection
from xrmflow.report import bone, corrections, record, volumes
from xrmflow.report.blocks import Block, Cell, Checks, Facts, NotRun, Section, Table, Text
from xrmflow.report.checks import checks, worst
from xrmflow.report.glossary import entries
from xrmflow.report.methods import NOT_STATED, checklist, paragraph
from xrmflow.report.results import Results
from xrmflow.report.volumes import Shown

TEMPLATES = Path(__file__).parent / "templates"
OF_RAW_FRAMES = ("detector", "centre", "cupping", "networks")
"""What a volume that was reconstructed elsewhere has nothing to say about."""
SMALLER, LEAST_PX = 0.95, 160
"""Pictures of a page that is too large shrink by this beyond what their area asks for, down to this edge (pixels)."""


def page(results: Results, params: ReportSection, *, version: str, created: datetime) -> str:
    """The report as one HTML text without any outside resource.

    Args:
        results: the opened results of a scan.
        params: how it should look.
        version: of the package, for the header and the methods paragraph.
        created: written in the header; the page is otherwise the same for the same results.
    """
    shown = volumes.read_shown(results.volumes, params.slices_shown, params.picture_px)
    while True:
        text = _render(results, shown, params, version=version, created=created)
        excess = len(text) / (params.page_megabytes * 1e6)
        smaller = int(params.picture_px * min(SMALLER, SMALLER / excess**0.5))
        if excess <= 1 or smaller < LEAST_PX:
            return text
        params = params.model_copy(update={"picture_px": smaller})


def _render(results: Results, shown: list[Shown], params: ReportSection, *, version: str, created: datetime) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["csv_uri"] = lambda text: f"data:text/csv;charset=utf-8,{quote(text)}"
    summary = checks(results, params)
    return environment.get_template("page.html.jinja").render(
        title=params.title or f"Bone report of {results.scan}",
        scan=results.scan,
        version=version,
        created=created.strftime("%d %B %Y, %H:%M %Z").lstrip("0"),
        simulated=results.simulated,
        calibrated=results.calibrated,
        overall=worst(summary),
        sections=_sections(results, shown, params, Checks("Checks", summary), version),
        css=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup((TEMPLATES / "slider.js").read_text(encoding="utf-8")),
    )


def _sections(
    results: Results, shown: list[Shown], params: ReportSection, summary: Checks, version: str
) -> list[Section]:
    window = volumes.common_window(shown, params) if shown else (0.0, 1.0)
    sections = [
        Section("summary", "Summary", [summary]),
        Section("slices", "Slices", _pictures(shown, window, params)),
        Section("numbers", "Numbers", bone.metrics(results, params)),
        Section(
            "truth", f"Comparison with the truth{' (SIMULATED)' if results.simulated else ''}", bone.truth(results)
        ),
        Section("bone", "Segmentation", _segmentation(results, shown, window, params)),
        Section("distributions", "Distributions", bone.distributions(results)),
        Section("detector", "Detector correction", corrections.detector(results, params)),
        Section("centre", "Centre of rotation", _geometry(results, params)),
        Section("cupping", "Beam hardening", corrections.hardening(results, params)),
        Section("networks", "Networks", _networks(results, shown, window, params)),
        Section("notes", "Notes and assumptions", record.remarks(results)),
        Section("methods", "Methods", _methods(results, params, version)),
        Section("acquisition", "Acquisition and settings", [*record.acquisition(results), *record.settings(results)]),
        Section("provenance", "Provenance", record.provenance(results)),
        Section("glossary", "Glossary", [_glossary(results)]),
    ]
    return [section for section in sections if not (results.imported and section.id in OF_RAW_FRAMES)]


def _geometry(results: Results, params: ReportSection) -> list[Block]:
    return [*corrections.centre(results, params), *corrections.motion(results), *corrections.pose(results)]


def _pictures(shown: list[Shown], grey_window: tuple[float, float], params: ReportSection) -> list[Block]:
    if not shown:
        return [NotRun("Reconstruction", "no volume was written")]
    blocks: list[Block] = [Text(f"Anatomy: {params.anatomical_axes}.")] if params.anatomical_axes else []
    blocks += [Text("Axes are the scanner's: z is the rotation axis; an axial slice is seen against it, from +z.")]
    return [
        *blocks,
        volumes.slider(shown, grey_window, params),
        *(volumes.orthoslices(one, grey_window, params) for one in shown),
    ]


def _segmentation(
    results: Results, shown: list[Shown], grey_window: tuple[float, float], params: ReportSection
) -> list[Block]:
    return [*bone.grey_levels(results, shown), *bone.masks(results, shown, grey_window, params)]


def _networks(
    results: Results, shown: list[Shown], grey_window: tuple[float, float], params: ReportSection
) -> list[Block]:
    blocks: list[Block] = [volumes.zooms(shown, grey_window, params)] if len(shown) > 1 else []
    blocks += corrections.network("n2i", "Noise2Inverse", "denoised", results)
    return blocks + corrections.network("sr", "Super-resolution", "superres", results)


def _methods(results: Results, params: ReportSection, version: str) -> list[Block]:
    items = checklist(results, params)
    missing = [name for name, value in items if value == NOT_STATED]
    text = (
        f"{len(missing)} of {len(items)} items are not stated: {', '.join(missing)}."
        if missing
        else "Every item is stated."
    )
    return [
        Text(paragraph(results, params, version=version)),
        Text(f"Checklist of Bouxsein et al. (2010). {text}", "look" if missing else "pass"),
        Facts("", items, single=True),
    ]


def _glossary(results: Results) -> Block:
    symbols = {row["symbol"] for rows in results.metrics.values() for row in rows} | (
        {"BA/TA"} if results.slices else set()
    )
    rows = [[Cell(text) for text in entry] for entry in entries(symbols)]
    return Table("", ["Symbol", "Name", "Meaning"], rows) if rows else NotRun("Glossary", "no metric to explain")
