"""Bad input ends in one clear line and a non-zero exit; nothing finished is lost, nothing half done counts as done."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile

TABLE = "run/results/bone/morphometry/volume.csv"


def last_error(text: str) -> str:
    """The line of an output that says what is wrong."""
    return next(line for line in reversed(text.splitlines()) if line.startswith("error: "))


def test_an_unknown_key_names_file_line_and_the_nearest(project):
    settings = project.root / "run/config.yaml"
    settings.write_text(settings.read_text() + "\ncuping:\n  degree: 2\n")
    line = settings.read_text().splitlines().index("cuping:") + 1
    done = project.snakemake()
    assert done.returncode != 0
    assert last_error(done.stdout) == (
        f"error: run/config.yaml:{line}: cuping: unknown key 'cuping'; did you mean 'cupping'?"
    )
    assert "Traceback" not in done.stdout
    assert (project.root / TABLE).is_file()


def test_a_negative_distance_is_refused_before_any_job(project):
    project.change("ingest", source_to_axis_mm=-5)
    done = project.snakemake()
    assert done.returncode != 0
    assert "ingest.source_to_axis_mm: expected a value greater than 0, got -5" in last_error(done.stdout)
    assert (project.root / TABLE).is_file()


def test_a_truncated_file_ends_in_one_line_and_loses_nothing(project):
    raw = next((project.root / "run").glob("bone.txrm"))
    raw.write_bytes(raw.read_bytes()[: raw.stat().st_size // 3])
    before = (project.root / TABLE).read_bytes()
    done = project.snakemake()
    assert done.returncode != 0
    assert last_error(done.stdout).startswith("error: ingest: ")
    assert "bone.txrm" in last_error(done.stdout)
    assert not (project.root / "run/results/bone/raw.zarr/manifest.json").exists()
    assert (project.root / TABLE).read_bytes() == before


def test_a_scan_without_angles_does_not_stop_the_others(project):
    """A folder of frames that says nothing of its angles fails in words; what is finished stays as it is."""
    frames = project.root / "run" / "frames"
    frames.mkdir()
    for number in range(4):
        tifffile.imwrite(frames / f"p{number}.tif", np.full((8, 8), 1000 + number, np.uint16))
    table = project.root / "run/scans.tsv"
    table.write_text(table.read_text() + "frames\tframes\ttest\t\t\n")
    before = (project.root / TABLE).read_bytes()
    done = project.snakemake()
    assert done.returncode != 0
    assert "no angles in the file; set ingest.angles_first_deg" in last_error(done.stdout)
    assert not (project.root / "run/results/frames/raw.zarr").exists()
    assert (project.root / TABLE).read_bytes() == before
    # The end of the run says what failed, and the study's table has what is finished.
    assert "of 4 scans are finished; not: frames" in done.stdout
    results = project.root / "run/results"
    row = (results / "failures.tsv").read_text().splitlines()[1].split("\t")
    assert row[:3] == ["frames", "ingest", ""]
    assert row[3].startswith("run/frames: no angles in the file")
    partial = (results / "morphometry_partial.csv").read_text()
    assert partial == (results / "morphometry.csv").read_text()
    assert (results / "morphometry_partial_wide.csv").is_file()


def test_numbers_of_a_scan_that_must_be_measured_anew_are_not_in_the_partial_table(project):
    """Tables that an earlier run left of a scan that now fails would mix two settings in one study."""
    project.change("segment", sigma_um=9.0)
    project.edit("stages/segment.py", "    source = ", '    raise ValueError("planned fault")\n    source = ')
    done = project.snakemake()
    assert done.returncode != 0
    assert "ValueError: planned fault" in done.stdout
    assert not (project.root / "run/results/morphometry_partial.csv").exists()
    rows = (project.root / "run/results/failures.tsv").read_text().splitlines()[1:]
    assert {tuple(row.split("\t")[:2]) for row in rows} == {("bone", "segment")}


def test_a_deleted_chunk_is_refused_and_mended(project):
    project.measure("volume")
    store = project.root / "run/results/bone/volume.zarr"
    chunk = next(file for file in (store / "data" / "c").rglob("*") if file.is_file())
    chunk.unlink()
    project.change("segment", sigma_um=9.0)
    done = project.snakemake()
    assert done.returncode != 0
    assert "is missing" in last_error(done.stdout)
    assert "volume.zarr" in last_error(done.stdout)
    mended = project.xrmflow("verify", "run/results", "--mend")
    assert mended.returncode == 1
    assert "1 of" in mended.stderr
    assert project.snakemake().returncode == 0
    assert project.xrmflow("verify", "run/results").returncode == 0


DISK_FULL = """
mount -t tmpfs -o size={size}k tmpfs {scan} &&
cp -r {kept}/. {scan}/ &&
{python} -m xrmflow.cli fdk --projections {scan}/projections.zarr --geometry {scan}/geometry.json \
    --cupping {scan}/cupping.json --volume {scan}/volume.zarr \
    --params '{{"voxel_size_um": 0.3, "shape": [60, 150, 150]}}'
status=$?
{python} -m xrmflow.cli verify {scan} || exit 99
ls -a {scan}
exit $status
"""


def fdk_on_a_small_disk(project, folder, size):
    """Reconstruct where a disk of `size` kB holds three finished results; exit status 99 means damage."""
    kept, scan = folder / "kept", folder / "scan"
    kept.mkdir(parents=True)
    scan.mkdir()
    for name in ("projections.zarr", "geometry.json", "cupping.json"):
        subprocess.run(["cp", "-r", str(project.root / "run/results/bone" / name), str(kept)], check=True)
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", DISK_FULL.format(scan=scan, kept=kept, python=sys.executable, size=size)],
        cwd=project.root,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.faults
def test_a_full_disk_is_one_clear_line_and_loses_nothing(project, tmp_path, cases):
    """A stage on a small disk beside finished stores: they stay whole, and what it could not finish is not there.

    `--faults-n N` tries N sizes, from one where nothing fits to one where all does.
    """
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("needs `unshare -rm` to mount a small disk")
    full = 0
    for size in np.linspace(800, 8_000, cases(1)) if cases(1) > 1 else [1500]:
        done = fdk_on_a_small_disk(project, tmp_path / f"{size:.0f}", round(size))
        if done.returncode == 0:
            assert "2 stores: every chunk matches its manifest" in done.stdout
            continue
        full += 1
        assert done.returncode == 1, done.stderr
        assert "error: fdk: the disk is full" in last_error(done.stderr)
        assert "1 stores: every chunk matches its manifest" in done.stdout
        assert "volume.zarr" not in done.stdout.replace(".volume.zarr.lock", "")
    assert full
    print(f"full at {full} of {cases(1)} sizes")
