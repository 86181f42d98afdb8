"""What the figures show is what they were given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from gankit import plotting


@pytest.fixture(autouse=True)
def close_figures():
    with plt.rc_context():
        yield
    plt.close("all")


def luminance(color):
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_style_is_opaque_white_with_the_books_colors():
    plotting.use_style()
    assert plt.rcParams["figure.facecolor"] == "white"
    assert tuple(entry["color"] for entry in plt.rcParams["axes.prop_cycle"]) == plotting.COLORS
    assert len(set(plotting.COLORS)) == len(plotting.COLORS) == 7
    assert luminance(plotting.BLACK) < 0.05 < luminance(plotting.BLUE) < luminance(plotting.SKY)


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_lays_images_out_row_by_row(channels):
    values = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, channels, 4, 6).clone().requires_grad_()
    figure = plotting.image_grid(values, columns=3)
    (axes,) = figure.axes
    shown = np.asarray(axes.images[0].get_array())
    assert shown.shape == (2 * 5 + 1, 3 * 7 + 1, 3)
    for k in range(5):
        top, left = 1 + 5 * (k // 3), 1 + 7 * (k % 3)
        np.testing.assert_allclose(shown[top : top + 4, left : left + 6], k / 4, atol=1e-6)
    width, height = figure.get_size_inches()
    assert height / width == pytest.approx(11 / 22)


def test_image_grid_keeps_the_channels_apart_and_clamps():
    image = torch.tensor([-3.0, 0.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    shown = np.asarray(plotting.image_grid(image).axes[0].images[0].get_array())
    np.testing.assert_allclose(shown[1, 1], [0.0, 0.5, 1.0])


def test_curves_draw_every_sequence_under_its_name():
    figure = plotting.curves({"one": [1.0, 4.0, 2.0], "two": torch.tensor([0.0, 1.0])}, x="step", y="loss")
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1.0, 4.0, 2.0], [0.0, 1.0]]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[0, 1, 2], [0, 1]]


def test_curves_smooth_by_moving_means_that_end_at_their_place():
    values = [1.0, 4.0, 2.0, 9.0]
    (line,) = plotting.curves({"one": values}, x="step", y="loss", smooth=3).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), np.convolve(values, np.ones(3) / 3, mode="valid"))
    assert line.get_xdata().tolist() == [2, 3]
    (line,) = plotting.curves({"one": values}, x="x", y="y", at=torch.tensor([0.0, 0.5, 1.0, 1.5])).axes[0].lines
    assert line.get_xdata().tolist() == [0.0, 0.5, 1.0, 1.5]


def test_bars_stand_side_by_side_around_their_place():
    figure = plotting.bars({"p": torch.tensor([0.25, 0.75]), "q": torch.tensor([0.5, 0.5])}, x="bin", y="mass")
    first, second = figure.axes[0].containers
    assert [bar.get_height() for bar in first] == [0.25, 0.75]
    assert [bar.get_height() for bar in second] == [0.5, 0.5]
    for k, (left, right) in enumerate(zip(first, second, strict=True)):
        assert left.get_x() + left.get_width() == pytest.approx(right.get_x(), abs=1e-6)
        assert right.get_x() == pytest.approx(k, abs=1e-6)


def test_the_legend_of_many_bars_stays_inside():
    figure = plotting.bars({f"a long name {k}": torch.rand(3) for k in range(4)} | {"e": torch.ones(3)}, x="x", y="y")
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


def test_histograms_and_scatters_have_a_panel_for_each_title():
    values = torch.tensor([0.1, 0.1, 0.9])
    panels = {"before": {"data": values}, "after": {"data": values, "model": values}}
    figure = plotting.histograms(panels, x="x", y="count", bins=torch.tensor([0.0, 0.5, 1.0]))
    assert [axes.get_title() for axes in figure.axes] == ["before", "after"]
    assert [patch.get_height() for patch in figure.axes[0].patches] == [2, 1]
    points = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    figure = plotting.scatters({"one": {"data": points}, "two": {"data": points + 1, "model": points}})
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    np.testing.assert_array_equal(figure.axes[1].collections[0].get_offsets(), points + 1)


def test_phase_portraits_draw_minus_the_field_and_where_paths_begin():
    paths = [torch.tensor([[1.0, 0.5], [0.5, 0.25]])]
    figure = plotting.phase_portraits({"one": (lambda point: point, paths), "two": (lambda point: point, [])}, size=1.0)
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    line, dot = first.lines
    assert line.get_xydata().tolist() == [[1.0, 0.5], [0.5, 0.25]] and dot.get_xydata().tolist() == [[1.0, 0.5]]
    assert second.lines[:] == []
    arrows = first.collections[0]
    points, moves = np.stack([arrows.X, arrows.Y]), np.stack([arrows.U, arrows.V])
    assert (points * moves).sum(0).max() <= 0  # on this field they all point to the middle
    length = np.linalg.norm(points, axis=0)
    np.testing.assert_allclose(np.linalg.norm(moves, axis=0), length / (length + 0.1), rtol=1e-6)
