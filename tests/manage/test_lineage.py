import textwrap

import pytest

from xrmflow.manage import lineage as module
from xrmflow.manage.lineage import closure, fingerprint


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
