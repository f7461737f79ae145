"""A small results folder, written with the package's own stores."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from xrmflow.config.report import ReportSection
from xrmflow.correction.views import pick_views
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.archives import write_arrays
from xrmflow.io.documents import write_document
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import create_volume

SOURCE_SHA = "ab" * 32


@dataclass
class Folder:
    """Paths of a results folder, as keyword arguments of the stage."""

    root: Path
    paths: dict = field(default_factory=dict)


def bone_slice(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Attenuation (1/mm) and labels of a slice: a ring of bone with lacunae, marrow with trabeculae."""
    y, x = np.mgrid[:n, :n] / (n - 1) * 2 - 1
    r = np.hypot(x, y)
    labels = np.where(r < 0.95, 1, 0)
    labels[(r < 0.9) & (r > 0.6)] = 2
    labels[(r < 0.62) & (np.abs(np.sin(9 * x + 2 * y)) < 0.25)] = 2
    for angle in np.linspace(0, 6.2, 19):
        labels[np.hypot(x - 0.75 * np.cos(angle), y - 0.75 * np.sin(angle)) < 2.6 / n] = 3
    labels[np.hypot(x, y - 0.74) < 7 / n] = 4
    values = np.choose(labels, [0.0, 0.02, 0.5, 0.03, 0.02])
    return values + rng.normal(0, 0.0, values.shape), labels.astype(np.uint8)


def write_csv(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_flatfield(root: Path, *, calibrated: bool, notes: list[dict], rows: int = 24, **metadata) -> Path:
    rng = np.random.default_rng(0)
    views, cols = 90, 96
    lengths = (
        {"pixel_mm": 0.01, "source_to_axis_mm": 20.0, "source_to_detector_mm": 100.0}
        if calibrated
        else {"pixel_mm": 1.0, "source_to_axis_mm": None, "source_to_detector_mm": None}
    )
    acquisition = Acquisition(
        beam="cone" if calibrated else "parallel",
        angles_deg=tuple(np.arange(views) * (4.0 if calibrated else 2.0)),
        rows=rows,
        cols=cols,
        centre_px=47.5,
        midplane_px=(rows - 1) / 2,
        calibrated=calibrated,
        shift_u_px=tuple(rng.normal(0, 1, views)) if calibrated else (),
        **lengths,
    )
    path_length = np.sqrt(np.clip(1 - (np.linspace(-1.1, 1.1, cols)) ** 2, 0, None)) * 1.5
    angle = np.deg2rad(acquisition.angles_deg)[:, None, None]
    clean = path_length[None, None] * (1 + 0.1 * np.sin(angle * 2 + np.arange(cols) / 9))
    clean = np.broadcast_to(clean, (views, rows, cols))
    gain = 1 + 0.05 * rng.normal(size=(rows, cols))
    counts = rng.poisson(4000 * gain * np.exp(-clean)).astype(np.float32) + 100
    counts[:, :, 20] *= 0.93
    counts[rng.integers(0, views, 60), rng.integers(0, rows, 60), rng.integers(0, cols, 60)] = 9000
    source = {
        "format": "txrm",
        "source_file": "scan <one>.txrm",
        "source_sha256": SOURCE_SHA,
        "already": "counts",
        "notes": notes,
        "metadata": metadata,
        "exposure_s": 2.0,
        "flat_exposure_s": 2.0,
    }
    statistics = {
        "open_beam_counts_median": 4000.0,
        "dead_pixels": 3,
        "outliers_fraction": 0.0004,
        "low_count_fraction": 0.0,
        "dark": "measured",
        "flat": "measured",
    }
    corrected = (clean + rng.normal(0, 0.02, clean.shape)).astype(np.float32)
    flats, darks = rng.poisson(4000 * gain, (5, rows, cols)) + 100.0, np.full((3, rows, cols), 100.0)
    seen = pick_views(counts, corrected, flats=flats, darks=darks)
    write_arrays(root / "flatfield_views.npz", seen.pictures())
    payload = {
        "acquisition": acquisition.to_dict(),
        "raw": source,
        "flatfield": statistics,
        "frames": {"flats": 5, "darks": 3},
        "views": seen.to_dict(),
        "raw_provenance": provenance(stage="ingest", inputs={}),
    }
    made = provenance(stage="flatfield", inputs={"raw": root / "raw.zarr"})
    write_document(root / "flatfield.json", kind="flatfield", payload=payload, provenance=made)
    return root / "flatfield.json"


def write_geometry(root: Path) -> Path:
    trial = np.linspace(44, 51, 15)
    fit = {
        "method": "sharpness",
        "centre_px": 47.53,
        "uncertainty_px": 0.08,
        "trusted": True,
        "message": "",
        "sweep": {"centre_px": trial.tolist(), "score": (1 - np.exp(-((trial - 47.53) ** 2))).tolist()},
    }
    made = provenance(stage="align", inputs={"projections": root / "projections.zarr"})
    write_document(
        root / "geometry.json",
        kind="geometry",
        payload={"acquisition": {}, "fit": fit, "notes": [{"severity": "info", "text": "tilt is not fitted"}]},
        provenance=made,
    )
    rng = np.random.default_rng(1)
    slices = np.stack([bone_slice(96, rng)[0] for _ in trial]).astype(np.float32)
    np.savez(root / "align_sweep.npz", centre_px=trial, slices=slices)
    return root / "geometry.json"


def write_cupping(root: Path) -> Path:
    payload = {
        "coefficients": [1.0, 0.041],
        "applied": True,
        "trusted": True,
        "message": "converged",
        "loss": {"evaluations": [1.0, 0.4, 0.22, 0.2]},
        "grey_difference_before": 0.12,
        "grey_difference_after": 0.01,
    }
    write_document(
        root / "cupping.json", kind="cupping", payload=payload, provenance=provenance(stage="cupping", inputs={})
    )
    after = bone_slice(96, np.random.default_rng(2))[0]
    y, x = np.mgrid[:96, :96] / 95 * 2 - 1
    radius = np.linspace(0, 0.095, 40)
    np.savez(
        root / "cupping_slices.npz",
        before=after * (0.8 + 0.2 * (x**2 + y**2)),
        after=after,
        radius_mm=radius,
        profile_before=0.4 + 10 * radius**2,
        profile_after=0.45 + 0 * radius,
    )
    return root / "cupping.json"


def write_volumes(
    root: Path, name: str, *, depth: int, n: int, voxel_mm: float, noise: float, calibrated: bool, **record: object
) -> None:
    rng = np.random.default_rng(3)
    image, labels = bone_slice(n, rng)
    values = (image[None] + rng.normal(0, noise, (depth, n, n))).astype(np.float32)
    grid = VolumeGrid((depth, n, n), voxel_mm if calibrated else 1.0)
    quantity = "attenuation_per_mm" if calibrated else "attenuation_per_voxel"
    stage = {"volume": "fdk", "denoised": "n2i_apply", "superres": "sr_apply"}[name]
    with create_volume(
        root / f"{name}.zarr",
        quantity=quantity,
        grid=grid,
        calibrated=calibrated,
        provenance=provenance(stage=stage),
        **record,
    ) as store:
        store["data"] = values
    threshold = "threshold_per_cm" if calibrated else "threshold_per_voxel"
    made = provenance(stage="segment") | {
        "settings": {
            "sigma_um" if calibrated else "sigma_voxels": 2.0,
            "threshold_method": "fixed",
            threshold: 2.4 if calibrated else 0.24,
        }
    }
    with create_volume(
        root / f"bone/{name}.zarr", quantity="label", grid=grid, calibrated=calibrated, provenance=made
    ) as store:
        store["data"] = np.broadcast_to(labels, values.shape)


METRICS = [
    ("trabecular", "BV/TV", "bone volume fraction", 0.3123456789, "1", "voxel count"),
    ("trabecular", "Tb.Th", "trabecular thickness", 0.0412, "mm", "Hildebrand-Rüegsegger, grey"),
    ("trabecular", "Tb.Th.SD", "standard deviation of thickness", 0.0113, "mm", ""),
    ("trabecular", "Tb.Sp", "trabecular separation", 0.1034, "mm", "Hildebrand-Rüegsegger, grey"),
    ("bone", "Lc.N", "number of lacunae", 19, "1", "26-connected"),
]


def write_tables(root: Path, name: str, factor: float, *, calibrated: bool, depth: int) -> None:
    rng = np.random.default_rng(4)
    unit = {"mm": "mm" if calibrated else "voxel"}
    rows = [
        {
            "scan": "mouse_1",
            "volume": name,
            "compartment": c,
            "symbol": s,
            "name": t,
            "value": v * factor,
            "unit": unit.get(u, u),
            "method": m,
            "note": "" if calibrated else "uncalibrated",
        }
        for c, s, t, v, u, m in METRICS
    ]
    write_csv(root / f"morphometry/{name}.csv", rows)
    z = np.arange(depth)
    slices = [
        {
            "scan": "mouse_1",
            "volume": name,
            "z": k,
            "z_mm": k * 0.002 if calibrated else "",
            "BA": 0.01,
            "TA": 0.03,
            "BA_TA": 0.3 * factor + 0.05 * np.sin(k / 3),
        }
        for k in z
    ]
    write_csv(root / f"morphometry/{name}_slices.csv", slices)
    volumes = rng.normal(300, 60, 19)
    lacunae = [{"id": i, "volume_um3": v, "touching_border": i == 3} for i, v in enumerate(volumes)]
    write_csv(root / f"morphometry/{name}_lacunae.csv", lacunae)


def write_card(root: Path, name: str) -> Path:
    step = list(range(0, 1000, 50))
    loss = {
        "step": step,
        "train": [float(0.1 + np.exp(-s / 200)) for s in step],
        "validation": [float(0.12 + np.exp(-s / 190)) for s in step],
    }
    payload = {
        "architecture": "UNet",
        "arguments": {"width": 16, "levels": 3},
        "sha256": "cd" * 32,
        "loss": loss,
        "scans": ["mouse_1"],
        "seed": 7,
    }
    write_document(
        root / f"models/{name}.json", kind="model", payload=payload, provenance=provenance(stage=f"{name}_train")
    )
    return root / f"models/{name}.json"


def write_validation(root: Path) -> Path:
    rows = [
        ("volume", "centre of rotation", 47.53, 47.5, "px", 0.03, 0.25, True),
        ("volume", "bone attenuation", 4.31, 4.25, "1/cm", 1.4, 3.0, True),
        ("volume", "BV/TV", 0.3123, 0.3010, "1", 3.7, 5.0, True),
        ("denoised", "PSNR above best filter", 0.6, "", "dB", "", 1.0, False),
        ("denoised", "PSNR", 31.2, "", "dB", "", "", ""),
    ]
    names = ("volume", "check", "value", "truth", "unit", "difference", "limit", "passed")
    notes = {
        "bone attenuation": "difference and limit in percent; true bone",
        "BV/TV": "difference and limit in percent",
    }
    found = [{"scan": "mouse_1", **dict(zip(names, row, strict=True)), "note": notes.get(row[1], "")} for row in rows]
    return write_csv(root / "validation.csv", found)


@pytest.fixture(scope="session")
def full(tmp_path_factory) -> Folder:
    """Everything a simulated, calibrated scan with both networks can have."""
    root = tmp_path_factory.mktemp("results") / "mouse_1"
    notes = [
        {"severity": "assumption", "text": "rotation taken as counter-clockwise"},
        {"severity": "warning", "text": "<script>alert('note')</script> & 2 < 3"},
        {"severity": "missing", "text": "no filter is recorded"},
    ]
    flatfield = write_flatfield(
        root, calibrated=True, notes=notes, tube_voltage_kv=80.0, tube_current_ua=120.0, program="xrmflow simulate"
    )
    names = ("volume", "denoised", "superres")
    for name, n, voxel, noise, factor in (
        ("volume", 96, 0.002, 0.08, 1.0),
        ("denoised", 96, 0.002, 0.02, 1.02),
        ("superres", 192, 0.001, 0.02, 0.9),
    ):
        depth = n // 4
        write_volumes(root, name, depth=depth, n=n, voxel_mm=voxel, noise=noise, calibrated=True)
        write_tables(root, name, factor, calibrated=True, depth=depth)
    return Folder(
        root,
        {
            "flatfield": flatfield,
            "views": root / "flatfield_views.npz",
            "geometry": write_geometry(root),
            "sweep": root / "align_sweep.npz",
            "cupping": write_cupping(root),
            "cupping_slices": root / "cupping_slices.npz",
            "volumes": [root / f"{n}.zarr" for n in names],
            "bones": [root / f"bone/{n}.zarr/manifest.json" for n in names],
            "tables": [root / f"morphometry/{n}.csv" for n in names],
            "slice_tables": [root / f"morphometry/{n}_slices.csv" for n in names],
            "lacuna_tables": [root / f"morphometry/{n}_lacunae.csv" for n in names],
            "models": [write_card(root, "n2i"), write_card(root, "sr")],
            "validation": write_validation(root),
        },
    )


@pytest.fixture(scope="session")
def minimal(tmp_path_factory) -> Folder:
    """A reconstruction and nothing else."""
    root = tmp_path_factory.mktemp("minimal") / "plain"
    flatfield = write_flatfield(root, calibrated=True, notes=[])
    write_volumes(root, "volume", depth=24, n=64, voxel_mm=0.002, noise=0.05, calibrated=True)
    return Folder(root, {"flatfield": flatfield, "geometry": write_geometry(root), "volumes": [root / "volume.zarr"]})


@pytest.fixture(scope="session")
def imported(tmp_path_factory) -> Folder:
    """A volume that was reconstructed elsewhere, segmented and measured."""
    root = tmp_path_factory.mktemp("imported") / "tibia"
    loaded = {
        "format": "isq",
        "source_file": "tibia.isq",
        "source_sha256": SOURCE_SHA,
        "slope_per_mm": 2.5e-05,
        "intercept_per_mm": 0.0,
        "metadata": {"voltage_kv": 68.0},
        "notes": [{"severity": "assumption", "text": "axes: kept as in the file"}],
    }
    write_volumes(root, "volume", depth=24, n=64, voxel_mm=0.002, noise=0.05, calibrated=True, loaded=loaded)
    write_tables(root, "volume", 1.0, calibrated=True, depth=24)
    return Folder(
        root,
        {
            "volumes": [root / "volume.zarr"],
            "bones": [root / "bone/volume.zarr"],
            "tables": [root / "morphometry/volume.csv"],
            "slice_tables": [root / "morphometry/volume_slices.csv"],
            "lacuna_tables": [root / "morphometry/volume_lacunae.csv"],
        },
    )


@pytest.fixture(scope="session")
def uncalibrated(tmp_path_factory) -> Folder:
    """Two slices of a parallel-beam scan without a voxel size, denoised."""
    root = tmp_path_factory.mktemp("flat") / "tooth"
    flatfield = write_flatfield(
        root, calibrated=False, notes=[{"severity": "missing", "text": "no pixel size"}], rows=2
    )
    for name, noise, factor in (("volume", 0.05, 1.0), ("denoised", 0.01, 1.01)):
        write_volumes(root, name, depth=2, n=128, voxel_mm=1.0, noise=noise, calibrated=False)
        write_tables(root, name, factor, calibrated=False, depth=2)
    names = ("volume", "denoised")
    return Folder(
        root,
        {
            "flatfield": flatfield,
            "views": root / "flatfield_views.npz",
            "geometry": write_geometry(root),
            "sweep": root / "align_sweep.npz",
            "volumes": [root / f"{n}.zarr" for n in names],
            "bones": [root / f"bone/{n}.zarr" for n in names],
            "tables": [root / f"morphometry/{n}.csv" for n in names],
            "slice_tables": [root / f"morphometry/{n}_slices.csv" for n in names],
            "models": [write_card(root, "n2i")],
        },
    )


@pytest.fixture
def params() -> ReportSection:
    return ReportSection(slices_shown=4, zoom_px=32)


def settings(section: ReportSection) -> dict:
    return json.loads(section.canonical())
