"""Mixtures against their closed forms, streams against frequencies, image sets against files in their real formats."""

import bz2
import hashlib
import math
import pickle
from itertools import islice

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from scipy import stats
from scipy.special import logsumexp
from sklearn.datasets import load_digits

from gankit.data import LETTERS, glyphs, grid, load_images, mixture, ring, stream

# --- mixtures -----------------------------------------------------------------------------------------------------

WEIGHTS, MEANS, STDS = [0.2, 0.5, 0.3], [-2.0, 0.5, 4.0], [0.5, 1.0, 0.25]


def test_log_prob_on_the_line_is_the_direct_sum():
    law = mixture(WEIGHTS, torch.tensor(MEANS, dtype=torch.float64), torch.tensor(STDS, dtype=torch.float64))
    x = np.linspace(-6, 8, 57)
    expected = logsumexp(stats.norm.logpdf(x[:, None], MEANS, STDS), b=WEIGHTS, axis=1)
    torch.testing.assert_close(law.log_prob(torch.from_numpy(x)), torch.from_numpy(expected))


def test_log_prob_in_the_plane_is_the_direct_sum():
    means = torch.tensor([[0.0, 1.0], [3.0, -1.0], [-2.0, 2.0]], dtype=torch.float64)
    law = mixture(WEIGHTS, means, torch.tensor(STDS, dtype=torch.float64))
    x = torch.randn(40, 2, dtype=torch.float64) * 3
    each = [stats.multivariate_normal(m, s**2).logpdf(x.numpy()) for m, s in zip(means.numpy(), STDS, strict=True)]
    expected = logsumexp(np.stack(each, axis=1), b=WEIGHTS, axis=1)
    torch.testing.assert_close(law.log_prob(x), torch.from_numpy(expected))


def test_samples_have_the_mixtures_moments():
    law = mixture(WEIGHTS, torch.tensor(MEANS), torch.tensor(STDS))
    n = 100_000
    samples = law.sample((n,)).double()
    assert samples.shape == (n,)
    mean = sum(w * m for w, m in zip(WEIGHTS, MEANS, strict=True))
    variance = sum(w * (s**2 + m**2) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True)) - mean**2
    assert abs(samples.mean().item() - mean) < 4.5 * math.sqrt(variance / n)
    fourth = (samples - mean).pow(4).mean().item()
    assert abs(samples.var().item() - variance) < 4.5 * math.sqrt((fourth - variance**2) / n)


def test_samples_follow_the_mixtures_distribution_function():
    law = mixture(WEIGHTS, torch.tensor(MEANS), torch.tensor(STDS))

    def cdf(x):
        return (stats.norm.cdf(np.asarray(x)[:, None], MEANS, STDS) * WEIGHTS).sum(1)

    assert stats.kstest(law.sample((20_000,)).double().numpy(), cdf).pvalue > 1e-3


def test_one_standard_deviation_serves_all_modes_and_dimensions():
    law = mixture([0.25, 0.75], torch.zeros(2, 3), 2.0)
    samples = law.sample((50_000,))
    assert samples.shape == (50_000, 3)
    torch.testing.assert_close(samples.T.cov(), 4 * torch.eye(3), atol=0.15, rtol=0)


@pytest.mark.parametrize(
    ("weights", "means", "stds", "message"),
    [
        ([0.5, 0.6], torch.zeros(2), 1.0, r"^weights: expected probabilities that sum to 1 .*, got a sum of 1.1"),
        ([1.5, -0.5], torch.zeros(2), 1.0, r"^weights: expected non-negative probabilities, got .*-0.5"),
        ([0.5, 0.5], torch.zeros(3, 2), 1.0, r"^weights: expected the shape \(3,\) of means, got shape \(2,\)"),
        ([0.5, 0.5], torch.zeros(2), torch.ones(3), r"^stds: expected the shape \(2,\) of weights, got shape \(3,\)"),
        ([0.5, 0.5], torch.zeros(2), torch.ones(1), r"^stds: expected the shape \(2,\) of weights, got shape \(1,\)"),
        ([0.5, 0.5], torch.zeros(2), 0.0, r"^stds: expected positive standard deviations, got a smallest one of 0"),
        (
            [0.5, 0.5],
            torch.zeros(2),
            torch.tensor([1.0, -2.0]),
            r"^stds: expected positive .*, got a smallest one of -2",
        ),
        ([0.5, 0.5], torch.zeros(2), math.nan, r"^stds: expected finite numbers, got 1 NaN"),
        ([0.5, 0.5], torch.tensor([0.0, math.inf]), 1.0, r"^means: expected finite numbers, got 1 NaN"),
        ([0.5, 0.5], torch.tensor([0, 1]), 1.0, r"^means: expected a floating-point tensor, got torch.int64"),
        ([1.0], torch.tensor(0.0), 1.0, r"^means: expected shape \(K,\) or \(K, d\), got shape \(\)"),
        ([0.5, 0.5], torch.zeros(2, 2, 2), 1.0, r"^means: expected shape \(K,\) or \(K, d\), got shape \(2, 2, 2\)"),
    ],
)
def test_mixture_names_what_is_wrong(weights, means, stds, message):
    with pytest.raises(ValueError, match=message):
        mixture(weights, means, stds)


def centers(law):
    return law.component_distribution.mean.double()


@pytest.mark.parametrize(("modes", "radius"), [(8, 1.0), (1, 2.0), (5, 3.0), (25, 1.0)])
def test_a_ring_has_that_many_distinct_modes(modes, radius):
    """linspace(0, 2 pi, 8) would put the first and the last mode at the same point: 7 modes, one of them double."""
    law = ring(modes, radius)
    points = torch.view_as_complex(centers(law).contiguous())
    torch.testing.assert_close(points.abs(), torch.full((modes,), radius, dtype=torch.float64), rtol=1e-6, atol=0)
    roots = points**modes  # the centers are the roots of z^n = r^n, each of them once
    torch.testing.assert_close(roots, torch.full_like(roots, radius**modes), rtol=1e-5, atol=0)
    if modes > 1:
        closest = torch.pdist(centers(law)).min().item()
        assert closest == pytest.approx(2 * radius * math.sin(math.pi / modes), rel=1e-5)
    torch.testing.assert_close(law.mixture_distribution.probs, torch.full((modes,), 1 / modes))


def test_the_default_ring_and_grid_are_pacgans():
    assert len(centers(ring())) == 8
    torch.testing.assert_close(ring().component_distribution.stddev, torch.full((8, 2), 0.01))
    wanted = {(x, y) for x in (-4.0, -2.0, 0.0, 2.0, 4.0) for y in (-4.0, -2.0, 0.0, 2.0, 4.0)}
    assert {tuple(center) for center in centers(grid()).tolist()} == wanted
    torch.testing.assert_close(grid().component_distribution.stddev, torch.full((25, 2), 0.05))
    torch.testing.assert_close(grid().mixture_distribution.probs, torch.full((25,), 1 / 25))


def test_samples_of_the_ring_lie_at_its_modes():
    """In the plane a Gaussian leaves 3 standard deviations with probability exp(-9/2)."""
    law, n = ring(), 20_000
    distance, nearest = torch.cdist(law.sample((n,)).double(), centers(law)).min(dim=1)
    inside, expected = (distance <= 0.03).double().mean().item(), -math.expm1(-4.5)
    assert abs(inside - expected) < 4.5 * math.sqrt(expected * (1 - expected) / n)
    assert stats.chisquare(nearest.bincount(minlength=8).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_grid_is_centered_and_evenly_spaced(side):
    points = centers(grid(side, spacing=1.5, std=0.1))
    assert points.shape == (side**2, 2)
    torch.testing.assert_close(points.mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-6)
    if side > 1:
        assert torch.pdist(points).min().item() == pytest.approx(1.5)
        assert torch.pdist(points).max().item() == pytest.approx(1.5 * (side - 1) * math.sqrt(2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ring(0), "^modes: expected a whole"),
        (lambda: ring(2.0), "^modes: expected a whole"),
        (lambda: ring(std=0.0), "^stds: expected positive"),
        (lambda: grid(0), "^side: expected a whole"),
        (lambda: grid(std=-1.0), "^stds: expected positive"),
    ],
)
def test_ring_and_grid_name_what_is_wrong(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# --- stream -------------------------------------------------------------------------------------------------------


def test_stream_draws_every_row_equally_often_and_pairs_independently():
    rows, n = 6, 200
    batches = list(islice(stream(torch.arange(rows).double()[:, None], 50, torch.Generator().manual_seed(0)), n))
    drawn = torch.cat(batches)[:, 0].long()
    assert len(drawn) == 50 * n
    assert stats.chisquare(drawn.bincount(minlength=rows).numpy()).pvalue > 1e-3
    pairs = (drawn[0::2] * rows + drawn[1::2]).bincount(minlength=rows**2)  # equal neighbors included
    assert stats.chisquare(pairs.numpy()).pvalue > 1e-3
    first = torch.stack([batch[0, 0] for batch in batches]).long().bincount(minlength=rows)
    assert stats.chisquare(first.numpy()).pvalue > 1e-3  # and so do the batches' first rows


def test_stream_keeps_rows_whole_and_gives_batches_larger_than_the_data():
    data = torch.arange(3.0)[:, None, None] * torch.ones(3, 2, 4) + torch.tensor([[0.0], [0.5]])
    for batch in islice(stream(data, 100), 5):
        assert batch.shape == (100, 2, 4) and batch.dtype == data.dtype
        kinds = batch[:, 0, 0].long()
        assert torch.equal(batch, data[kinds])
        assert set(kinds.tolist()) == {0, 1, 2}


def test_stream_is_its_generators_alone():
    data = torch.randn(50, 2)

    def first(generator):
        return torch.stack(list(islice(stream(data, 8, generator), 4)))

    one = first(torch.Generator().manual_seed(5))
    torch.rand(3)  # the global state does not matter
    assert torch.equal(one, first(torch.Generator().manual_seed(5)))
    assert not torch.equal(one, first(torch.Generator().manual_seed(6)))
    torch.manual_seed(1)
    globally = first(None)
    torch.manual_seed(1)
    assert torch.equal(globally, first(None))
    before = torch.get_rng_state()
    first(torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_stream_does_not_hand_out_its_own_rows():
    data = torch.zeros(4, 2)
    next(stream(data, 3)).add_(1)
    assert (data == 0).all()


@pytest.mark.parametrize(
    ("data", "batch_size", "message"),
    [
        (torch.zeros(0, 2), 4, r"^data: expected at least one row, got shape \(0, 2\)"),
        (torch.tensor(1.0), 4, r"^data: expected at least one row, got shape \(\)"),
        (torch.zeros(3, 2), 0, r"^batch_size: expected a whole number of at least 1, got 0"),
        (torch.zeros(3, 2), 2.5, r"^batch_size: expected a whole number of at least 1, got 2.5"),
    ],
)
def test_stream_names_what_is_wrong(data, batch_size, message):
    with pytest.raises(ValueError, match=message):
        next(stream(data, batch_size))


# --- images -------------------------------------------------------------------------------------------------------


def test_the_digits_are_scikit_learns():
    every, source = load_images("digits", split="all"), load_digits()
    assert every.images.shape == (1797, 1, 8, 8) and every.images.dtype == torch.float32
    assert every.labels.shape == (1797,) and every.labels.dtype == torch.int64
    assert every.images.min() == -1 and every.images.max() == 1
    np.testing.assert_array_equal((every.images[:, 0].numpy() + 1) * 8, source.images)
    np.testing.assert_array_equal(every.labels.numpy(), source.target)


def test_the_digits_split_is_disjoint_and_exhaustive():
    train, test, every = (load_images("digits", split=split) for split in ("train", "test", "all"))
    assert (len(train.images), len(test.images)) == (1497, 300)
    parts = torch.cat([train.images, test.images]).flatten(1)
    assert len(parts.unique(dim=0)) == len(every.images.flatten(1).unique(dim=0)) == 1797
    assert torch.equal(parts.unique(dim=0), every.images.flatten(1).unique(dim=0))
    assert set(train.labels.tolist()) == set(test.labels.tolist()) == set(range(10))
    counts = torch.cat([train.labels, test.labels]).bincount()
    assert torch.equal(counts, every.labels.bincount())
    assert torch.equal(load_images("digits").images, train.images)


@pytest.mark.parametrize(("size", "before", "after"), [(8, 0, 0), (9, 0, 1), (16, 4, 4), (32, 12, 12)])
def test_padding_is_background_around_the_image(size, before, after):
    plain, padded = load_images("digits").images, load_images("digits", size=size).images
    assert padded.shape == (1497, 1, size, size)
    window = slice(before, size - after)
    assert torch.equal(padded[:, :, window, window], plain)
    rest = padded.clone()
    rest[:, :, window, window] = -1
    assert (rest == -1).all()


def test_padding_never_shrinks():
    with pytest.raises(ValueError, match=r"^size: expected at least 8, the images' own, got 7"):
        load_images("digits", size=7)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar100", "train", r"^name: expected one of \['digits', 'mnist', .*\], got 'cifar100'"),
        ("MNIST", "train", r"^name: expected one of .*, got 'MNIST'"),
        ("digits", "validation", r"^split: expected 'train', 'test' or 'all', got 'validation'"),
        ("mnist", "valid", r"^split: expected 'train', 'test' or 'all', got 'valid'"),
    ],
)
def test_unknown_names_and_splits(name, split, message):
    with pytest.raises(ValueError, match=message):
        load_images(name, split=split)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "usps", "svhn", "cifar10"])
def test_missing_files_name_the_remedy_and_nothing_is_fetched(name, tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise AssertionError("a download without being asked")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    remedy = rf"{tmp_path}.*load_images\('{name}', download=True\).*GANKIT_DATA"
    with pytest.raises(FileNotFoundError, match=remedy):
        load_images(name, root=tmp_path)
    monkeypatch.setenv("GANKIT_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        load_images(name)
    monkeypatch.delenv("GANKIT_DATA")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match=r"home/\.cache/gankit"):
        load_images(name)


def scaled(pixels):
    """Bytes 0..255 as numbers in [-1, 1]."""
    return torch.from_numpy(pixels.astype(np.float64) / 255 * 2 - 1).float()


def pixels(*shape):
    values = np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)
    values.flat[:2] = 0, 255
    return values


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def idx(path, array):
    """LeCun's format: two zero bytes, the type (8 for bytes), the number of axes, their lengths, the data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files(name, folder, tmp_path, monkeypatch):
    expected = {}
    for split, prefix, n in (("train", "train", 5), ("test", "t10k", 3)):
        expected[split] = pixels(n, 28, 28), np.arange(n) % 10
        idx(tmp_path / folder / "raw" / f"{prefix}-images-idx3-ubyte", expected[split][0])
        idx(tmp_path / folder / "raw" / f"{prefix}-labels-idx1-ubyte", expected[split][1])
    for split, (images, labels) in expected.items():
        loaded = load_images(name, split=split, root=tmp_path)
        torch.testing.assert_close(loaded.images, scaled(images)[:, None])
        assert loaded.labels.tolist() == labels.tolist() and loaded.labels.dtype == torch.int64
    monkeypatch.setenv("GANKIT_DATA", str(tmp_path))
    both = load_images(name, split="all", size=32)
    assert both.images.shape == (8, 1, 32, 32)
    torch.testing.assert_close(both.images[:5, 0, 2:30, 2:30], scaled(expected["train"][0]))
    assert both.labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


def test_usps_files(tmp_path):
    """One line an image: label + 1, then 256 pairs index:value with values in [-1, 1]."""
    images = pixels(3, 16, 16)
    for name, rows in (("usps.bz2", images), ("usps.t.bz2", images[:1])):
        lines = []
        for label, image in enumerate(rows):
            values = (f"{k}:{v / 255 * 2 - 1:.8f}" for k, v in enumerate(image.flatten().astype(float), start=1))
            lines.append(" ".join([str(label + 1), *values]))
        (tmp_path / name).write_bytes(bz2.compress(("\n".join(lines) + "\n").encode()))
    loaded = load_images("usps", root=tmp_path)
    assert loaded.images.shape == (3, 1, 16, 16) and loaded.images.dtype == torch.float32
    torch.testing.assert_close(loaded.images[:, 0], scaled(images), rtol=0, atol=1.01 * 2 / 255)  # torchvision floors
    assert loaded.labels.tolist() == [0, 1, 2]
    assert len(load_images("usps", split="test", root=tmp_path).images) == 1


def test_svhn_files(tmp_path, monkeypatch):
    """Matlab arrays (H, W, C, N); the label 10 stands for the digit 0."""
    images = pixels(4, 32, 32, 3)
    entries = {}
    for split, n in (("train", 4), ("test", 2)):
        path = tmp_path / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images[:n].transpose(1, 2, 3, 0), "y": np.array([[10], [1], [9], [3]])[:n]})
        entries[split] = ["", path.name, md5(path)]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", entries)
    loaded = load_images("svhn", root=tmp_path)
    torch.testing.assert_close(loaded.images, scaled(images).permute(0, 3, 1, 2))
    assert loaded.labels.tolist() == [0, 1, 9, 3] and loaded.labels.dtype == torch.int64
    assert load_images("svhn", split="all", root=tmp_path).images.shape == (6, 3, 32, 32)


def test_cifar10_files(tmp_path, monkeypatch):
    """Pickled rows of 3,072 bytes: a red, a green and a blue plane, each row by row."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images = pixels(5, 3, 32, 32)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, md5(folder / name)]

    batches = [
        write("data_batch_1", {"data": images[:2].reshape(2, -1), "labels": [3, 9]}),
        write("data_batch_2", {"data": images[2:4].reshape(2, -1), "labels": [0, 1]}),
    ]
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", batches)
    test = [write("test_batch", {"data": images[4:].reshape(1, -1), "labels": [7]})]
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", test)
    name, digest = write("batches.meta", {"label_names": list("abcdefghij")})
    meta = {"filename": name, "key": "label_names", "md5": digest}
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)
    loaded = load_images("cifar10", split="all", root=tmp_path)
    torch.testing.assert_close(loaded.images, scaled(images))
    assert loaded.labels.tolist() == [3, 9, 0, 1, 7]


def test_the_real_mnist(mnist_root):
    train, test = (load_images("mnist", split=split, root=mnist_root) for split in ("train", "test"))
    assert train.images.shape == (60_000, 1, 28, 28) and test.images.shape == (10_000, 1, 28, 28)
    assert train.images.dtype == torch.float32 and train.labels.dtype == torch.int64
    assert train.images.min() == -1 and train.images.max() == 1
    # The counts of the ten digits as LeCun, Cortes and Burges published them.
    assert train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # Mean and standard deviation of the pixels in [0, 1], as every MNIST example normalizes with.
    unit = (train.images.double() + 1) / 2
    assert unit.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert unit.std().item() == pytest.approx(0.3081, abs=5e-5)


def test_glyphs_are_every_character_in_every_font():
    found = glyphs(16)
    fonts = len(found.images) // len(LETTERS)
    assert fonts >= 10 and len(found.images) == fonts * len(LETTERS)
    assert found.images.shape[1:] == (1, 16, 16) and found.images.dtype == torch.float32
    assert torch.equal(found.labels, torch.arange(len(LETTERS)).repeat(fonts))
    assert found.images.min() == -1 and found.images.max() == 1
    rim = torch.ones(16, 16, dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    assert (found.images[:, 0, rim] == -1).all()
    assert (found.images.amax((1, 2, 3)) > 0).all()  # nothing is blank
    assert torch.equal(glyphs(16).images, found.images)


def test_glyphs_fill_their_square_and_differ_between_fonts():
    bars = glyphs(24, "H").images
    inked = bars[:, 0] > -1
    assert (torch.maximum(inked.any(2).sum(1), inked.any(1).sum(1)) >= 20).all()
    assert len({tuple(image.flatten().tolist()) for image in bars}) == len(bars)


@pytest.mark.parametrize(("options", "named"), [({"size": 7}, "size"), ({"characters": ""}, "characters")])
def test_glyphs_name_what_is_wrong(options, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected"):
        glyphs(**options)
