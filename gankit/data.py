"""The book's data: mixtures of Gaussians, real images that come with the packages, and torchvision's image sets."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from . import _checks

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "usps": "USPS", "svhn": "SVHN", "cifar10": "CIFAR10"}


def mixture(weights: Sequence[float], means: Tensor, stds: Tensor | float) -> MixtureSameFamily:
    """sum_k weights_k N(means_k, stds_k^2 I): ``means`` (K,) on the line or (K, d), ``stds`` one number or (K,).

    The answer has ``sample((n,))`` and ``log_prob``. Raises ``ValueError`` for weights that are no histogram, counts
    that differ, or a standard deviation that is not positive.
    """
    if _checks.tensor("means", means).ndim not in (1, 2):
        _checks.fail("means", "shape (K,) or (K, d)", f"shape {tuple(means.shape)}")
    weight = _checks.histogram("weights", torch.tensor(weights, dtype=torch.float64)).to(means)
    std = _checks.tensor("stds", torch.as_tensor(stds, dtype=means.dtype)).to(means.device)
    std = std.expand(len(means)) if std.ndim == 0 else std
    _checks.same_shape("means", means if means.ndim == 1 else means[:, 0], "weights", weight)
    _checks.same_shape("weights", weight, "stds", std)
    if (std <= 0).any():
        _checks.fail("stds", "positive standard deviations", f"a smallest one of {std.min().item():.3g}")
    if means.ndim == 1:
        return MixtureSameFamily(Categorical(weight), Normal(means, std))
    return MixtureSameFamily(Categorical(weight), Independent(Normal(means, std[:, None].expand_as(means)), 1))


def ring(modes: int = 8, radius: float = 1.0, std: float = 0.01) -> MixtureSameFamily:
    """``modes`` Gaussians in the plane at angles 2 pi k / modes, of equal weight (the defaults are PacGAN's data)."""
    _checks.positive_integer("modes", modes)
    angles = 2 * math.pi * torch.arange(modes) / modes
    return mixture([1 / modes] * modes, radius * torch.stack([angles.cos(), angles.sin()], dim=1), std)


def grid(side: int = 5, spacing: float = 2.0, std: float = 0.05) -> MixtureSameFamily:
    """side x side Gaussians in the plane, centered at the origin, of equal weight (the defaults are PacGAN's data)."""
    _checks.positive_integer("side", side)
    ticks = spacing * (torch.arange(side) - (side - 1) / 2)
    return mixture([1 / side**2] * side**2, torch.cartesian_prod(ticks, ticks), std)


def stream(data: Tensor, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Batches (batch_size, ...) of i.i.d. draws, with replacement, from the rows of ``data``, without end.

    That is sampling from the empirical law, and the random state is its only state. Raises ``ValueError`` for no rows.
    """
    _checks.positive_integer("batch_size", batch_size)
    if data.ndim == 0 or len(data) == 0:
        _checks.fail("data", "at least one row", f"shape {tuple(data.shape)}")
    device = generator.device if generator is not None else torch.device("cpu")
    while True:
        rows = torch.randint(len(data), (batch_size,), generator=generator, device=device)
        yield data[rows.to(data.device)]


@dataclass(frozen=True)
class LabeledImages:
    """Images (N, C, H, W), float32 in [-1, 1], and their labels (N,), int64."""

    images: Tensor
    labels: Tensor


def load_images(
    name: str, *, split: str = "train", size: int | None = None, root: str | Path | None = None, download: bool = False
) -> LabeledImages:
    """A set of real images in memory: "digits" comes with scikit-learn; the others are torchvision's.

    ``split`` is "train", "test" or "all" (of the 1,797 digits every sixth is for testing). ``size`` pads smaller images
    with background to a square of that size. Files are looked for in ``root``, else $GANKIT_DATA, else the user's
    cache folder, and fetched only if ``download``. Raises ``ValueError`` for unknown names and ``FileNotFoundError``
    with the remedy where the files are missing.
    """
    if name != "digits" and name not in TORCHVISION:
        _checks.fail("name", f"one of {['digits', *TORCHVISION]}", repr(name))
    if split not in ("train", "test", "all"):
        _checks.fail("split", "'train', 'test' or 'all'", repr(split))
    if name == "digits":
        images, labels = _digits(split)
    else:
        folder = Path(root or os.environ.get("GANKIT_DATA") or Path("~/.cache/gankit").expanduser())
        halves = ["train", "test"] if split == "all" else [split]
        parts = [_torchvision(name, half == "train", folder, download) for half in halves]
        images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    return LabeledImages(images if size is None else _pad(images, size), labels)


def glyphs(size: int = 16, characters: str = LETTERS) -> LabeledImages:
    """``characters`` in each of the text fonts that come with Matplotlib, white on black; labels count characters.

    Each glyph fills (1, size, size) but for a pixel on each side. There is no randomness. Raises ``ValueError`` for a
    size below 8 and for no characters.
    """
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    if _checks.positive_integer("size", size) < 8:
        _checks.fail("size", "at least 8 pixels", size)
    if not characters:
        _checks.fail("characters", "at least one character", repr(characters))
    images, labels = [], []
    for path in sorted((Path(get_data_path()) / "fonts" / "ttf").glob("[DS]*.ttf")):
        if path.stem.startswith(("DejaVuSansDisplay", "DejaVuSerifDisplay", "STIXNon", "STIXSiz")):
            continue  # symbols
        font = ImageFont.truetype(path, 8 * size)
        for label, character in enumerate(characters):
            canvas = Image.new("L", (16 * size, 16 * size))
            ImageDraw.Draw(canvas).text((4 * size, 4 * size), character, 255, font)
            shape = canvas.crop(canvas.getbbox())
            side = max(shape.size)
            square = Image.new("L", (side, side))
            square.paste(shape, ((side - shape.width) // 2, (side - shape.height) // 2))
            small = square.resize((size - 2, size - 2), Image.Resampling.BOX)
            images.append(F.pad(torch.from_numpy(np.array(small))[None], (1, 1, 1, 1)))
            labels.append(label)
    return LabeledImages(torch.stack(images) / 127.5 - 1, torch.tensor(labels))


def _digits(split: str) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1  # (1797, 1, 8, 8), from 0..16
    labels = torch.tensor(digits.target, dtype=torch.int64)
    held_out = torch.arange(len(labels)) % 6 == 0
    keep = {"train": ~held_out, "test": held_out, "all": torch.ones_like(held_out)}[split]
    return images[keep], labels[keep]


def _torchvision(name: str, train: bool, root: Path, download: bool) -> tuple[Tensor, Tensor]:
    import torchvision

    which = {"split": "train" if train else "test"} if name == "svhn" else {"train": train}
    try:
        dataset = getattr(torchvision.datasets, TORCHVISION[name])(root, download=download, **which)
    except (RuntimeError, FileNotFoundError) as error:
        if download:
            raise
        remedy = f"load_images({name!r}, download=True) fetches it; or set GANKIT_DATA to the folder that holds it"
        raise FileNotFoundError(f"root: no {TORCHVISION[name]} in {root}: {remedy}") from error
    pixels = torch.as_tensor(dataset.data)
    if pixels.ndim == 3:  # (N, H, W), gray
        pixels = pixels[:, None]
    elif pixels.shape[-1] == 3:  # (N, H, W, 3), as CIFAR-10 comes
        pixels = pixels.movedim(-1, 1)
    labels = dataset.labels if name == "svhn" else dataset.targets
    return pixels.float() / 127.5 - 1, torch.as_tensor(labels, dtype=torch.int64)


def _pad(images: Tensor, size: int) -> Tensor:
    height, width = images.shape[-2:]
    if size < max(height, width):
        _checks.fail("size", f"at least {max(height, width)}, the images' own", size)
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(images, (left, size - width - left, top, size - height - top), value=-1.0)
