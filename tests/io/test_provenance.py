"""Provenance says what was, not what was wished for."""

import sys
from types import SimpleNamespace

import pytest

from xrmflow.io.provenance import provenance


@pytest.mark.parametrize(
    ("asked", "visible", "device"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_is_the_one_picked(monkeypatch, asked, visible, device):
    monkeypatch.setenv("XRMFLOW_DEVICE", asked)
    cuda = SimpleNamespace(is_available=lambda: visible)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    found = provenance(stage="fdk")
    assert (found["device_asked"], found["device"]) == (asked, device)


def test_a_stage_without_torch_names_no_device(monkeypatch):
    monkeypatch.delenv("XRMFLOW_DEVICE", raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    found = provenance(stage="ingest")
    assert (found["device_asked"], found["device"]) == ("auto", None)
    assert "torch" not in sys.modules
