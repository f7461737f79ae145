import pytest
import torch

from xrmflow.errors import SettingsError
from xrmflow.io.device import pick


@pytest.mark.parametrize(
    ("wish", "given", "visible", "device"),
    [
        ("auto", None, False, "cpu"),
        ("auto", None, True, "cuda"),
        ("auto", "1", True, "cuda"),
        ("auto", "0", True, "cpu"),
        ("cuda", "0", False, "cpu"),
        ("cuda", "1", True, "cuda"),
        ("cpu", "1", True, "cpu"),
    ],
)
def test_a_job_runs_on_what_it_was_given(monkeypatch, wish, given, visible, device):
    monkeypatch.setenv("XRMFLOW_DEVICE", wish)
    monkeypatch.delenv("XRMFLOW_GPU", raising=False)
    if given is not None:
        monkeypatch.setenv("XRMFLOW_GPU", given)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible)
    assert pick() == torch.device(device)


def test_faults_are_named(monkeypatch):
    monkeypatch.delenv("XRMFLOW_GPU", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("XRMFLOW_DEVICE", "cuda")
    with pytest.raises(SettingsError, match="no GPU is visible"):
        pick()
    monkeypatch.setenv("XRMFLOW_DEVICE", "tpu")
    with pytest.raises(SettingsError, match="expected auto, cpu or cuda, got 'tpu'"):
        pick()
