"""The look of the book's figures, and the figures that several chapters share."""

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from torch import Tensor

# Okabe and Ito's palette: told apart by readers of every color vision.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK = "#CC79A7", "#56B4E9", "#222222"
COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)


def use_style() -> None:
    """Opaque white figures, large type that stays legible on a telephone, colorblind-safe colors."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 130,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 12,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=COLORS),
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "lines.linewidth": 2,
        }
    )


def image_grid(images: Tensor, columns: int = 10) -> Figure:
    """Images (N, C, H, W) in [-1, 1], row by row; C is 1 or 3."""
    from torchvision.utils import make_grid

    grid = make_grid(images.detach().cpu().clamp(-1, 1), nrow=columns, padding=1, pad_value=1.0)
    height, width = grid.shape[1:]
    figure = plt.figure(figsize=(6.4, 6.4 * height / width), layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(((grid + 1) / 2).movedim(0, -1).numpy(), interpolation="nearest")
    axes.set_axis_off()
    return figure


def curves(
    series: Mapping[str, Sequence[float] | Tensor],
    *,
    x: str,
    y: str,
    at: Sequence[float] | Tensor | None = None,
    smooth: int = 1,
) -> Figure:
    """One line for each named sequence, over 0, 1, 2, ... or over ``at``; ``smooth`` averages neighboring values."""
    figure, axes = plt.subplots()
    for name, values in series.items():
        heights = torch.as_tensor(values, dtype=torch.float64).detach().cpu().unfold(0, smooth, 1).mean(-1)
        places = torch.arange(len(values)) if at is None else torch.as_tensor(at).detach().cpu()
        axes.plot(places[smooth - 1 :], heights, label=name)
    axes.set(xlabel=x, ylabel=y)
    axes.legend()
    return figure


def bars(series: Mapping[str, Tensor], *, x: str, y: str) -> Figure:
    """Groups of bars over 0, 1, 2, ..., one bar of each named sequence in a group."""
    figure, axes = plt.subplots()
    width = 0.8 / len(series)
    for k, (name, heights) in enumerate(series.items()):
        places = [place + (k - (len(series) - 1) / 2) * width for place in range(len(heights))]
        axes.bar(places, heights.tolist(), width, label=name)
        axes.set_xticks(range(len(heights)))
    axes.set(xlabel=x, ylabel=y)
    figure.legend(loc="outside upper center", ncols=min(len(series), 4))
    return figure


def histograms(panels: Mapping[str, Mapping[str, Tensor]], *, x: str, y: str, bins: Tensor) -> Figure:
    """Side by side, a panel for each title: the histograms of its named samples."""
    figure, row = _panels(list(panels))
    for axes, samples in zip(row, panels.values(), strict=True):
        for name, values in samples.items():
            axes.hist(values.detach().cpu(), bins.tolist(), alpha=0.6, label=name)
        axes.set_xlabel(x)
    row[0].set_ylabel(y)
    row[0].legend()
    return figure


def scatters(panels: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """Side by side, a panel for each title: its named point clouds (N, 2) in the plane."""
    figure, row = _panels(list(panels))
    for axes, clouds in zip(row, panels.values(), strict=True):
        for name, points in clouds.items():
            horizontal, vertical = points.detach().cpu().T
            axes.scatter(horizontal, vertical, s=5, label=name)
        axes.set_xlabel("$x_1$")
    row[0].set_ylabel("$x_2$")
    row[0].legend()
    return figure


def phase_portraits(
    panels: Mapping[str, tuple[Callable[[Tensor], Tensor], Sequence[Tensor]]], *, size: float = 2.0
) -> Figure:
    """A panel for each title: arrows along minus a field of the plane, and paths (n, 2) with a dot at their start."""
    rows = math.ceil(len(panels) / 2)
    figure, grid = plt.subplots(rows, 2, figsize=(6.4, 3.3 * rows), sharex=True, sharey=True, squeeze=False)
    axis = torch.linspace(-size, size, 15)
    spots = torch.cartesian_prod(axis, axis)
    for axes, (title, (field, paths)) in zip(grid.flat, panels.items(), strict=False):
        arrows = -torch.stack([field(spot) for spot in spots])
        arrows = arrows / (arrows.norm(dim=1, keepdim=True) + 0.1 * size)  # short near rest points
        axes.quiver(
            *spots.T.tolist(), *arrows.T.tolist(), color="0.65", scale=17, width=0.006, headlength=4, headaxislength=3.5
        )
        for path, color in zip(paths, COLORS, strict=False):
            axes.plot(*path.T.tolist(), color=color, lw=1.5)
            axes.plot(*path[0].tolist(), "o", color=color)
        axes.set(xlim=(-size, size), ylim=(-size, size), aspect="equal", title=title)
        axes.grid(visible=False)
    for axes in grid[-1]:
        axes.set_xlabel("θ")
    for axes in grid[:, 0]:
        axes.set_ylabel("w")
    return figure


def _panels(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    figure, row = plt.subplots(1, len(titles), figsize=(6.4, 3.2), sharex=True, sharey=True, squeeze=False)
    for axes, title in zip(row[0], titles, strict=True):
        axes.set_title(title, fontsize=12)
    return figure, list(row[0])


def game_diagram() -> Figure:
    """Noise goes through the generator to a fake; fakes and real data go to the critic; its score becomes D."""
    figure, axes = plt.subplots(figsize=(6.4, 2.4))
    places = {"noise $z$": (0.6, 0.4), "$G_\\theta$": (2.3, 0.4), "real data": (2.3, 1.6)}
    places |= {"critic $V_w$": (5.0, 1.0), "$D=\\sigma(V_w)$": (7.0, 1.0)}
    for text, place in places.items():
        axes.text(*place, text, ha="center", va="center", bbox={"boxstyle": "round,pad=0.5", "facecolor": "white"})
    for tail, head in [
        ((1.2, 0.4), (1.8, 0.4)),
        ((2.8, 0.4), (4.3, 0.8)),
        ((3.1, 1.6), (4.3, 1.2)),
        ((5.8, 1.0), (6.2, 1.0)),
    ]:
        axes.annotate("", head, tail, arrowprops={"arrowstyle": "->", "lw": 1.5})
    axes.text(3.5, 0.2, "fake $\\hat x$: want 0", fontsize=11)
    axes.text(3.5, 1.65, "real $x$: want 1", fontsize=11)
    axes.set(xlim=(0, 7.9), ylim=(-0.1, 2.1))
    axes.set_axis_off()
    return figure
