"""Drawings: what they hold, in the page's own ink, the same each time."""

import matplotlib as mpl
import numpy as np

from xrmflow.report import plots
from xrmflow.report.style import INK, svg


def sweep():
    return plots.sweep_curve([1, 2, 3], [3.0, 1.0, 2.0], 2.1, 0.2)


def test_drawing_takes_its_ink_from_the_page_and_names_nothing_outside():
    text = str(svg(sweep()))
    assert text.startswith("<svg")
    assert "currentColor" in text
    assert INK not in text
    assert "http" not in text
    assert "2.10 px" in text


def test_drawing_is_the_same_each_time_and_changes_no_global_setting():
    before = dict(mpl.rcParams)
    assert svg(sweep()) == svg(sweep())
    assert dict(mpl.rcParams) == before


def test_names_are_escaped():
    figure = plots.distributions({"<b>&$x$": np.arange(4.0)}, value_label="v", count_label="n")
    assert "&lt;b&gt;&amp;$x$" in svg(figure)


def test_sweep_is_drawn_in_order_of_the_centre():
    line = plots.sweep_curve([3, 1, 2], [30.0, 10.0, 20.0], 2, None).axes[0].lines[0]
    np.testing.assert_array_equal(line.get_ydata(), [10, 20, 30])


def test_histogram_shows_parts_of_all_voxels_and_each_threshold():
    figure = plots.histograms({"a": np.r_[np.zeros(3), np.ones(1)]}, {"a": 0.5}, value_label="v", limits=(-1, 2))
    axes = figure.axes[0]
    heights = axes.patches[0].get_data().values
    assert heights.sum() == 1
    assert heights.max() == 0.75
    assert axes.lines[0].get_xdata()[0] == 0.5


def test_a_fit_has_a_line_for_each_resolution_of_its_images():
    history = [{"binning": 4.0, "residual": 3.0}, {"binning": 4.0, "residual": 1.0}, {"binning": 2.0, "residual": 2.0}]
    coarse, fine = plots.residuals(history).axes[0].lines
    assert (list(coarse.get_xdata()), list(coarse.get_ydata())) == ([1, 2], [3.0, 1.0])
    assert (list(fine.get_xdata()), list(fine.get_ydata())) == ([3], [2.0])


def test_training_without_validation_and_with_gaps():
    axes = plots.training([0, 1, 2], [1.0, None, 0.01], [None] * 3).axes[0]
    assert [line.get_label() for line in axes.lines] == ["training"]
    assert axes.get_yscale() == "log"


def test_losses_within_a_decade_have_numbers_on_their_axis():
    axes = plots.training([0, 1], [2.0, 1.5], [None, 1.8]).axes[0]
    axes.figure.draw_without_rendering()
    assert axes.get_yscale() == "linear"
    assert sum(bool(label.get_text()) for label in axes.get_yticklabels()) > 2


def test_negative_losses_are_drawn_on_a_linear_axis():
    assert plots.training([0, 1], [1.0, -1.0], [None, None]).axes[0].get_yscale() == "linear"


def test_decades_are_labelled_in_plain_text():
    figure = plots.histograms({"a": np.random.default_rng(0).normal(size=50_000)}, {}, value_label="v", limits=(-5, 5))
    text = str(svg(figure))
    assert "mathdefault" not in text
    assert "10⁻⁴" in text
