"""One writer a store: a second one waits or says who is writing."""

import os
import subprocess
import sys
import threading
import time

import pytest

from xrmflow.errors import StoreError
from xrmflow.io.locks import lock


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with (
        lock(tmp_path / "a.zarr"),
        pytest.raises(StoreError, match=rf"\(process {os.getpid()} on .*, cluster job 17\)"),
    ):
        lock(tmp_path / "a.zarr", wait_s=0).__enter__()
    with lock(tmp_path / "a.zarr"):
        pass


def test_a_successor_waits_until_the_holder_is_done(tmp_path, monkeypatch):
    monkeypatch.setenv("XRMFLOW_LOCK_WAIT_S", "20")
    order = []

    def successor():
        with lock(tmp_path / "a.zarr"):
            order.append("second")

    with lock(tmp_path / "a.zarr"):
        thread = threading.Thread(target=successor)
        thread.start()
        time.sleep(0.6)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_killed_holder_leaves_no_lock(tmp_path):
    code = (
        "import os, signal; from pathlib import Path; from xrmflow.io.locks import lock\n"
        f"with lock(Path({str(tmp_path)!r}) / 'a.zarr'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    with lock(tmp_path / "a.zarr", wait_s=0):
        pass
