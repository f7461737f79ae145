"""Put everything about a scan on one self-contained page."""

from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from xrmflow.config.report import ReportSection
from xrmflow.io.manifest import write_durably
from xrmflow.report.page import page
from xrmflow.report.results import open_results


def run(
    *,
    flatfield: Path | None,
    views: Path | None,
    geometry: Path | None,
    sweep: Path | None,
    cupping: Path | None,
    cupping_slices: Path | None,
    volumes: list[Path],
    bones: list[Path],
    tables: list[Path],
    slice_tables: list[Path],
    lacuna_tables: list[Path],
    models: list[Path],
    validation: Path | None,
    report: Path,
    params: ReportSection,
    own_settings: Path | None = None,
) -> None:
    """Put pictures, curves, numbers, notes and provenance of a scan on one page.

    Args:
        flatfield: document of the detector correction; None, as all documents before it, for an imported volume.
        views: picture archive of the detector correction.
        geometry: document of the fitted geometry.
        sweep: picture archive of the centre sweep.
        cupping: document of the beam hardening correction.
        cupping_slices: picture archive of the beam hardening correction.
        volumes: volume stores, as many as exist.
        bones: mask stores, named like their volumes.
        tables: metrics, named like their volumes.
        slice_tables: values per slice.
        lacuna_tables: values per lacuna.
        models: cards of the networks that were applied.
        validation: comparison with the truth, for simulated scans.
        report: the page; its folder is named after the scan.
        params: the settings section.
        own_settings: file with settings of this scan alone.
    """
    results = open_results(
        scan=report.resolve().parent.name,
        flatfield=flatfield,
        views=views,
        geometry=geometry,
        sweep=sweep,
        cupping=cupping,
        cupping_slices=cupping_slices,
        volumes=volumes,
        bones=bones,
        tables=tables,
        slice_tables=slice_tables,
        lacuna_tables=lacuna_tables,
        models=models,
        validation=validation,
        own_settings=own_settings,
    )
    text = page(results, params, version=version("xrmflow"), created=datetime.now().astimezone())
    report.parent.mkdir(parents=True, exist_ok=True)
    write_durably(report, text)
