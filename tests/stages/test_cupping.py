import numpy as np
import pytest

from xrmflow.config.cupping import CuppingSection
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.io.cupping import read_linearisation
from xrmflow.io.cupping_equations import read_equations
from xrmflow.io.documents import read_document, write_document
from xrmflow.io.stores import create_projections
from xrmflow.stages import cupping


def run(tmp_path, params, curve=None):
    angles = tuple(np.linspace(0, 180, 30, endpoint=False))
    acquisition = Acquisition("parallel", angles, 3, 40, 1.0, None, None, 19.5, 1.0, calibrated=False)
    made = {"stage": "test"}
    with create_projections(
        tmp_path / "p.zarr", quantity="line_integral", acquisition=acquisition, provenance=made
    ) as store:
        store["data"] = np.random.default_rng(0).normal(0, 0.01, (30, 3, 40)).astype(np.float32)
    write_document(
        tmp_path / "g.json", kind="geometry", payload={"acquisition": acquisition.to_dict()}, provenance=made
    )
    cupping.run(
        projections=tmp_path / "p.zarr",
        geometry=tmp_path / "g.json",
        curve=curve,
        cupping=tmp_path / "c.json",
        slices=tmp_path / "c.npz",
        equations=tmp_path / "e.npz",
        params=params,
    )
    return read_document(tmp_path / "c.json", kind="cupping")


def test_a_scan_without_bone_is_left_alone_and_says_so(tmp_path):
    document = run(tmp_path, CuppingSection())
    assert document["coefficients"] == [1.0, 0.0]
    assert not document["applied"]
    assert not document["trusted"]
    assert "data left unchanged" in document["message"]
    assert read_linearisation(tmp_path / "c.json") is None
    assert (tmp_path / "c.npz").is_file()
    equations = read_equations(tmp_path / "e.npz")
    assert equations.system is None
    assert 0 < equations.largest < 0.1


def test_no_correction_when_the_settings_ask_for_none(tmp_path):
    document = run(tmp_path, CuppingSection(method="none", degree=3))
    assert document["coefficients"] == [1.0, 0.0, 0.0]
    assert document["trusted"]
    assert not document["applied"]


def test_a_step_wedge_takes_the_place_of_the_fit(tmp_path):
    curve = tmp_path / "wedge.csv"
    rows = [f"{t},{0.8 * t - 0.05 * t * t}" for t in (0.1, 0.2, 0.4, 0.8, 1.6)]
    curve.write_text("\n".join(["thickness_mm,line_integral", *rows]))
    document = run(tmp_path, CuppingSection(method="curve", curve=str(curve)), curve)
    assert document["applied"]
    assert document["source"] == "a step wedge measured on the same scanner"
    assert read_linearisation(tmp_path / "c.json") is not None
    assert read_equations(tmp_path / "e.npz").system is None


@pytest.mark.parametrize("given", [{"method": "curve"}, {"curve": "wedge.csv"}, {"method": "none", "curve": "a.csv"}])
def test_the_method_and_its_file_belong_together(given):
    with pytest.raises(ValueError, match="expected a file with method curve and only then"):
        CuppingSection(**given)
