"""Colours and numbers of the heatmaps."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from le_callback.measures import etf_angles
from le_callback.probe.response_matrix import ResponseMatrix
from le_callback.report.heatmaps import cosine_figure, matrix_figure

NAMES = ["ant", "bee", "cow", "doe"]


def colour(axes, row, column):
    image = axes.get_images()[0]
    return np.array(image.cmap(image.norm(image.get_array()[row, column])))[:3]


@pytest.fixture
def angles():
    """Classes 0 and 1 are close, 2 and 3 are far from them and from each other."""
    return etf_angles(torch.tensor([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [-1.0, 0.0, 1.5], [-1.0, 0.0, -1.5]]))


def test_closer_than_in_an_etf_is_red_and_farther_is_blue(angles):
    axes = cosine_figure({"logits": angles}, NAMES, "title").axes[0]
    close, far = colour(axes, 0, 1), colour(axes, 0, 2)
    assert close[0] > close[2] + 0.2
    assert far[2] > far[0]
    image = axes.get_images()[0]
    np.testing.assert_allclose(image.cmap(image.norm(-1 / 3))[:3], colormaps["RdBu_r"](0.5)[:3], atol=0.01)
    np.testing.assert_allclose(np.asarray(image.get_array())[0, 2], angles.cosines[0, 2])
    assert np.ma.getmaskarray(image.get_array()).diagonal().all()


def test_cells_names_and_titles(angles):
    figure = cosine_figure({"features": angles, "logits": angles}, NAMES, "title")
    axes = figure.axes[0]
    assert axes.get_title() == f"features: smallest angle {angles.smallest:.1f}°\nant / bee"
    assert figure.axes[1].get_title().startswith("logits")
    assert [t.get_text() for t in axes.get_xticklabels()] == NAMES
    cells = {t.get_position(): t.get_text() for t in axes.texts}
    assert cells[2, 0] == f"{angles.cosines[0, 2]:.2f}"  # column, row
    assert (1, 1) not in cells


def test_measured_matrix_is_red_where_a_class_moves_another_along(angles):
    E = np.array([[5.0, 0.3, -0.1], [0.5, 6.0, 0.0], [0.2, -0.4, 7.0]])
    matrix = ResponseMatrix((0, 1, 3), E, np.ones((3, 3)), 40, "ok")
    axes = matrix_figure({"logits": matrix}, NAMES, "title").axes[0]
    along, against, none = colour(axes, 1, 0), colour(axes, 2, 1), colour(axes, 1, 2)
    assert along[0] > along[2] + 0.2
    assert against[2] > against[0] + 0.3
    np.testing.assert_allclose(none, colormaps["RdBu_r"](0.5)[:3], atol=0.01)
    assert axes.get_title() == "logits: ant / bee move each other most\n40 observed steps"
    assert {p.get_xy() for p in axes.patches} == {(-0.5, 0.5), (0.5, -0.5)}
    assert {t.get_position(): t.get_text() for t in axes.texts}[0, 0] == "5"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("class that is trained", "class that is changed")


ODD_NAMES = ["$5 and $10", "x_1^2", r"\frac{1}{2}", "<b>bold</b>", "🐈", "7", "$a_$"]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_class_names_are_drawn_as_they_are():
    """Names that look like formulas: half of them are no valid formula, so that drawing them as one would fail."""
    K = len(ODD_NAMES)
    etf = etf_angles(torch.eye(K), range(K))
    response = ResponseMatrix(tuple(range(K)), np.eye(K) + np.arange(K), np.ones((K, K)), 9, "ok")
    for figure in (cosine_figure({"logits": etf}, ODD_NAMES, "t"), matrix_figure({"logits": response}, ODD_NAMES, "t")):
        figure.canvas.draw()
        axes = figure.axes[0]
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
        assert [label.get_text() for label in labels] == ODD_NAMES * 2
        assert not any(text.get_parse_math() for text in [*labels, axes.title])
