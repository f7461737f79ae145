"""Stage report: files in, one page out."""

import numpy as np

from xrmflow.config.report import ReportSection
from xrmflow.geometry.acquisition import Acquisition
from xrmflow.geometry.grid import VolumeGrid
from xrmflow.io.documents import write_document
from xrmflow.io.provenance import provenance
from xrmflow.io.stores import create_volume
from xrmflow.stages.report import run

NOTHING = {
    **dict.fromkeys(("views", "sweep", "cupping", "cupping_slices", "validation")),
    **{name: [] for name in ("bones", "tables", "slice_tables", "lacuna_tables", "models")},
}


def test_stage_writes_the_page_of_its_folder(tmp_path):
    rng = np.random.default_rng(0)
    acquisition = Acquisition("cone", (0.0, 120.0, 240.0), 10, 12, 0.01, 20.0, 100.0, 5.5, 4.5)
    folder = tmp_path / "bone_7"
    write_document(
        folder / "flatfield.json",
        kind="flatfield",
        payload={"acquisition": acquisition.to_dict(), "raw": {"format": "txrm"}, "flatfield": {}, "frames": {}},
        provenance=provenance(stage="flatfield"),
    )
    with create_volume(
        folder / "volume.zarr", quantity="attenuation_per_mm", grid=VolumeGrid((10, 12, 12), 0.002), calibrated=True,
        provenance=provenance(stage="fdk"),
    ) as store:  # fmt: skip
        store["data"] = rng.random((10, 12, 12), dtype=np.float32)
    write_document(
        folder / "geometry.json", kind="geometry", payload={"fit": None}, provenance=provenance(stage="align")
    )
    run(
        flatfield=folder / "flatfield.json",
        geometry=folder / "geometry.json",
        volumes=[folder / "volume.zarr"],
        report=folder / "report.html",
        params=ReportSection(),
        **NOTHING,
    )
    text = (folder / "report.html").read_text()
    assert "Bone report of bone_7" in text
    assert text.rstrip().endswith("</html>")
    assert not list(folder.glob(".report*"))
