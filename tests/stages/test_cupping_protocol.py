import numpy as np
import pytest
import torch

from xrmflow.calibration.cupping import unchanged
from xrmflow.calibration.homogeneity import System
from xrmflow.calibration.protocol import ScanEquations
from xrmflow.config.cupping_protocol import CuppingProtocolSection
from xrmflow.errors import StoreError
from xrmflow.io.archives import write_arrays
from xrmflow.io.cupping import read_linearisation
from xrmflow.io.documents import read_document, write_document
from xrmflow.stages import cupping_protocol


def scan(folder, name, c):
    """What stage cupping leaves of a scan whose bone asks for c; None: no bone."""
    system = None
    if c is not None:
        matrix = np.ones((2, 3, 1, 1))
        system = System(matrix, -c * matrix[..., 0], np.full(1, 0.1), 1000)
    write_arrays(folder / name / "cupping_equations.npz", ScanEquations(system, 0.7).arrays())
    document = folder / name / "cupping.json"
    write_document(document, kind="cupping", payload=unchanged("alone").to_dict(), provenance={"stage": "cupping"})
    return document, folder / name / "cupping_equations.npz"


def run(folder, scans):
    fits, equations = zip(*scans, strict=True)
    out = folder / "protocols" / "femur" / "cupping.json"
    cupping_protocol.run(fits=list(fits), equations=list(equations), cupping=out, params=CuppingProtocolSection())
    return read_document(out, kind="cupping")


def test_all_scans_get_the_same_and_each_stays_on_record(tmp_path):
    document = run(tmp_path, [scan(tmp_path, name, c) for name, c in (("a", 0.5), ("b", 0.7), ("c", 0.6), ("d", None))])
    assert document["applied"]
    assert document["coefficients"][1] == pytest.approx(0.6)
    assert document["protocol"] == "femur"
    assert [one["scan"] for one in document["scans"]] == ["a", "b", "c", "d"]
    assert document["scans"][0]["message"] == "alone"
    linearise = read_linearisation(tmp_path / "protocols" / "femur" / "cupping.json")
    assert linearise is not None
    assert float(linearise(torch.tensor(0.5))) == pytest.approx(0.5 + 0.6 * 0.25)


def test_scans_without_bone_leave_the_data(tmp_path):
    document = run(tmp_path, [scan(tmp_path, "a", None), scan(tmp_path, "b", None)])
    assert not document["applied"]
    assert document["coefficients"] == [1.0, 0.0]


def test_damaged_equations_are_named(tmp_path):
    document, equations = scan(tmp_path, "a", 0.5)
    equations.write_bytes(b"no archive")
    with pytest.raises(StoreError, match=r"cupping_equations\.npz: not readable as equations of cupping"):
        run(tmp_path, [(document, equations)])
