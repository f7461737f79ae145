"""Which device numerics run on: what the job was given, not what the machine has."""

import os

import torch

from xrmflow.errors import SettingsError


def pick() -> torch.device:
    """The device named by XRMFLOW_DEVICE (auto, cpu, cuda); auto takes a GPU when one is visible to the job.

    A job that the workflow gave no GPU (XRMFLOW_GPU is 0) runs on the CPU whatever the machine has.

    Raises:
        SettingsError: an unknown name, or cuda asked for where none is visible.
    """
    wanted = os.environ.get("XRMFLOW_DEVICE", "auto")
    if wanted not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"device: expected auto, cpu or cuda, got {wanted!r}")
    if os.environ.get("XRMFLOW_GPU") == "0":
        return torch.device("cpu")
    visible = torch.cuda.is_available()
    if wanted == "cuda" and not visible:
        raise SettingsError("device: cuda was asked for, but no GPU is visible to this job; use auto or cpu")
    return torch.device("cuda" if visible and wanted != "cpu" else "cpu")
