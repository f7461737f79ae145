"""Opening results: names, order, faults."""

import pytest

from xrmflow.errors import StoreError
from xrmflow.io.documents import read_document, write_document
from xrmflow.report.results import open_results


def test_parts_are_named_after_their_volume_in_the_order_of_the_workflow(full):
    paths = full.paths | {"volumes": full.paths["volumes"][::-1], "tables": full.paths["tables"][::-1]}
    results = open_results(scan="s", **paths)
    for found in (results.volumes, results.bones, results.metrics, results.slices, results.lacunae):
        assert list(found) == ["volume", "denoised", "superres"]
    assert list(results.models) == ["n2i", "sr"]


def test_a_simulated_scan_is_known_without_its_truth(full):
    assert open_results(scan="s", flatfield=full.paths["flatfield"], geometry=full.paths["geometry"]).simulated


def test_a_measured_scan_is_not_called_simulated(minimal):
    assert not open_results(scan="s", **minimal.paths).simulated


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("validation", b"\xff\xfe\x00"),
        ("sweep", b"PK no archive"),
        ("cupping", b"{"),
        ("flatfield", b"{"),
        ("views", b"PK no archive"),
        ("validation", b"scan,check\nmouse\n"),
        ("validation", None),
    ],
)
def test_a_damaged_or_missing_file_is_named(full, tmp_path, name, content):
    path = tmp_path / "damaged"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        open_results(scan="s", **(full.paths | {name: path}))


def test_cards_are_named_after_what_their_network_does(full, tmp_path):
    card = read_document(full.paths["models"][1], "model")
    write_document(tmp_path / "ours.json", kind="model", payload={**card, "task": "sr"}, provenance={})
    assert list(open_results(scan="s", **(full.paths | {"models": [tmp_path / "ours.json"]})).models) == ["sr"]


def test_a_wrong_quantity_is_refused(full):
    with pytest.raises(StoreError, match="expected quantity attenuation_per_mm or attenuation_per_voxel, got label"):
        open_results(scan="s", **(full.paths | {"volumes": full.paths["bones"]}))


def test_a_wrong_document_is_refused(full):
    with pytest.raises(StoreError, match="expected a document of kind flatfield, got geometry"):
        open_results(scan="s", **(full.paths | {"flatfield": full.paths["geometry"]}))


def test_the_raw_scan_and_its_correction_are_parts_with_their_own_provenance(full):
    parts = open_results(scan="s", **full.paths).parts
    assert list(parts)[:2] == ["raw", "projections"]
    assert [parts[name]["provenance"]["stage"] for name in ("raw", "projections")] == ["ingest", "flatfield"]
    assert "raw" not in parts["projections"]
