"""Vector quantization: the nearest code, the codebook's losses, codes that nobody uses, and a prior over words.

Also the score-function estimator. Gumbel-softmax is not here: ``torch.nn.functional.gumbel_softmax`` does it,
straight-through variant included.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _checks


def score_surrogate(logits: Tensor, f: Callable[[Tensor], Tensor], *, paired: bool = True) -> Tensor:
    """A number for each law softmax(``logits``), (..., K) -> (...), whose mean gradient is that of E f(c).

    f(c) + (sg[f(c)] - b) log q(c), averaged over two independent words c, with b = 0 or, ``paired``, f of the other
    word. ``f`` takes words (2, ...), int64, to numbers (2, ...); its own parameters get their gradient too. Raises
    ``ValueError`` if it returns another shape (Williams, 1992, doi:10.1007/BF00992696; for pairs Mnih and Rezende,
    2016, arXiv:1602.06725).
    """
    law = torch.distributions.Categorical(logits=_checks.tensor("logits", logits))
    words: Tensor = law.sample((2,))  # type: ignore[no-untyped-call]
    value = f(words)
    _checks.same_shape("words", words, "f(words)", value)
    baseline = value.flip(0) if paired else 0
    score: Tensor = law.log_prob(words)  # type: ignore[no-untyped-call]
    return (value + (value - baseline).detach() * score).mean(0)


def quantize(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """e_c with c = argmin_k ||z - e_k||: vectors (..., d) to their codes' vectors (..., d) and indices (...), int64.

    The gradient with respect to z is passed straight through, as if the vectors were z; the codebook (K, d) gets none.
    Of equally near codes the first is taken. Raises ``ValueError`` for shapes that do not fit
    (van den Oord, Vinyals and Kavukcuoglu, 2017, arXiv:1711.00937).
    """
    _fits(z, codebook)
    # Distances by differences: the faster |z|^2 - 2 z.e + |e|^2 cancels where codes are far from the origin.
    apart = torch.cdist(z.detach().flatten(0, -2), codebook.detach(), compute_mode="donot_use_mm_for_euclid_dist")
    indices = apart.argmin(1).reshape(z.shape[:-1])
    # z - z.detach() is exactly 0, so that the values are the codes themselves, without rounding.
    return codebook.detach()[indices] + (z - z.detach()), indices


def vq_loss(z: Tensor, codebook: Tensor, indices: Tensor, commitment: float = 0.25) -> Tensor:
    """E ||sg[z] - e_c||^2 + commitment * E ||z - sg[e_c]||^2, a scalar; sg stops the gradient.

    ``z`` is (..., d), ``codebook`` (K, d), ``indices`` (...) as ``quantize`` returns them; the mean runs over vectors.
    The first term moves codes to their vectors, the second vectors to their codes. Raises ``ValueError`` for shapes
    that do not fit, indices that are none of 0..K-1, or a negative weight (van den Oord, Vinyals and Kavukcuoglu, 2017,
    arXiv:1711.00937).
    """
    _fits(z, codebook)
    _numbers_codes(indices, len(codebook))
    if indices.shape != z.shape[:-1]:
        _checks.fail("indices", f"shape {tuple(z.shape[:-1])}, one for each vector", f"shape {tuple(indices.shape)}")
    if not commitment >= 0:
        _checks.fail("commitment", "a number of at least 0", commitment)
    chosen = codebook[indices]
    to_vectors = (z.detach() - chosen).square().sum(-1).mean()
    return to_vectors + commitment * (z - chosen.detach()).square().sum(-1).mean()


def perplexity(indices: Tensor, codes: int) -> Tensor:
    """exp H(share of each code): as many equally frequent codes would have that entropy; from 1 to ``codes``.

    Raises ``ValueError`` for indices that are none of 0..codes-1.
    """
    _numbers_codes(indices, _checks.positive_integer("codes", codes))
    share = indices.flatten().bincount(minlength=codes).double() / indices.numel()
    entropy: Tensor = torch.special.entr(share).sum()
    return entropy.exp()


def restart(codebook: Tensor, z: Tensor, indices: Tensor) -> Tensor:
    """The codebook (K, d) with each code that ``indices`` does not name replaced by a random row of ``z`` (..., d).

    Rows are drawn without replacement while there are enough. No gradient ever reaches such a code (Dhariwal et al.,
    2020, arXiv:2005.00341). Raises ``ValueError`` for shapes that do not fit or indices that are none of 0..K-1.
    """
    _fits(z, codebook)
    _numbers_codes(indices, len(codebook))
    rows, fresh = z.detach().flatten(0, -2), codebook.detach().clone()
    dead = indices.flatten().bincount(minlength=len(codebook)) == 0
    order = torch.randperm(len(rows), device=rows.device).repeat(-(-len(codebook) // len(rows)))
    fresh[dead] = rows[order[: int(dead.sum())]]
    return fresh


class VQAutoencoder(nn.Module):
    """x -> E(x) -> the nearest codes -> G: images become a grid of words, and words images.

    ``encoder`` takes images (N, C, H, W) to maps (N, depth, h, w), ``decoder`` such maps to images; by default they are
    convolutions with ``width`` features for one channel in [-1, 1], and h = H / 4. The codebook starts at N(0, I)
    (van den Oord, Vinyals and Kavukcuoglu, 2017, arXiv:1711.00937).
    """

    def __init__(
        self,
        codes: int,
        depth: int,
        width: int = 32,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        for argument, value in (("codes", codes), ("depth", depth), ("width", width)):
            _checks.positive_integer(argument, value)
        self.encoder = (
            encoder
            if encoder is not None
            else nn.Sequential(
                nn.Conv2d(1, width, 4, 2, 1),  # (N, width, H/2, W/2)
                nn.ReLU(),
                nn.Conv2d(width, 2 * width, 4, 2, 1),  # (N, 2 width, H/4, W/4)
                nn.ReLU(),
                nn.Conv2d(2 * width, depth, 1),
            )
        )
        self.decoder = (
            decoder
            if decoder is not None
            else nn.Sequential(
                nn.Conv2d(depth, 2 * width, 3, 1, 1),
                nn.ReLU(),
                nn.ConvTranspose2d(2 * width, width, 4, 2, 1),  # (N, width, H/2, W/2)
                nn.ReLU(),
                nn.ConvTranspose2d(width, 1, 4, 2, 1),
                nn.Tanh(),
            )
        )
        self.codebook = nn.Parameter(torch.randn(codes, depth))

    def forward(self, x: Tensor, commitment: float = 0.25) -> tuple[Tensor, Tensor]:
        """The images (N, C, H, W) decoded again, and ``vq_loss`` summed over the grid, a scalar."""
        z = self.vectors(x)
        values, indices = quantize(z, self.codebook)
        loss = indices[0].numel() * vq_loss(z, self.codebook, indices, commitment)
        return self.decoder(values.movedim(-1, 1)), loss

    def vectors(self, x: Tensor) -> Tensor:
        """What the encoder says before it is quantized: (N, h, w, depth)."""
        z: Tensor = self.encoder(x)
        return z.movedim(1, -1)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The words (N, h, w) of images."""
        return quantize(self.vectors(x), self.codebook)[1]

    @torch.no_grad()
    def decode(self, indices: Tensor) -> Tensor:
        """The images of words (N, h, w)."""
        images: Tensor = self.decoder(self.codebook[indices].movedim(-1, 1))
        return images

    @torch.no_grad()
    def revive(self, x: Tensor) -> None:
        """``restart``, in place, the codes that none of these images uses."""
        self.codebook.copy_(restart(self.codebook, self.vectors(x), self.encode(x)))


class WordPrior(nn.Module):
    """p(c) = prod_i p(c_i | c_1 .. c_(i-1)) for words c (N, ``places``), each of the codes of ``codebook`` (K, d).

    A perceptron sees the earlier words' codes, zeros for the others, and the place (van den Oord et al., 2017,
    arXiv:1711.00937, whose prior is a PixelCNN).
    """

    codebook: Tensor

    def __init__(self, codebook: Tensor, places: int, hidden: int = 128) -> None:
        super().__init__()
        self.register_buffer("codebook", codebook.detach().clone())
        self.places = _checks.positive_integer("places", places)
        inputs = places * (codebook.shape[1] + 1)
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, len(codebook)))

    def next_word(self, c: Tensor, i: int) -> Tensor:
        """Logits (N, K) of word i; of ``c`` (N, places) only the words before i are read."""
        seen = torch.zeros(len(c), self.places, self.codebook.shape[1]).to(self.codebook)
        seen[:, :i] = self.codebook[c[:, :i]]
        place = F.one_hot(torch.tensor(i, device=c.device), self.places).to(seen).expand(len(c), -1)
        logits: Tensor = self.body(torch.cat([seen.flatten(1), place], dim=1))
        return logits

    def log_prob(self, c: Tensor) -> Tensor:
        """log p(c) in nats, (N,). Raises ``ValueError`` for indices that are none of 0..K-1, or another shape."""
        _numbers_codes(c, len(self.codebook), "c")
        if c.ndim != 2 or c.shape[1] != self.places:
            _checks.fail("c", f"shape (N, {self.places})", f"shape {tuple(c.shape)}")
        terms = [-F.cross_entropy(self.next_word(c, i), c[:, i], reduction="none") for i in range(self.places)]
        return torch.stack(terms).sum(0)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Words (n, places), drawn one after another."""
        c = torch.zeros(_checks.positive_integer("n", n), self.places, dtype=torch.int64, device=self.codebook.device)
        for i in range(self.places):
            c[:, i] = torch.multinomial(self.next_word(c, i).softmax(1), 1)[:, 0]
        return c


def _fits(z: Tensor, codebook: Tensor) -> None:
    if _checks.tensor("codebook", codebook).ndim != 2:
        _checks.fail("codebook", "shape (K, d)", f"shape {tuple(codebook.shape)}")
    if _checks.tensor("z", z).ndim < 2 or z.shape[-1] != codebook.shape[1]:
        _checks.fail("z", f"shape (..., {codebook.shape[1]}) with at least two axes", f"shape {tuple(z.shape)}")


def _numbers_codes(indices: Tensor, codes: int, argument: str = "indices") -> None:
    if indices.dtype != torch.int64 or indices.numel() == 0:
        _checks.fail(argument, "int64 numbers, at least one", f"{indices.dtype}, shape {tuple(indices.shape)}")
    least, most = int(indices.min()), int(indices.max())
    if least < 0 or most >= codes:
        _checks.fail(argument, f"numbers from 0 to {codes - 1}", f"{least} to {most}")
