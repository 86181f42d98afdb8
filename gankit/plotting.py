"""The look of the book's figures, and the figures that several chapters share."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
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


def curves(histories: Mapping[str, Sequence[float]], *, x: str, y: str, smooth: int = 1) -> Figure:
    """One line for each named sequence; ``smooth`` averages that many neighbouring values."""
    figure, axes = plt.subplots()
    for name, values in histories.items():
        series = torch.tensor(values, dtype=torch.float64)
        if smooth > 1:
            series = series.unfold(0, smooth, 1).mean(-1)
        axes.plot(range(smooth - 1, smooth - 1 + len(series)), series, label=name)
    axes.set(xlabel=x, ylabel=y)
    axes.legend()
    return figure
