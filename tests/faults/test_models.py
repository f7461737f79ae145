"""Hostile model files: nothing in them is executed, and each is refused in one line."""

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save

from xrmflow.errors import StoreError
from xrmflow.io.documents import read_document
from xrmflow.io.weights import HEADER, CheckpointFolder, load_model

pytestmark = pytest.mark.faults

DESCRIBED = {
    "format": 1,
    "task": "n2i",
    "architecture": "unet",
    "arguments": {"channels": 1, "features": 4, "levels": 1},
    "normalisation": {"mean": 0.0, "deviation": 1.0},
    "quantity": "attenuation_per_mm",
    "options": {},
}
DEEP = "[" * 100_000 + "]" * 100_000


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def file_of(header, data=b"", *, length=None):
    """A safetensors file by hand: length of the header, header, data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape, offsets, dtype="F32"):
    return {"weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def described(**changes):
    return save({"weight": torch.zeros(3)}, metadata={HEADER: json.dumps(DESCRIBED | changes)})


def with_text(text):
    return save({"weight": torch.zeros(3)}, metadata={HEADER: text})


def zipped(evil, *, bomb=False, name="archive/data.pkl"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(200_000_000) if bomb else pickle.dumps(evil))
    return file.getvalue()


def torch_saved(evil):
    file = io.BytesIO()
    torch.save({"weights": evil}, file)
    return file.getvalue()


def numpy_saved(evil):
    file = io.BytesIO()
    np.save(file, np.asarray([evil], dtype=object), allow_pickle=True)
    return file.getvalue()


HOSTILE = {
    "a pickle": pickle.dumps,
    "an old pickle": lambda evil: pickle.dumps(evil, protocol=0),
    "saved by torch": torch_saved,
    "saved by numpy": numpy_saved,
    "a zip archive with a pickle": zipped,
    "a zip bomb": lambda evil: zipped(evil, bomb=True),
    "a zip archive with a path that leads out": lambda evil: zipped(evil, name="../../executed"),
    "a pickle behind a header": lambda evil: file_of(tensor([3], [0, 12]), pickle.dumps(evil)),
    "nothing": lambda evil: b"",
    "seven bytes": lambda evil: b"\0" * 7,
    "a header of 8 EB": lambda evil: file_of({}, length=2**63),
    "a header of 2^64 - 1": lambda evil: file_of({}, length=2**64 - 1),
    "a header longer than the file": lambda evil: file_of({}, length=100),
    "a header that is not JSON": lambda evil: file_of(b"\xff\xfe{"),
    "a header nested 100 000 deep": lambda evil: file_of(DEEP.encode()),
    "a shape of 1e18": lambda evil: file_of(tensor([10**9, 10**9], [0, 12]), bytes(12)),
    "a shape that overflows": lambda evil: file_of(tensor([2**62, 4], [0, 16]), bytes(16)),
    "negative offsets": lambda evil: file_of(tensor([3], [-12, 0]), bytes(12)),
    "offsets the wrong way round": lambda evil: file_of(tensor([3], [12, 0]), bytes(12)),
    "offsets beyond the end": lambda evil: file_of(tensor([3], [2**40, 2**40 + 12]), bytes(12)),
    "overlapping tensors": lambda evil: file_of(
        tensor([3], [0, 12]) | {"other": {"dtype": "F32", "shape": [3], "data_offsets": [4, 16]}}, bytes(16)
    ),
    "an unknown dtype": lambda evil: file_of(tensor([3], [0, 12], "PYOBJ"), bytes(12)),
    "its own header nested 100 000 deep": lambda evil: with_text(DEEP),
    "its own header a list": lambda evil: with_text("[]"),
    "its own header a number of 5000 digits": lambda evil: with_text("1" * 5000),
    "a format that is text": lambda evil: described(format="1"),
    "a format that is nothing": lambda evil: described(format=None),
    "a task that is a list": lambda evil: described(task=["n2i"]),
    "an architecture that is a path": lambda evil: described(architecture="../../os.system"),
    "an architecture that is a map": lambda evil: described(architecture={"a": 1}),
    "arguments that call": lambda evil: described(arguments={"__class__": "os.system"}),
    "arguments that are a list": lambda evil: described(arguments=[1, 2]),
    "a network of 1e12 weights": lambda evil: described(
        arguments={"channels": 1024, "features": 1024, "levels": 6, "kernel": 10**6}
    ),
    "a network of many levels": lambda evil: described(arguments={"channels": 1, "features": 4, "levels": 10**9}),
    "features beyond an integer": lambda evil: described(arguments={"channels": 1, "features": 10**30}),
    "a deviation that is infinite": lambda evil: described(normalisation={"mean": 0.0, "deviation": 1e999}),
    "a normalisation that is text": lambda evil: described(normalisation="__import__('os')"),
    "options that are a number": lambda evil: described(options=3),
    "weights of another shape": lambda evil: described(),
}


def test_there_are_enough_of_them():
    assert len(HOSTILE) >= 20


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused(name, tmp_path, attempt):
    path = tmp_path / "n2i.safetensors"
    path.write_bytes(HOSTILE[name](Evil(tmp_path / "executed")))
    outcome = attempt(lambda: load_model(path, "n2i"), name)
    assert outcome.said.startswith(f"{path}: ")
    assert "\n" not in outcome.said
    assert len(outcome.said) < 2000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["n2i.safetensors"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_passed_over(name, tmp_path, attempt):
    kept = CheckpointFolder(tmp_path / "c", key="one")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "state.safetensors").write_bytes(HOSTILE[name](Evil(tmp_path / "executed")))
    attempt(lambda: kept.load() is None or pytest.fail("resumed"), name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "text", [DEEP, "1" * 5000, "[]", "null", '{"kind": "model", "schema_version": "x"}', "\ud800", "{" * 10, "NaN"]
)
def test_a_hostile_card_is_refused(text, tmp_path, attempt):
    card = tmp_path / "n2i.json"
    card.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(StoreError, match=r"n2i\.json"):
        read_document(card, "model")
