"""Damage after success: any file of a finished run deleted, cut short or changed by one bit is found and mended."""

from collections import Counter

import pytest

from xrmflow.errors import StoreError
from xrmflow.manage.verify import run as verify

pytestmark = pytest.mark.faults

# Which rule writes what, by the name of the store or file.
WRITERS = {
    "projections.zarr": "flatfield",
    "volume.zarr": "fdk",
    "denoised.zarr": "n2i_apply",
    "superres.zarr": "sr_apply",
    "flatfield.json": "flatfield",
    "flatfield_views.npz": "flatfield",
    "geometry.json": "align",
    "align_sweep.npz": "align",
    "cupping.json": "cupping",
    "cupping_slices.npz": "cupping",
    "cupping_equations.npz": "cupping",
    "validation.csv": "validate",
    "report.html": "report",
    "n2i.safetensors": "n2i_train",
    "n2i.json": "n2i_train",
    "sr.safetensors": "sr_train",
    "sr.json": "sr_train",
    "morphometry.csv": "collect",
    "morphometry_wide.csv": "collect",
}
WITHOUT_MEANING = ("logs", "benchmarks", ".lineages")


def owner(file, run):
    """The store or file that damage to `file` is damage to, and the rule that writes it; None where nobody reads it."""
    parts = file.relative_to(run).parts
    store = next((n for n, part in enumerate(parts[:-1]) if part.endswith(".zarr")), None)
    if store is None and (parts[-1].startswith(".") or any(part in WITHOUT_MEANING for part in parts)):
        return None
    named = parts if store is None else parts[: store + 1]
    folder = named[-2] if len(named) == 4 and named[0] == "results" else ""
    rule = {"splits": "n2i_split", "bone": "segment", "morphometry": "morphometry"}.get(folder)
    return run.joinpath(*named), rule or WRITERS[named[-1]]


def harm(file, rng):
    """Delete, truncate or flip one bit; says which."""
    data = bytearray(file.read_bytes())
    how = ("deleted", "cut short", "one bit")[rng.integers(3)] if data else "deleted"
    if how == "deleted":
        file.unlink()
    elif how == "cut short":
        file.write_bytes(data[: rng.integers(len(data))])
    else:
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        file.write_bytes(data)
    return how


def said_of(folder):
    try:
        verify(folder)
    except StoreError as error:
        return str(error)
    return ""


def test_damage_is_named_and_mended(finished, project, cases, draws):
    run = project.root / "run"
    files = sorted(f for name in ("results", "models") for f in (run / name).rglob("*") if f.is_file())
    ends = Counter()
    for number in range(cases(10)):
        file = files[draws.integers(len(files))]
        whole, how = file.read_bytes(), harm(file, draws)
        what = f"case {number}: {file.relative_to(run)} {how}"
        folder = run / file.relative_to(run).parts[0]
        found = owner(file, run)
        said = said_of(folder)
        if found is None:
            ends["does not matter"] += 1
            assert said == "" or file.name.endswith(".sha256"), what
        else:
            ends["named"] += 1
            named, rule = found
            lines = said.splitlines()
            assert len(lines) == 2, f"{what}: {said!r}"
            assert lines[0].startswith(f"{named}: "), f"{what}: {said}"
            if number % 25 == 0:
                project.xrmflow("verify", str(folder), "--mend")
                planned = project.planned()
                assert rule in planned, f"{what}: {planned}"
                project = restored(finished, project)
                continue
        file.write_bytes(whole)
    print(dict(ends))


def restored(finished, project):
    """The copy as it was."""
    import subprocess

    subprocess.run(["rm", "-rf", str(project.root / "run")], check=True)
    subprocess.run(["cp", "-a", str(finished.root / "run"), str(project.root / "run")], check=True)
    return project
