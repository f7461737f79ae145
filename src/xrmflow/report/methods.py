"""The methods paragraph and the checklist of Bouxsein et al. 2010 (J Bone Miner Res 25:1468).

What is not known is named, not left out.
"""

from collections.abc import Mapping
from typing import Any

from xrmflow.config.report import ReportSection
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.report.numbers import number
from xrmflow.report.results import Results, display_name

NOT_STATED = "not stated"
UNITS = {
    "kv": "kV",
    "kvp": "kVp",
    "kev": "keV",
    "ua": "µA",
    "ma": "mA",
    "s": "s",
    "mm": "mm",
    "um": "µm",
    "w": "W",
    "px": "px",
    "deg": "°",
    "c": "°C",
}
THRESHOLDS = {
    "threshold_per_cm": "1/cm",
    "threshold_per_voxel": "1/voxel",
    "threshold_per_mm": "1/mm",
    "threshold_grey": "",
}
ITERATIVE = {"tv": "total variation", "os-sart": "OS-SART", "sirt": "SIRT", "cgls": "CGLS"}
MAIN_METRICS = ("BV/TV", "Tb.Th", "Tb.Sp", "Tb.N", "Ct.Th", "TMD", "Lc.N")
SIGMAS = {"sigma_um": "µm", "sigma_voxels": "voxels"}
PARAGRAPH = (
    "Sample: {0[Sample]}. Scans were taken{beam} (medium: {0[Scanning medium]}; tube potential: "
    "{0[Tube potential]}; tube current: {0[Tube current]}; filter: {0[X-ray filter]}; exposure: {0[Exposure]}) with "
    "{0[Projections]}; voxel size {0[Voxel size]}. Volumes were {reconstructed} "
    "({0[Reconstruction]}; beam hardening: {0[Beam hardening]}). Image filter before segmentation: {0[Image filter]}; "
    "segmentation: {0[Segmentation and threshold]}; density calibration: {0[Density calibration]}. Volume of interest: "
    "{0[Volume of interest: place]}, size {0[Volume of interest: size]}; trabecular and cortical bone delineated: "
    "{0[Trabecular and cortical delineation]}. Morphometry: {0[Morphometry]}. Volumes measured: {volumes}. "
    "Nomenclature follows Bouxsein et al. (2010)."
)


def checklist(results: Results, params: ReportSection) -> list[tuple[str, str]]:
    """The items a bone study must report, each with its value or "not stated"."""
    metadata = results.raw.get("metadata", {})
    items = [
        ("Sample", params.sample_description),
        ("Scanning medium", params.medium),
        ("Tube potential", _metadata(metadata, "voltage", "kvp", "tube_potential")),
        ("Photon energy", _metadata(metadata, "energy")),
        ("Tube current", _metadata(metadata, "current")),
        ("X-ray filter", params.tube_filter or _metadata(metadata, "filter")),
        ("Exposure", _exposure(results.raw.get("exposure_s"))),
        ("Projections", _projections(results.acquisition)),
        ("Voxel size", _voxel(results)),
        ("Reconstruction", _elsewhere(results) or _here(results)),
        ("Beam hardening", "" if results.imported else _hardening(results.cupping)),
        ("Image filter", _segment(results, _filter)),
        ("Segmentation and threshold", _segment(results, _threshold)),
        ("Density calibration", _density(results)),
        ("Volume of interest: place", params.voi_description),
        ("Volume of interest: size", _segment(results, _voi)),
        ("Trabecular and cortical delineation", params.delineation),
        ("Morphometry", _algorithms(results)),
    ]
    return [(name, value or NOT_STATED) for name, value in items]


def paragraph(results: Results, params: ReportSection, *, version: str) -> str:
    """A paragraph for a paper, made of the checklist; gaps stay visible as "not stated"."""
    known = dict(checklist(results, params))
    volumes = ", ".join(display_name(name) for name in results.metrics) or "none"
    beam = f" in a {results.acquisition.beam} beam" if results.acquisition else ""
    reconstructed = f"{'imported' if results.imported else 'reconstructed'} with xrmflow {version}"
    return PARAGRAPH.format(known, beam=beam, reconstructed=reconstructed, volumes=volumes)


def _metadata(metadata: Mapping[str, Any], *words: str) -> str:
    """The first value whose name contains one of the words, with the unit its name carries."""
    for word in words:
        for name, value in metadata.items():
            if word in name.lower() and value not in (None, "", []):
                return named(name, number(value))[1]
    return ""


def named(name: str, value: str) -> tuple[str, str]:
    """A name with the unit in it, split: ("tube_voltage_kv", "80") is ("tube voltage", "80 kV")."""
    stem, _, ending = name.rpartition("_")
    unit = UNITS.get(ending.lower()) if stem else None
    return (name.replace("_", " "), value) if unit is None else (stem.replace("_", " "), f"{value} {unit}")


def _projections(acquisition: Acquisition | None) -> str:
    return f"{acquisition.views} views over {number(_range_deg(acquisition.angles_deg), 4)}°" if acquisition else ""


def _range_deg(angles: tuple[float, ...]) -> float:
    """Covered range: the span of the angles plus one step."""
    span = max(angles) - min(angles)
    return span + (span / (len(angles) - 1) if len(angles) > 1 else 0.0)


def _exposure(value: float | None) -> str:
    return "" if value is None else f"{number(value)} s a view"


def _voxel(results: Results) -> str:
    if not results.calibrated:
        return "uncalibrated (lengths in voxels)"
    sizes = {name: volume.grid.voxel_mm * 1000 for name, volume in results.volumes.items()}
    if not sizes and results.acquisition:
        sizes = {"detector": results.acquisition.voxel_mm * 1000}
    if len({round(size, 6) for size in sizes.values()}) == 1:
        return f"{number(next(iter(sizes.values())))} µm"
    return ", ".join(f"{number(size)} µm ({display_name(name)})" for name, size in sizes.items())


def settings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings a store or document was made with."""
    return record.get("provenance", {}).get("settings") or {}


def _before(document: Mapping[str, Any]) -> list[str]:
    """What was done to the projections beyond dark and flat, as far as a reader of a paper must know it."""
    done, steps = document.get("flatfield") or {}, []
    if done.get("flats") == "dynamic":
        steps.append("dynamic flat field (Van Nieuwenhove et al. 2015)")
    if done.get("phase"):
        ratio = settings_of(document).get("delta_over_beta")
        steps.append(f"single-distance phase retrieval (Paganin et al. 2002, delta/beta {number(ratio)})")
    return steps


def _here(results: Results) -> str:
    """What was done to projections and volumes."""
    return ", ".join(filter(None, (*_before(results.flatfield), _reconstruction(results))))


def _elsewhere(results: Results) -> str:
    """Of an imported volume."""
    return f"reconstructed by another program, .{results.imported['format']}" if results.imported else ""


def _reconstruction(results: Results) -> str:
    if not results.volumes or results.acquisition is None:
        return ""
    settings = settings_of(next(iter(results.volumes.values())).record)
    window = settings.get("window")
    method = "Feldkamp-Davis-Kress" if results.acquisition.beam == "cone" else "filtered backprojection"
    steps = [f"{method}{f' with the {window} window' if window else ''}"]
    if "iterative" in results.volumes:
        how = settings_of(results.volumes["iterative"].record).get("method")
        steps.append(f"iterative reconstruction{f' ({ITERATIVE.get(how, how)})' if how else ''}")
    steps += [
        text
        for name, text in (("denoised", "Noise2Inverse denoising"), ("superres", "learned super-resolution"))
        if name in results.volumes
    ]
    return ", ".join(steps)


def _hardening(document: Mapping[str, Any] | None) -> str:
    if document is None or not document.get("applied"):
        return "not corrected"
    coefficients = ", ".join(number(c) for c in document.get("coefficients", []))
    scans = (
        f"all {len(document['scans'])} scans of its protocol together"
        if document.get("scans")
        else document.get("source", "the scan itself")
    )
    return f"polynomial linearisation fitted to {scans}, coefficients {coefficients}"


def _segment(results: Results, describe: Any) -> str:
    """What a description says of each mask; one text when it says the same of all."""
    said = {name: describe(volume.record) for name, volume in results.bones.items()}
    said = {name: text for name, text in said.items() if text}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{display_name(name)}: {text}" for name, text in said.items())


def recorded(record: Mapping[str, Any], name: str) -> Any:
    """A value by its name: from a record, the records within it, or the settings it was made with; None when absent."""
    for place in (
        record,
        *(v for k, v in record.items() if isinstance(v, dict) and k != "provenance"),
        settings_of(record),
    ):
        if place.get(name) is not None:
            return place[name]
    return None


def threshold_of(record: Mapping[str, Any]) -> tuple[float | None, str]:
    """The grey value that separated bone from the rest and its unit, as the mask's record tells it."""
    for name, unit in THRESHOLDS.items():
        value = recorded(record, name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value), unit
    return None, ""


def _filter(record: Mapping[str, Any]) -> str:
    """The Gaussian that was applied, which for a scan without a voxel size may not be the one asked for."""
    done = record.get("segmentation") or settings_of(record)
    for name, unit in SIGMAS.items():
        value = done.get(name)
        if value is not None:
            return f"Gaussian, sigma {number(value)} {unit}" if value else "none"
    return ""


def _threshold(record: Mapping[str, Any]) -> str:
    method = str(recorded(record, "threshold_method") or "").replace("_", " ")
    value, unit = threshold_of(record)
    density = recorded(record, "threshold_mgha_cm3")
    words = [method] if method else []
    words += [f"threshold {number(value)} {unit}"] if value is not None else []
    words += [f"{number(density)} mgHA/cm³"] if density is not None else []
    return ", ".join(words)


def _density(results: Results) -> str:
    for volume in results.bones.values():
        line = recorded(volume.record, "density_calibration")
        if isinstance(line, dict):
            return ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in line.items())
    return "uncalibrated (grey values are attenuation)"


def _voi(record: Mapping[str, Any]) -> str:
    grid = record["grid"]
    unit, size = ("mm", grid["voxel_mm"]) if record["calibrated"] else ("voxels (uncalibrated)", 1)
    extent = " × ".join(number(n * size) for n in reversed(grid["shape"])) + f" {unit}"
    kind = {"periosteal": "inside the outer surface of the bone", "whole": "the whole volume"}
    words = [f"{extent} (x × y × z)", kind.get(str(recorded(record, "voi")), "the whole volume")]
    slices = recorded(record, "voi_slices")
    words += [f"slices {slices[0]} to {slices[1] - 1}"] if slices and slices != [0, grid["shape"][0]] else []
    return ", ".join(words)


def _algorithms(results: Results) -> str:
    """How the main metrics of the first volume were measured."""
    rows = next(iter(results.metrics.values()), [])
    methods = {row["symbol"]: row["method"] for row in rows if row["symbol"] in MAIN_METRICS and row.get("method")}
    return "; ".join(f"{symbol} by {method}" for symbol, method in methods.items())
