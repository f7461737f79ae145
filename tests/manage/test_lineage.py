import textwrap

import pytest

from xrmflow.manage import lineage as module
from xrmflow.manage.lineage import PARENTS, closure, fingerprint, lineage

SECTIONS = dict.fromkeys(PARENTS, "{}")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in place of the real one; returns a function that writes a module."""
    monkeypatch.setattr(module, "ROOT", tmp_path)

    def write(name, text):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        for cached in (module.fingerprint, module.parts, module._tree, module._syntax):
            cached.cache_clear()

    write("stages/fdk.py", "def run():\n    from xrmflow.maths import kernel\n    return kernel.f()\n")
    write("maths/kernel.py", '"""Doc."""\n\ndef f():\n    """More."""\n    return 1\n')
    write("other.py", "x = 1\n")
    yield write
    for cached in (module.fingerprint, module.parts, module._tree, module._syntax):
        cached.cache_clear()


def test_closure_follows_imports_inside_functions(package):
    assert closure("xrmflow.stages.fdk") == {"xrmflow.stages.fdk", "xrmflow.maths.kernel"}


def test_comments_docstrings_and_layout_do_not_count(package):
    before = fingerprint("xrmflow.stages.fdk")
    package("maths/kernel.py", '# a comment\n"""Other doc."""\ndef f():\n    """Else."""\n\n    return (1)\n')
    assert fingerprint("xrmflow.stages.fdk") == before


def test_an_edited_import_counts_and_an_unrelated_module_does_not(package):
    before = fingerprint("xrmflow.stages.fdk")
    package("other.py", "x = 2\n")
    assert fingerprint("xrmflow.stages.fdk") == before
    package("maths/kernel.py", "def f():\n    return 2\n")
    assert fingerprint("xrmflow.stages.fdk") != before


def test_a_table_beside_the_code_counts(package):
    package("maths/table.csv", "1,2\n")
    before = fingerprint("xrmflow.stages.fdk")
    package("maths/table.csv", "1,3\n")
    assert fingerprint("xrmflow.stages.fdk") != before


def test_a_table_of_another_package_does_not_count(package):
    package("errors.py", "x = 1\n")
    package("maths/kernel.py", "from xrmflow import errors\n\n\ndef f():\n    return errors.x\n")
    before = fingerprint("xrmflow.stages.fdk")
    package("report/style.css", "p {}\n")
    assert fingerprint("xrmflow.stages.fdk") == before


def heirs(stage):
    """Stages whose lineage changes with the settings of `stage`."""
    changed = SECTIONS | {stage: '{"key": 1}'}
    return {s for s in PARENTS if lineage(s, SECTIONS) != lineage(s, changed)}


def test_settings_reach_exactly_the_heirs():
    assert heirs("report") == {"report"}
    assert heirs("collect") == {"collect"}
    assert heirs("morphometry") == {"morphometry", "validate", "collect", "report"}
    assert "flatfield" not in heirs("cupping")
    assert {"cupping", "fdk", "n2i_split", "n2i_train", "n2i_apply", "segment", "report"} <= heirs("cupping")


def test_segmentation_follows_the_volume_it_works_on():
    changed = SECTIONS | {"n2i_train": '{"key": 1}'}
    assert lineage("segment", SECTIONS) == lineage("segment", changed)
    assert lineage("segment", SECTIONS, volume="denoised") != lineage("segment", changed, volume="denoised")


def test_stages_that_take_no_part_do_not_count():
    without = {stage: text for stage, text in SECTIONS.items() if not stage.startswith("sr_")}
    assert lineage("report", without) != lineage("report", SECTIONS)
