"""The page as a whole: what it must say for full, minimal and uncalibrated results."""

import csv
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from xrmflow.report import page as module
from xrmflow.report.page import page
from xrmflow.report.results import open_results

STATED = {"title": "<b>A & B</b>", "medium": "<img src=x onerror=alert(1)>", "sample_description": "mouse tibia"}
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
SECTIONS = [
    *("summary", "slices", "numbers", "truth", "bone", "distributions", "detector", "centre", "cupping", "networks"),
    *("notes", "methods", "acquisition", "provenance", "glossary"),
]


RENDERED: dict[tuple, str] = {}


def render(folder, params, created=NOON) -> str:
    """The page, made once for the same results and settings."""
    key = (folder.root, params.canonical(), created)
    if key not in RENDERED:
        RENDERED[key] = fresh(folder, params, created)
    return RENDERED[key]


def fresh(folder, params, created=NOON) -> str:
    return page(open_results(scan=folder.root.name, **folder.paths), params, version="9.9", created=created)


class Words(HTMLParser):
    """Visible text, ids, and what tags refer to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids, self.references, self.alts, self.chunks, self.titles, self.hidden = [], [], [], [], [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if tag == "section" else []
        self.references += [found[k] for k in ("src", "href", "action", "data", "poster") if k in found]
        self.titles += [found["title"]] if "title" in found else []
        if tag == "img":
            self.alts.append(found.get("alt"))
        if tag in ("script", "style"):
            self.hidden += 1

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.hidden -= 1

    def handle_data(self, data):
        if not self.hidden:
            self.chunks.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.chunks).split())


@pytest.fixture(params=["full", "minimal", "uncalibrated"])
def any_folder(request):
    return request.getfixturevalue(request.param)


def test_every_section_is_there_whatever_was_run(any_folder, params):
    assert Words(render(any_folder, params)).ids == SECTIONS


def test_nothing_is_loaded_from_elsewhere(any_folder, params):
    html = render(any_folder, params)
    references = Words(html).references
    assert references
    assert all(r.startswith(("data:", "#")) for r in references)
    assert not re.search(r"https?://|url\(\s*[^#]|@import|//cdn", html)
    assert "default-src 'none'" in html


def test_page_of_everything_stays_below_five_megabytes(full, params):
    assert 2e5 < len(render(full, params)) < 5e6


def test_pictures_shrink_until_the_page_fits(minimal, params, monkeypatch):
    tried = []

    def rendered(results, shown, params, **_):
        tried.append(params.picture_px)
        return "x" * (params.picture_px**2 * 12)

    monkeypatch.setattr(module, "_render", rendered)
    assert len(fresh(minimal, params.model_copy(update={"picture_px": 800}))) <= 5e6
    assert tried == [800, 613]
    fresh(minimal, params.model_copy(update={"picture_px": 200, "page_megabytes": 0.4}))
    assert tried[2:] == [200, 173]
    fresh(minimal, params.model_copy(update={"picture_px": 170, "page_megabytes": 0.1}))
    assert tried[4:] == [170]


def test_every_picture_says_what_it_shows(any_folder, params):
    alts = Words(render(any_folder, params)).alts
    assert alts
    assert all(alts)


def test_text_of_notes_and_settings_is_escaped(full, params):
    html = render(full, params.model_copy(update=STATED))
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(&#39;note&#39;)&lt;/script&gt; &amp; 2 &lt; 3" in html
    assert "<b>A & B</b>" not in html
    assert "<img src=x" not in html
    assert "scan <one>.txrm" in Words(html).text


def test_metric_numbers_equal_the_table(full, params):
    titles = Words(render(full, params)).titles
    for path in full.paths["tables"]:
        with path.open() as file:
            for row in csv.DictReader(file):
                assert row["value"] in titles


def test_validation_numbers_equal_the_table_and_are_marked_simulated(full, params):
    words = Words(render(full, params))
    with full.paths["validation"].open() as file:
        rows = list(csv.DictReader(file))
    assert {row["value"] for row in rows} <= set(words.titles)
    assert "SIMULATED" in words.text
    assert words.text.count("within limit") == 3
    assert words.text.count("outside limit") == 1
    assert "3 of 4 limits held" in words.text
    assert "bone attenuation 4.310 4.250 1/cm 1.400 % 3 % ✓ within limit true bone" in words.text
    assert "centre of rotation 47.53 47.50 px 0.03000 0.2500 ✓ within limit" in words.text


def test_bias_of_a_network_is_shown_and_flagged(full, params):
    text = Words(render(full, params)).text
    assert "+2.0 %" in text
    assert "more than 5 %: BV/TV −10.0 % (super-resolved)" in text


def test_what_was_not_run_says_why(minimal, params):
    text = Words(render(minimal, params)).text
    for line in (
        "Noise2Inverse: not run: no model.",
        "Super-resolution: not run: no model.",
        "Morphometry: not run: no volume was measured.",
        "Masks: not run: no volume was segmented.",
        "Beam hardening (cupping): not run: not asked for in the settings.",
        "Comparison with the truth: not run: measured scan: the true answer is not known.",
        "Detector correction, before and after: not run: no pictures of it were given.",
    ):
        assert line in text


def test_uncalibrated_data_say_so_and_show_no_metric_length(uncalibrated, params):
    text = Words(render(uncalibrated, params)).text
    assert "uncalibrated: lengths in voxels" in text
    assert "1/voxel, uncalibrated" in text
    assert "voxels (uncalibrated)" in text
    assert not re.search(r"\d (µm|mm)\b|1/cm|µm³", text)


def test_two_slices_show_no_section_along_the_axis(uncalibrated, params):
    text = Words(render(uncalibrated, params)).text
    assert "Only 2 slices: no coronal or sagittal section is shown." in text
    assert "Coronal," not in text


def test_units_and_thresholds_are_stated(full, params):
    text = Words(render(full, params)).text
    assert re.search(r"Grey window −?[\d.]+ \(black\) to [\d.]+ \(white\) 1/cm", text)
    assert "Dashed, the threshold: FDK 2.4 1/cm" in text
    assert "Tb.Th trabecular thickness" in text


def test_gaps_in_the_methods_are_named_and_filled_by_the_settings(full, params):
    assert "Scanning medium not stated" in Words(render(full, params)).text
    text = Words(render(full, params.model_copy(update=STATED))).text
    assert f"medium: {STATED['medium']}; tube potential: 80 kV; tube current: 120 µA" in text
    assert "Sample: mouse tibia." in text
    assert "Scanning medium" not in text.split("items are not stated:")[1].split(".")[0]


def test_an_imported_volume_has_no_chapter_of_raw_frames(imported, params):
    """What its file says is there; what no one knows of it is said to be unknown."""
    words = Words(render(imported, params))
    assert words.ids == [name for name in SECTIONS if name not in ("detector", "centre", "cupping", "networks")]
    for text in (
        "tibia.isq",
        "isq",
        "64 × 64 × 24 (x × y × z)",
        "2.5e-05 × grey + 0.0",
        "axes: kept as in the file",
        "ab" * 32,
        "Scans were taken (medium: ",
        "Volumes were imported with xrmflow 9.9 (reconstructed by another program, .isq; beam hardening: not stated)",
        "with not stated; voxel size 2 µm",
    ):
        assert text in words.text
    for text in ("Centre of rotation", "Feldkamp", "not corrected"):
        assert text not in words.text


def test_settings_of_a_scan_alone_are_told(full, params, tmp_path):
    own = tmp_path / "mouse_1.yaml"
    own.write_text("align: {centre_px: 47.5}\nsegment: {lacunae: true}\n")
    results = open_results(scan="mouse_1", own_settings=own, **full.paths)
    text = Words(page(results, params, version="9.9", created=NOON)).text
    assert "align.centre_px: 47.5, segment.lacunae: true (mouse_1.yaml)" in text
    assert "From mouse_1.yaml, laid over the settings of the run: this scan was treated differently." in text
    assert "Settings of this scan alone" not in Words(render(full, params)).text


def test_provenance_leads_back_to_the_source(full, params):
    text = Words(render(full, params)).text
    assert "ab" * 32 in text
    assert all(stage in text for stage in ("ingest", "flatfield", "align", "fdk", "n2i_apply", "sr_apply", "segment"))


def test_same_results_give_the_same_page_but_for_the_time(full, params):
    later = fresh(full, params, NOON.replace(year=2031))
    assert later == render(full, params).replace("2 January 2026", "2 January 2031")
