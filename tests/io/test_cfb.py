"""The compound-file writer, read back by olefile with every defect raised."""

import olefile
import pytest

from xrmflow.io.cfb import LazyStream, plan, write_cfb


def read_all(path):
    with olefile.OleFileIO(path, raise_defects=olefile.DEFECT_INCORRECT) as ole:
        assert not ole.parsing_issues
        return {"/".join(name): ole.openstream(name).read() for name in ole.listdir()}


@pytest.mark.parametrize("sector", [512, 4096])
def test_streams_of_every_size_class_come_back(tmp_path, sector):
    sizes = [0, 1, 63, 64, 65, 4095, 4096, 4097, 8192, 100_000]
    streams = {f"Folder{n % 3}/Stream{n}": bytes([n % 251]) * n for n in sizes}
    write_cfb(tmp_path / "a", streams, sector=sector)
    assert read_all(tmp_path / "a") == streams


def test_only_tiny_or_only_large_streams(tmp_path):
    for streams in ({"a": b"x"}, {"a": b"x" * 5000}, {}):
        write_cfb(tmp_path / "a", streams)
        assert read_all(tmp_path / "a") == streams


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 100, 517])
def test_directories_of_any_size_are_search_trees(tmp_path, count):
    streams = {f"Data/Image{n}": b"%d" % n for n in range(1, count + 1)}
    write_cfb(tmp_path / "a", streams)
    assert read_all(tmp_path / "a") == streams
    with olefile.OleFileIO(tmp_path / "a") as ole:
        check_red_black(ole, ole._find("Data"))


def check_red_black(ole, storage):
    """Sorted by length then capitals, no red node below a red one, as many black nodes on every path."""
    kids = ole.direntries[storage].kids
    names = [(len(kid.name), kid.name.upper()) for kid in kids]
    assert sorted(names) == sorted(set(names))
    in_order = []

    def walk(index, parent_is_red):
        if index == olefile.NOSTREAM:
            return 1
        entry = ole.direntries[index]
        red = entry.color == 0
        assert not (red and parent_is_red)
        left = walk(entry.sid_left, red)
        in_order.append((len(entry.name), entry.name.upper()))
        assert left == walk(entry.sid_right, red)
        return left + (not red)

    walk(ole.direntries[storage].sid_child, True)
    assert in_order == sorted(names)


def test_files_whose_fat_needs_extra_sectors(tmp_path):
    # 512-byte sectors reach the DIFAT at 109 * 128 sectors, about 7 MB; two DIFAT sectors from 15 MB on
    streams = {"Big/One": bytes(range(256)) * 30_000, "Big/Two": b"\7" * 9_000_001, "small": b"end"}
    write_cfb(tmp_path / "a", streams, sector=512)
    assert read_all(tmp_path / "a") == streams


def test_plan_of_a_file_beyond_two_gigabytes():
    layout = plan(sector=4096, stream_sectors=4_000_000_000 // 4096, mini_bytes=10_000, entries=1700)
    total = layout.before_fat + layout.fat + layout.difat
    assert layout.fat * 1024 >= total > (layout.fat - 2) * 1024
    assert layout.difat * 1023 >= layout.fat - 109 > (layout.difat - 1) * 1023


def test_lazy_streams_are_made_one_at_a_time_and_checked(tmp_path):
    made = []
    streams = {f"S/{k}": LazyStream(5000, lambda k=k: (made.append(k), bytes([k]) * 5000)[1]) for k in range(5)}
    write_cfb(tmp_path / "a", streams)
    assert made == [0, 1, 2, 3, 4]
    assert read_all(tmp_path / "a")["S/3"] == b"\3" * 5000
    with pytest.raises(ValueError, match="S: expected 10 bytes, got 9"):
        write_cfb(tmp_path / "b", {"S": LazyStream(10, lambda: b"123456789")})
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("streams", "message"), [({"a/b": b"", "A/B": b""}, "twice"), ({"x" * 32: b""}, "31 characters")]
)
def test_names_that_are_not_allowed(tmp_path, streams, message):
    with pytest.raises(ValueError, match=message):
        write_cfb(tmp_path / "a", streams)
    with pytest.raises(ValueError, match="sector: expected 512 or 4096"):
        write_cfb(tmp_path / "a", {}, sector=1024)
