"""Stage validate: the results of a simulated scan against its truth."""

from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.config.validate import ValidateSection
from xrmflow.io.documents import read_document
from xrmflow.io.stores import open_volume
from xrmflow.io.tables import number, read_table, write_table
from xrmflow.phantom import checks
from xrmflow.phantom.checks import Known, Limits, Row

THICKNESS = {"Tb.Th": "bone_mean", "Tb.Sp": "marrow_mean"}


def run(
    *,
    truth: Path,
    geometry: Path,
    volume: Path,
    denoised: Path | None,
    superres: Path | None,
    bone: Path,
    morphometry: list[Path],
    lacunae: list[Path],
    validation: Path,
    params: ValidateSection,
) -> None:
    """Compare the results of a simulated scan with its truth.

    Args:
        truth: truth.json of the scan; its volumes lie beside it.
        geometry: document of the fitted geometry.
        volume: the reconstructed volume.
        denoised: the denoised volume, if there is one.
        superres: the super-resolved volume, if there is one.
        bone: masks of the volume; they tell which slices are measured.
        morphometry: tables of indices, named like their volumes.
        lacunae: tables of lacunae, named like their volumes followed by _lacunae.
        validation: where to write the comparison.
        params: the settings section.
    """
    known, limits = _known(truth), Limits(**params.model_dump())
    volumes = {"volume": _data(volume), "denoised": _data(denoised), "superres": _data(superres)}
    rows = checks.geometry_rows(read_document(geometry, "geometry")["acquisition"], known, limits)
    rows += [
        checks.attenuation_row(name, volumes[name], known, limits)
        for name in ("volume", "denoised")
        if volumes[name] is not None
    ]
    rows += _measured_rows(morphometry, lacunae, _measured_slices(bone), known, limits)
    rows += _network_rows(volumes, known, limits)
    scan = validation.resolve().parent.name
    write_table(validation, [{"scan": scan} | row for row in rows], columns=checks.COLUMNS)


def _known(truth: Path) -> Known:
    own, fine = (open_volume(truth.parent / f"{name}.zarr", "attenuation_per_mm") for name in ("truth", "truth_fine"))
    reference = own.arrays.get("fdk_reference")
    return Known(
        record=read_document(truth, "truth"),
        grid=own.grid,
        attenuation=np.asarray(own.data[...]),
        reference=None if reference is None else np.asarray(reference[...]),
        fine_attenuation=np.asarray(fine.data[...]),
        fine_labels=np.asarray(fine.arrays["labels"][...]),
    )


def _data(path: Path | None) -> Any:
    """A volume, or None where there is none."""
    return None if path is None else np.asarray(open_volume(path, "attenuation_per_mm").data[...])


def _measured_slices(bone: Path) -> slice:
    """The slices of the volume of interest."""
    inside = np.flatnonzero((np.asarray(open_volume(bone, "label").data[...]) > 0).any(axis=(1, 2)))
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _measured_rows(tables: list[Path], lacunae: list[Path], slices: slice, known: Known, limits: Limits) -> list[Row]:
    """Indices of every volume; the noisy one is judged only where there is no better."""
    rows: list[Row] = []
    found = {path.stem.removesuffix("_lacunae"): path for path in lacunae}
    for path in tables:
        judge = path.stem != "volume" or len(tables) == 1
        value = _index(path, "BV/TV")
        rows.append(checks.bone_fraction_row(path.stem, value, slices, known, limits, judge=judge))
        for symbol, key in THICKNESS.items():
            rows += checks.thickness_rows(path.stem, symbol, _index(path, symbol), known, key=key)
        if path.stem in found:
            points = _points(found[path.stem])
            rows.append(checks.lacuna_row(path.stem, points, known, limits, slices, judge=judge))
    return rows


def _index(table: Path, symbol: str) -> float | None:
    """The first value of a symbol: that of the whole bone."""
    return next((number(row["value"]) for row in read_table(table) if row["symbol"] == symbol), None)


def _points(table: Path) -> np.ndarray:
    rows = read_table(table)
    return np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in rows]).reshape(-1, 3)


def _network_rows(volumes: dict[str, Any], known: Known, limits: Limits) -> list[Row]:
    """What the networks gain over conventional filters."""
    noisy, denoised, superres = volumes["volume"], volumes["denoised"], volumes["superres"]
    if denoised is None:
        rows = [checks.not_run("PSNR above best filter", "denoised", "no denoised volume")]
    else:
        rows = checks.denoising_rows(noisy, denoised, known, limits)
    if superres is None:
        return [*rows, checks.not_run("PSNR above cubic interpolation", "superres", "no super-resolved volume")]
    return [*rows, checks.superres_row(noisy if denoised is None else denoised, superres, known, limits)]
