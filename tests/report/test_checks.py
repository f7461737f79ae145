"""The summary: states follow the numbers."""

from dataclasses import replace

import pytest

from xrmflow.report.checks import checks, notes, worst
from xrmflow.report.results import open_results


@pytest.fixture
def results(full):
    return open_results(scan="s", **full.paths)


def state(results, params, name):
    return next(check.state for check in checks(results, params) if check.name == name)


def test_untrusted_centre_asks_for_a_look(results, params):
    assert state(results, params, "Centre of rotation") == "pass"
    doubtful = replace(results, geometry={"fit": results.geometry["fit"] | {"trusted": False}})
    assert state(doubtful, params, "Centre of rotation") == "look"
    assert state(replace(results, geometry={}), params, "Centre of rotation") == "look"
    nominal = {"fit": results.geometry["fit"] | {"method": "none", "trusted": True}}
    assert state(replace(results, geometry=nominal), params, "Centre of rotation") == "look"


@pytest.mark.parametrize(("part", "expected"), [(0.001, "pass"), (0.05, "look"), (0.5, "fail")])
def test_many_outliers_fail(results, params, part, expected):
    results.flatfield["flatfield"]["outliers_fraction"] = part
    assert state(results, params, "Outliers replaced") == expected


def test_a_missing_flat_is_pointed_out(results, params):
    results.flatfield["flatfield"]["flat"] = "estimated"
    assert state(results, params, "Flat field") == "look"


def test_thin_structures_are_pointed_out(results, params):
    thin = [row | {"value": "0.005"} if row["symbol"] == "Tb.Th" else row for row in results.metrics["volume"]]
    assert state(results, params, "Thickness against voxel size") == "pass"
    changed = replace(results, metrics=results.metrics | {"volume": thin})
    assert state(changed, params, "Thickness against voxel size") == "look"


def test_truth_fails_when_one_limit_does(results, params):
    assert state(results, params, "Simulated truth") == "fail"
    held = [row | {"passed": "True"} for row in results.validation]
    assert state(replace(results, validation=held), params, "Simulated truth") == "pass"


def test_bias_limit_decides(results, params):
    assert state(results, params, "Metrics moved by networks") == "look"
    assert state(results, params.model_copy(update={"bias_percent": 50.0}), "Metrics moved by networks") == "pass"


def test_whole_is_as_good_as_its_worst(results, params):
    assert worst(checks(results, params)) == "fail"
    assert worst([]) == "info"


def test_notes_come_gravest_first_each_once_and_from_anywhere_in_a_record(results):
    results.flatfield["flatfield"]["notes"] = [
        {"severity": "assumption", "text": "equal exposure"},
        "a plain text",
    ]
    found = notes(results)
    assert [severity for severity, _, _ in found] == ["missing", "warning", "assumption", "assumption", "info", "info"]
    assert ("assumption", "projections", "equal exposure") in found
    assert len({text for _, _, text in found}) == len(found)


@pytest.mark.parametrize(("voxel_mm", "expected"), [(0.002, "pass"), (0.004, "look")])
def test_a_network_from_another_voxel_size_is_pointed_out(results, params, voxel_mm, expected):
    models = {"n2i": results.models["n2i"] | {"voxel_mm": voxel_mm}}
    assert state(replace(results, models=models), params, "Networks and voxel size") == expected


def test_a_message_that_states_the_centre_is_not_repeated(results, params):
    fit = results.geometry["fit"] | {"message": "centre 47.5 +- 0.1 px, by eye"}
    found = checks(replace(results, geometry={"fit": fit}), params)
    assert next(c.text for c in found if c.name == "Centre of rotation") == "centre 47.5 ± 0.1 px, by eye"
