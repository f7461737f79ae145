"""Stage validate: the results of a simulated scan against its truth."""

from pathlib import Path

import numpy as np

from xrmflow.config.validate import ValidateSection
from xrmflow.io.documents import read_document
from xrmflow.io.stores import Volume, open_volume
from xrmflow.io.tables import number, read_table, write_table
from xrmflow.phantom import checks
from xrmflow.phantom.checks import Known, Limits, Row

OTHER_GRID = "reconstructed on another grid than the truth"
THICKNESS = {"Tb.Th": "bone_mean", "Tb.Sp": "marrow_mean"}


def run(
    *,
    truth: Path,
    geometry: Path,
    volume: Path,
    iterative: Path | None,
    denoised: Path | None,
    superres: Path | None,
    bones: list[Path],
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
        iterative: the iterative reconstruction, if there is one.
        denoised: the denoised volume, if there is one.
        superres: the super-resolved volume, if there is one.
        bones: masks, named like their volumes; they tell which slices are measured.
        morphometry: tables of indices, named like their volumes.
        lacunae: tables of lacunae, named like their volumes followed by _lacunae.
        validation: where to write the comparison.
        params: the settings section.
    """
    known, limits = _known(truth), Limits(**params.model_dump())
    given = {"volume": volume, "iterative": iterative, "denoised": denoised, "superres": superres}
    volumes = {name: _opened(path) for name, path in given.items()}
    rows = checks.geometry_rows(read_document(geometry, "geometry")["acquisition"], known, limits)
    rows += _attenuation_rows(volumes, known, limits)
    rows += _measured_rows(morphometry, lacunae, [open_volume(path, "label") for path in bones], known, limits)
    rows += _denoising_rows(volumes["volume"], volumes["denoised"], known, limits)
    rows.append(_superres_row(volumes["denoised"] or volumes["volume"], volumes["superres"], known, limits))
    scan = validation.resolve().parent.name
    write_table(validation, [{"scan": scan} | row for row in rows], columns=checks.COLUMNS)


def _known(truth: Path) -> Known:
    own, fine = (open_volume(truth.parent / f"{name}.zarr", "attenuation_per_mm") for name in ("truth", "truth_fine"))
    return Known(
        record=read_document(truth, "truth"),
        grid=own.grid,
        fine_grid=fine.grid,
        attenuation=own.data,
        reference=own.arrays.get("fdk_reference"),
        fine_attenuation=fine.data,
        fine_labels=fine.arrays["labels"],
    )


def _opened(path: Path | None) -> Volume | None:
    """A volume, or None where there is none."""
    return None if path is None else open_volume(path, "attenuation_per_mm")


def _attenuation_rows(volumes: dict[str, Volume | None], known: Known, limits: Limits) -> list[Row]:
    """Mean attenuation of the volumes of the scan's own voxel size."""
    rows = []
    for name in ("volume", "iterative", "denoised"):
        found = volumes[name]
        if found is not None and found.grid.matches(known.grid):
            rows.append(checks.attenuation_row(name, found.data, known, limits))
        elif found is not None:
            rows.append(checks.not_run(checks.ATTENUATION, name, OTHER_GRID))
    return rows


def _measured_heights(bone: Volume) -> tuple[float, float]:
    """Lower and upper end of the volume of interest, mm."""
    first, stop = bone.record["segmentation"]["voi_slices"]
    return bone.grid.face_mm(first), bone.grid.face_mm(stop)


def _measured_rows(
    tables: list[Path], lacunae: list[Path], bones: list[Volume], known: Known, limits: Limits
) -> list[Row]:
    """Indices of every volume; the noisy one is judged only where there is no better."""
    rows: list[Row] = []
    found = {path.stem.removesuffix("_lacunae"): path for path in lacunae}
    masks = {bone.path.stem: bone for bone in bones}
    for path in tables:
        name, judge = path.stem, path.stem != "volume" or len(tables) == 1
        heights = _measured_heights(masks[name])
        if known.grid.covers_same(masks[name].grid):
            value = _index(path, "BV/TV")
            rows.append(checks.bone_fraction_row(name, value, heights, known, limits, judge=judge))
        else:
            rows.append(checks.not_run("BV/TV", name, OTHER_GRID))
        for symbol, key in THICKNESS.items():
            rows += checks.thickness_rows(name, symbol, _index(path, symbol), known, key=key)
        if name in found:
            rows.append(checks.lacuna_row(name, _points(found[name]), heights, known, limits, judge=judge))
    return rows


def _index(table: Path, symbol: str) -> float | None:
    """The first value of a symbol: that of the whole bone."""
    return next((number(row["value"]) for row in read_table(table) if row["symbol"] == symbol), None)


def _points(table: Path) -> np.ndarray:
    rows = read_table(table)
    return np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in rows]).reshape(-1, 3)


def _denoising_rows(noisy: Volume | None, denoised: Volume | None, known: Known, limits: Limits) -> list[Row]:
    """What the network gains over conventional filters."""
    if noisy is None or denoised is None:
        return [checks.not_run("PSNR above best filter", "denoised", "no denoised volume")]
    if not (noisy.grid.matches(known.grid) and denoised.grid.matches(known.grid)):
        return [checks.not_run("PSNR above best filter", "denoised", OTHER_GRID)]
    return checks.denoising_rows(noisy.data, denoised.data, known, limits)


def _superres_row(source: Volume | None, superres: Volume | None, known: Known, limits: Limits) -> Row:
    """What the network gains over interpolation of the volume it was given."""
    if source is None or superres is None:
        return checks.not_run(checks.SUPERRES, "superres", "no super-resolved volume")
    if not (source.grid.matches(known.grid) and superres.grid.matches(known.fine_grid)):
        return checks.not_run(checks.SUPERRES, "superres", OTHER_GRID)
    return checks.superres_row(source.data, superres.data, known, limits)
