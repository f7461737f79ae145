"""Checksums of large files: read once, and again whenever there is doubt."""

import hashlib
import os

import pytest

from xrmflow.io import checksums
from xrmflow.io.checksums import sha256


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that counts as large, in a folder where Snakemake has run; and a list that each reading adds to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checksums, "LARGE_BYTES", 1000)
    (tmp_path / ".snakemake").mkdir()
    file, read = tmp_path / "scan.txrm", []
    file.write_bytes(b"a" * 5000)
    real = hashlib.file_digest
    monkeypatch.setattr(checksums.hashlib, "file_digest", lambda *args: read.append(1) or real(*args))
    return file, read


def test_a_large_file_is_read_once(large):
    file, read = large
    expected = hashlib.sha256(b"a" * 5000).hexdigest()
    assert [sha256(file), sha256(file), sha256(file.parent / "." / "scan.txrm")] == [expected] * 3
    assert len(read) == 1


def test_whatever_changes_it_is_read_again(large):
    file, read = large
    first = sha256(file)
    os.utime(file, ns=(1, 1))
    assert sha256(file) == first
    state = file.stat()
    file.write_bytes(b"b" * 5000)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    other = file.with_name("other")
    other.write_bytes(b"c" * 5000)
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(file)
    assert sha256(file) == hashlib.sha256(b"c" * 5000).hexdigest()
    assert len(read) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": 1}', '{"state": null, "sha256": 3}'])
def test_what_is_kept_may_be_damaged(large, text):
    file, _ = large
    first = sha256(file)
    (kept,) = checksums.KEPT.iterdir()
    kept.write_text(text)
    assert sha256(file) == first


def test_small_files_and_other_folders_leave_nothing_behind(large, tmp_path, monkeypatch):
    file, read = large
    (tmp_path / "small").write_bytes(b"a")
    assert sha256(tmp_path / "small") == hashlib.sha256(b"a").hexdigest()
    assert not checksums.KEPT.exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sha256(file) == sha256(file)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert len(read) == 3
