"""The results of one scan, opened: the only part of the report that reads files."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xrmflow.config.loader import read_settings
from xrmflow.errors import StoreError
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.documents import read_document
from xrmflow.io.manifest import store_folder
from xrmflow.io.stores import Volume, open_volume
from xrmflow.io.tables import read_table

Row = dict[str, str]

VOLUME_NAMES = {
    "volume": "FDK",
    "iterative": "iterative",
    "denoised": "denoised",
    "superres": "super-resolved",
}
"""Stores of a scan in the order shown, and what a reader calls them; the first is what the others are compared with."""

QUANTITIES = ("attenuation_per_mm", "attenuation_per_voxel")


@dataclass(frozen=True)
class Results:
    """Everything the report shows. Stores are open but unread; a part that was not run is None or empty.

    Attributes:
        scan: the scan's id.
        flatfield, geometry, cupping: documents; the first also tells how the scan was taken. Empty for a volume that
            was imported.
        views, sweep, cupping_slices: pictures of the correction and of the two calibrations, arrays by name.
        volumes, bones: stores by volume name.
        metrics, slices, lacunae: rows of the tables by volume name, every field as written.
        models: model cards by name ("n2i", "sr").
        validation: rows of the comparison with the truth; empty for measured scans.
        own_file, own: name of the file with settings of this scan alone, and those settings by section and key.
    """

    scan: str
    flatfield: dict[str, Any] = field(default_factory=dict)
    geometry: dict[str, Any] = field(default_factory=dict)
    views: dict[str, np.ndarray] = field(default_factory=dict)
    sweep: dict[str, np.ndarray] = field(default_factory=dict)
    cupping: dict[str, Any] | None = None
    cupping_slices: dict[str, np.ndarray] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    bones: dict[str, Volume] = field(default_factory=dict)
    metrics: dict[str, list[Row]] = field(default_factory=dict)
    slices: dict[str, list[Row]] = field(default_factory=dict)
    lacunae: dict[str, list[Row]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    validation: list[Row] = field(default_factory=list)
    own_file: str = ""
    own: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def acquisition(self) -> Acquisition | None:
        """The geometry the scan was taken in, as read from the raw file and the settings; None for imported volumes."""
        return Acquisition.from_dict(self.flatfield["acquisition"]) if self.flatfield else None

    @property
    def imported(self) -> dict[str, Any]:
        """What the file said of a volume that was reconstructed elsewhere; empty for scans."""
        return next((volume.record["loaded"] for volume in self.volumes.values() if "loaded" in volume.record), {})

    @property
    def raw(self) -> dict[str, Any]:
        """What the raw file, or that of an imported volume, said: format, source, metadata, notes."""
        return self.flatfield.get("raw") or self.imported

    @property
    def corrections(self) -> dict[str, Any]:
        """Statistics of the detector correction."""
        return self.flatfield.get("flatfield") or {}

    @property
    def calibrated(self) -> bool:
        """Whether lengths are known: every volume has a voxel size, or, without volumes, the acquisition has."""
        if self.volumes:
            return all(volume.calibrated for volume in self.volumes.values())
        return self.acquisition is not None and self.acquisition.calibrated

    @property
    def simulated(self) -> bool:
        """Whether a truth exists to compare with, or the raw file says that it was simulated."""
        said = bool(self.raw.get("simulated")) or _says_simulated(self.raw.get("metadata", {}))
        return bool(self.validation) or said

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """The record of each store and document by its name, in the order of the workflow."""
        found: dict[str, dict[str, Any] | None] = {}
        if self.flatfield:
            found["raw"] = {"raw": self.raw, "provenance": self.flatfield.get("raw_provenance", {})}
            found["projections"] = {
                "flatfield": self.corrections,
                "provenance": self.flatfield.get("provenance", {}),
            }
        found |= {"geometry": self.geometry or None, "cupping": self.cupping}
        found |= {name: volume.record for name, volume in self.volumes.items()}
        found |= {f"bone/{name}": volume.record for name, volume in self.bones.items()}
        found |= {f"model {name}": card for name, card in self.models.items()}
        return {name: record for name, record in found.items() if record is not None}


def open_results(
    *,
    scan: str,
    flatfield: Path | None = None,
    geometry: Path | None = None,
    views: Path | None = None,
    sweep: Path | None = None,
    cupping: Path | None = None,
    cupping_slices: Path | None = None,
    volumes: Iterable[Path] = (),
    bones: Iterable[Path] = (),
    tables: Iterable[Path] = (),
    slice_tables: Iterable[Path] = (),
    lacuna_tables: Iterable[Path] = (),
    models: Iterable[Path] = (),
    validation: Path | None = None,
    own_settings: Path | None = None,
) -> Results:
    """Open the results of one scan; raises StoreError naming the file that is missing or damaged."""
    return Results(
        scan=scan,
        flatfield=read_document(flatfield, "flatfield") if flatfield else {},
        views=_read_arrays(views),
        geometry=read_document(geometry, "geometry") if geometry else {},
        sweep=_read_arrays(sweep),
        cupping=read_document(cupping, "cupping") if cupping else None,
        cupping_slices=_read_arrays(cupping_slices),
        volumes=_in_order({_stem(path): open_volume(path, QUANTITIES) for path in volumes}),
        bones=_in_order({_stem(path): open_volume(path, "label") for path in bones}),
        metrics=_in_order({_stem(path): read_table(path) for path in tables}),
        slices=_in_order({_stem(path): read_table(path) for path in slice_tables}),
        lacunae=_in_order({_stem(path): read_table(path) for path in lacuna_tables}),
        models=_read_cards(models),
        validation=read_table(validation) if validation else [],
        own_file=own_settings.name if own_settings else "",
        own=read_settings(own_settings).values if own_settings else {},
    )


def display_name(volume: str) -> str:
    """What a reader calls a volume."""
    return VOLUME_NAMES.get(volume, volume)


def _stem(path: Path) -> str:
    """The volume's name: morphometry/denoised_slices.csv and bone/denoised.zarr/manifest.json belong to "denoised"."""
    stem = store_folder(path).stem
    return stem.removesuffix("_slices").removesuffix("_lacunae")


def _in_order(found: dict[str, Any]) -> dict[str, Any]:
    known = list(VOLUME_NAMES)
    return dict(
        sorted(found.items(), key=lambda item: (known.index(item[0]) if item[0] in known else len(known), item[0]))
    )


def _read_cards(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Model cards by what their network does, whatever their files are called."""
    cards = [(Path(path).stem, read_document(path, "model")) for path in paths]
    return {card.get("task", stem): card for stem, card in cards}


def _read_arrays(path: Path | None) -> dict[str, np.ndarray]:
    if path is None:
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(
            f"{path}: not a readable picture archive ({error}); run the stage that writes it again"
        ) from None


def _says_simulated(metadata: dict[str, Any]) -> bool:
    return any("simulat" in str(value).lower() for value in metadata.values())
