"""Mutated .txrm files: a fault in one line, or what can still be read of the scan, never a crash and never nonsense."""

import struct
from collections import Counter

import numpy as np
import pytest

from xrmflow.config.ingest import IngestSection
from xrmflow.io.cfb import write_cfb
from xrmflow.io.stores import open_projections
from xrmflow.io.write_txrm import txrm_streams
from xrmflow.stages.ingest import run as ingest

pytestmark = pytest.mark.faults

VIEWS, ROWS, COLS = 9, 36, 40
RNG = np.random.default_rng(7)
FRAMES = RNG.integers(1000, 60_000, (VIEWS, ROWS, COLS), dtype=np.uint16)
REFERENCE = np.full((ROWS, COLS), 60_000, np.float32)
ANGLES = np.linspace(0, 200, VIEWS)
GOOD = txrm_streams(
    projections=FRAMES, angles_deg=ANGLES, pixel_size_um=20.0, source_to_axis_mm=30.0, detector_to_axis_mm=70.0
)
GOOD |= {
    "ReferenceData/Image": REFERENCE.tobytes(),
    "ReferenceData/DataType": struct.pack("<i", 10),
    "ReferenceData/ExpTime": struct.pack("<f", 1.0),
    "Alignment/X-Shifts": RNG.uniform(-3, 3, VIEWS).astype("<f4").tobytes(),
    "Alignment/Y-Shifts": RNG.uniform(-3, 3, VIEWS).astype("<f4").tobytes(),
    "ImageInfo/Voltage": struct.pack("<f", 60.0),
}
METADATA = [name for name in GOOD if not name.startswith(("ImageData", "ReferenceData/Image"))]
KINDS = {"flip": 0.4, "cut": 0.3, "structure": 0.15, "lie": 0.15}
INTEGERS = (0, 1, -1, 2, 3, 7, 10, 255, 65_535, 65_536, 2**31 - 1, -(2**31), 1_000_000)
NUMBERS = (0.0, -0.0, -1.0, 1e-30, 1e30, 3e38, np.nan, np.inf, -np.inf, 360.0, 1e6)


def i4(*values):
    return struct.pack(f"<{len(values)}i", *values)


def f4(*values):
    return np.asarray(values, "<f4").tobytes()


def lie(rng):
    """Streams in which one to three tell nonsense; the bytes of the frames are left alone."""
    streams = {name: content if isinstance(content, bytes) else content.make() for name, content in GOOD.items()}
    for name in rng.choice(METADATA, rng.integers(1, 4), replace=False):
        old = streams[name]
        choice = rng.integers(8)
        if choice == 0:
            del streams[name]
        elif choice == 1:
            streams[name] = i4(int(rng.choice(INTEGERS)))
        elif choice == 2:
            streams[name] = f4(*rng.choice(NUMBERS, VIEWS))
        elif choice == 3:
            streams[name] = f4(*[rng.choice(NUMBERS)] * VIEWS)
        elif choice == 4:
            streams[name] = old[: rng.integers(len(old) + 1)]
        elif choice == 5:
            streams[name] = rng.bytes(rng.integers(0, 5000))
        elif choice == 6:
            streams[name] = old * int(rng.integers(2, 200))
        else:
            streams["ImageInfo/Unknown"] = rng.bytes(50)
    return streams


def break_structure(data, rng):
    """Nonsense where the container's own tables are: header, FAT, directory."""
    sector = 1 << struct.unpack_from("<H", data, 30)[0]
    fat, directory = struct.unpack_from("<I", data, 76)[0], struct.unpack_from("<I", data, 48)[0]
    places = [(24, 76, 4), (76, 512, 4), ((fat + 1) * sector, (fat + 2) * sector, 4)]
    places += [((directory + 1) * sector, (directory + 3) * sector, 4)] * 2
    entries = len(data) // sector
    words = (0, 1, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0x7FFFFFFF, entries - 1, entries, int(rng.integers(entries)))
    for _ in range(rng.integers(1, 6)):
        start, stop, step = places[rng.integers(len(places))]
        at = int(rng.integers(start, min(stop, len(data) - step)) // step * step)
        struct.pack_into("<I", data, at, words[rng.integers(len(words))])


def mutate(kind, good, path, rng):
    """Write a mutated file; returns whether its frames, as far as they are read, must be the true ones."""
    if kind == "lie":
        write_cfb(path, lie(rng), sector=int(rng.choice([512, 4096])))
        return False
    data = bytearray(good)
    if kind == "cut":
        data = data[: rng.integers(len(data))]
    elif kind == "structure":
        break_structure(data, rng)
    else:
        for _ in range(rng.integers(1, 9)):
            at = rng.integers(len(data)) if rng.random() < 0.5 else rng.integers(4096)
            data[at] ^= 1 << rng.integers(8)
    path.write_bytes(data)
    return kind in ("cut", "structure")


def check_what_was_read(raw, exact):
    """A scan that was accepted makes sense, and frames of a file that was only cut short are the true ones."""
    store = open_projections(raw, "counts")
    acquisition = store.acquisition
    angles = np.asarray(acquisition.angles_deg)
    assert len(angles) == store.data.shape[0] > 0
    assert np.isfinite(angles).all()
    assert acquisition.voxel_mm is None or 0 < acquisition.voxel_mm < np.inf
    if exact:
        places = [int(np.argmin(abs(ANGLES - angle))) for angle in angles]
        np.testing.assert_array_equal(np.asarray(store.data[:]), FRAMES[places])


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    files = {}
    for sector in (512, 4096):
        path = tmp_path_factory.mktemp("good") / f"{sector}.txrm"
        write_cfb(path, GOOD, sector=sector)
        files[sector] = path.read_bytes()
    return files


def test_the_unharmed_file_is_read(good, tmp_path, attempt):
    (tmp_path / "a.txrm").write_bytes(good[4096])
    ingest(source=tmp_path / "a.txrm", raw=tmp_path / "raw.zarr", params=IngestSection())
    check_what_was_read(tmp_path / "raw.zarr", exact=True)


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_end_in_words_or_are_read(kind, good, tmp_path, attempt, cases):
    rng = np.random.default_rng(list(KINDS).index(kind))
    ends, slowest, largest = Counter(), 0.0, 0.0
    for number in range(max(1, round(cases(20) * KINDS[kind]))):
        source, raw = tmp_path / f"{number}.txrm", tmp_path / f"{number}.zarr"
        exact = mutate(kind, good[int(rng.choice([512, 4096]))], source, rng)
        what = f"{kind} {number} ({source})"
        outcome = attempt(lambda s=source, r=raw: ingest(source=s, raw=r, params=IngestSection()), what)
        slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
        ends["refused" if outcome.said else "read"] += 1
        if outcome.said:
            assert source.name in outcome.said or "ingest." in outcome.said, f"{what}: {outcome.said}"
            assert "\n" not in outcome.said, f"{what}: {outcome.said}"
            assert not raw.exists(), what
        else:
            check_what_was_read(raw, exact)
        source.unlink()
    print(f"{kind}: {dict(ends)}; slowest {slowest:.2f} s, largest {largest:.0f} MB")
