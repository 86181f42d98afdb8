"""The bound where the evidence is known, the parts against finite tables and quadrature, errors by name."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from gankit import vae
from gankit.networks import mlp

DOUBLE = torch.float64


class Linear:
    """x = W z + s noise with orthonormal columns of W: evidence and posterior are known, and the latter diagonal."""

    def __init__(self, scale: float = 0.7, stretch: float = 1.0, shift: float = 0.0) -> None:
        torch.manual_seed(0)
        self.W, self.s = torch.linalg.svd(torch.randn(5, 2, dtype=DOUBLE)).U[:, :2], scale
        self.stretch, self.shift = stretch, shift  # of the encoder, off the posterior

    def posterior(self, x):
        return Normal(x @ self.W / (1 + self.s**2), self.s / (1 + self.s**2) ** 0.5)

    def encode(self, x):
        exact = self.posterior(x)
        return exact.mean + self.shift, 2 * (self.stretch * exact.stddev).log()

    def log_likelihood(self, x, z):
        return Normal(z @ self.W.T, self.s).log_prob(x).sum(1)

    def evidence(self, x):
        covariance = self.W @ self.W.T + self.s**2 * torch.eye(5, dtype=DOUBLE)
        return MultivariateNormal(torch.zeros(5, dtype=DOUBLE), covariance).log_prob(x)

    def gap(self, x):
        mean, log_variance = self.encode(x)
        return kl_divergence(Normal(mean, (log_variance / 2).exp()), self.posterior(x)).sum(1)


def data(n):
    return torch.randn(n, 5, dtype=DOUBLE)


def repeated(value, x, times=4000):
    """The mean for each row of ``x`` over so many draws, all of them in one batch."""
    return value(x.repeat(times, 1)).view(times, len(x)).mean(0)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_kl_is_that_of_torch_and_a_sum_over_coordinates(n, k, seed):
    torch.manual_seed(seed)
    mean, log_variance = 2 * torch.randn(2, n, k, dtype=DOUBLE)
    kl = vae.gaussian_kl(mean, log_variance)
    theirs = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0 * mean, 1.0)).sum(-1)
    torch.testing.assert_close(kl, theirs)
    assert kl.shape == (n,) and (kl >= 0).all()


def test_kl_near_the_prior_keeps_its_digits():
    """KL of N(0, exp(s)) is s^2 / 4 to leading order: far below the rounding of exp(s) - 1 in single precision."""
    s = torch.tensor([[1e-4]])
    assert vae.gaussian_kl(torch.zeros(1, 1), s).item() == pytest.approx(2.5e-9, rel=0.05)


def test_density_is_that_of_torch_and_broadcasts():
    x, mean, log_variance = torch.randn(7, 1, 3, dtype=DOUBLE), *torch.randn(2, 4, 3, dtype=DOUBLE)
    ours = vae.gaussian_log_density(x, mean, log_variance)
    torch.testing.assert_close(ours, Normal(mean, (log_variance / 2).exp()).log_prob(x).sum(-1))
    assert ours.shape == (7, 4)
    z = torch.randn(6, 3, dtype=DOUBLE)
    torch.testing.assert_close(vae.standard_normal(z), Normal(0.0, 1.0).log_prob(z).sum(1))


def test_the_draw_has_the_law_and_passes_gradients():
    mean, log_variance = torch.tensor([1.0, -2.0]).requires_grad_(), torch.tensor([0.0, 1.4]).requires_grad_()
    torch.manual_seed(1)
    z = vae.reparametrized(mean.expand(100_000, 2), log_variance.expand(100_000, 2))
    torch.testing.assert_close(z.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(z.var(0), log_variance.exp(), atol=0, rtol=0.03)
    z.square().mean(0).sum().backward()  # E z^2 = mean^2 + variance
    torch.testing.assert_close(mean.grad, 2 * mean.detach(), atol=0.06, rtol=0)
    torch.testing.assert_close(log_variance.grad, log_variance.detach().exp(), atol=0, rtol=0.03)


def test_at_the_posterior_each_draw_of_the_bound_is_the_evidence():
    model, x = Linear(), data(50)
    torch.testing.assert_close(vae.elbo(model, x, log_prior=vae.standard_normal), model.evidence(x))
    torch.testing.assert_close(vae.importance_bound(model, x, 3), model.evidence(x))


@pytest.mark.parametrize("log_prior", [None, vae.standard_normal], ids=["exact", "drawn"])
@pytest.mark.parametrize(("stretch", "shift"), [(1.0, 0.0), (1.5, 0.0), (0.6, 0.4)])
def test_the_bound_lies_below_the_evidence_by_the_gap(log_prior, stretch, shift):
    model, x = Linear(stretch=stretch, shift=shift), data(20)
    torch.manual_seed(2)
    bound = repeated(lambda x: vae.elbo(model, x, log_prior=log_prior), x)
    torch.testing.assert_close(bound, model.evidence(x) - model.gap(x), atol=0.12, rtol=0)


def test_beta_weighs_the_kl_alone():
    model, x = Linear(stretch=1.3), data(20)
    values = []
    for beta in (0.0, 1.0, 3.0):
        torch.manual_seed(3)  # the same draws
        values.append(vae.elbo(model, x, beta=beta))
    kl = vae.gaussian_kl(*model.encode(x))
    torch.testing.assert_close(values[0] - values[1], kl)
    torch.testing.assert_close(values[1] - values[2], 2 * kl)


def test_importance_weights_climb_to_the_evidence_and_are_unbiased():
    model, x = Linear(stretch=1.4, shift=0.5), data(20)
    torch.manual_seed(4)
    bounds = [repeated(lambda x, k=k: vae.importance_bound(model, x, k), x, 400).mean() for k in (1, 4, 16)]
    truth = model.evidence(x)
    assert bounds[0] < bounds[1] < bounds[2] < truth.mean()
    assert bounds[0].item() == pytest.approx((truth - model.gap(x)).mean().item(), abs=0.1)
    ratio = repeated(lambda x: (vae.importance_bound(model, x, 16) - model.evidence(x)).exp(), x, 400).mean()
    assert ratio.item() == pytest.approx(1.0, abs=0.05)
    assert vae.importance_bound(model, x, 200).sub(truth).abs().max() < 0.5


def test_another_prior_changes_the_evidence():
    """With the prior N(1, 1) in each coordinate the evidence is that of x - W (1, 1)."""
    model, x = Linear(stretch=1.5), data(20)
    torch.manual_seed(5)
    estimate = vae.importance_bound(model, x, 4000, log_prior=lambda z: Normal(1.0, 1.0).log_prob(z).sum(1))
    torch.testing.assert_close(estimate, model.evidence(x - model.W.sum(1)), atol=0.2, rtol=0)


def test_gradients_reach_encoder_decoder_and_prior():
    network = vae.GaussianVAE(mlp(4, 8, 4), mlp(2, 8, 8))
    center = torch.zeros(2, requires_grad=True)
    prior = partial(vae.gaussian_log_density, mean=center, log_variance=torch.zeros(2))
    vae.elbo(network, torch.randn(6, 4), log_prior=prior).sum().backward()
    for parameter in (*network.parameters(), center):
        assert parameter.grad is not None and parameter.grad.abs().max() > 0


def test_the_network_halves_its_outputs_and_flattens_images():
    network = vae.GaussianVAE(nn.Sequential(nn.Flatten(), mlp(12, 6)), mlp(3, 24))
    x, z = torch.randn(5, 1, 3, 4), torch.randn(5, 3)
    mean, log_variance = network.encode(x)
    assert mean.shape == log_variance.shape == (5, 3)
    torch.testing.assert_close(torch.cat([mean, log_variance], 1), network.encoder(x))
    center, spread = network.decoder(z).split(12, 1)
    expected = Normal(center, (spread / 2).exp()).log_prob(x.flatten(1)).sum(1)
    torch.testing.assert_close(network.log_likelihood(x, z), expected)


def test_aggregated_density_is_the_mixture_whatever_the_blocks():
    mean, log_variance = torch.randn(2, 300, 40, dtype=DOUBLE)
    z = torch.randn(900, 40, dtype=DOUBLE)  # more than one block of 2^22 numbers
    parts = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    mixture = MixtureSameFamily(Categorical(torch.ones(300, dtype=DOUBLE)), parts)
    torch.testing.assert_close(vae.log_aggregated(z, mean, log_variance), mixture.log_prob(z))


def test_aggregated_density_integrates_to_one_and_passes_gradients():
    mean, log_variance = torch.randn(2, 7, 1, dtype=DOUBLE)
    axis = torch.linspace(-30, 30, 60_001, dtype=DOUBLE)[:, None]
    assert vae.log_aggregated(axis, mean, log_variance).exp().sum().item() * 1e-3 == pytest.approx(1, abs=1e-6)
    mean.requires_grad_()
    vae.log_aggregated(axis[::1000], mean, log_variance).sum().backward()
    assert mean.grad.abs().min() > 0


def separated(n=6, distance=100.0):
    """Posteriors that do not overlap: the code tells the row."""
    centers = distance * torch.arange(n, dtype=DOUBLE)[:, None]
    return SimpleNamespace(encode=lambda x: (x, 0 * x), log_likelihood=lambda x, z: (x * z).sum(1)), centers


def test_surgery_of_disjoint_posteriors_reaches_the_ceiling():
    model, x = separated()
    assert vae.surgery(model, x).information == pytest.approx(math.log(6), abs=1e-9)


def test_surgery_without_information_leaves_the_marginal():
    """An encoder that ignores x: I = 0, and the marginal KL is the KL."""
    torch.manual_seed(7)
    mean, log_variance = torch.tensor([0.8, -0.3], dtype=DOUBLE), torch.tensor([-0.5, 0.2], dtype=DOUBLE)
    model = SimpleNamespace(
        encode=lambda x: (mean.expand(len(x), 2), log_variance.expand(len(x), 2)),
        log_likelihood=lambda x, z: z[:, 0],
    )
    cut = vae.surgery(model, torch.zeros(4000, 1, dtype=DOUBLE))
    assert cut.information == pytest.approx(0, abs=1e-9)
    assert cut.marginal_kl == pytest.approx(vae.gaussian_kl(mean, log_variance).item(), abs=0.06)
    assert cut.reconstruction == pytest.approx(0.8, abs=0.05)


def test_surgery_against_quadrature_on_the_line():
    mean = torch.tensor([[-1.0], [0.5], [2.0]], dtype=DOUBLE)
    log_variance = torch.tensor([[-1.0], [0.0], [-2.0]], dtype=DOUBLE)
    axis = torch.linspace(-12, 12, 24_001, dtype=DOUBLE)
    q = Normal(mean, (log_variance / 2).exp()).log_prob(axis).exp()  # (3, grid)
    aggregated, prior = q.mean(0), Normal(0.0, 1.0).log_prob(axis).exp()
    information = (torch.xlogy(q, q) - torch.xlogy(q, aggregated)).sum(1).mean().item() * 1e-3
    marginal = (torch.xlogy(aggregated, aggregated) - torch.xlogy(aggregated, prior)).sum().item() * 1e-3
    # 1,000 copies of the three rows have the same aggregated posterior.
    model = SimpleNamespace(
        encode=lambda x: (mean.repeat(1000, 1), log_variance.repeat(1000, 1)),
        log_likelihood=lambda x, z: -z.square().sum(1),
    )
    torch.manual_seed(8)
    cuts = [vae.surgery(model, torch.zeros(3000, 1, dtype=DOUBLE)) for _ in range(5)]
    found = {name: sum(getattr(cut, name) for cut in cuts) / 5 for name in vae.Surgery.__annotations__}
    assert found["information"] == pytest.approx(information, abs=0.03)
    assert found["marginal_kl"] == pytest.approx(marginal, abs=0.05)
    squares = (mean.square() + log_variance.exp()).mean().item()
    assert found["reconstruction"] == pytest.approx(-squares, abs=0.1)
    assert information + marginal == pytest.approx(vae.gaussian_kl(mean, log_variance).mean().item(), abs=1e-6)


@given(st.integers(1, 20), st.floats(0.01, 5.0), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_information_stays_below_its_ceiling_for_each_draw(n, spread, seed):
    torch.manual_seed(seed)
    mean = spread * torch.randn(n, 2, dtype=DOUBLE)
    model = SimpleNamespace(encode=lambda x: (mean, 0 * mean), log_likelihood=lambda x, z: z.sum(1))
    x = torch.zeros(n, 1, dtype=DOUBLE)
    torch.manual_seed(seed)
    cut = vae.surgery(model, x)
    torch.manual_seed(seed)  # the same draw: the parts add up to it exactly
    bound = vae.elbo(model, x, log_prior=vae.standard_normal).mean().item()
    assert cut.information <= math.log(n) + 1e-9 and cut.elbo == pytest.approx(bound, abs=1e-9)


def test_with_the_aggregated_posterior_as_prior_no_marginal_kl_is_left():
    torch.manual_seed(9)
    mean = torch.randn(30, 2, dtype=DOUBLE)
    model = SimpleNamespace(encode=lambda x: (mean, 0 * mean - 1), log_likelihood=lambda x, z: z.sum(1))
    x = torch.zeros(30, 1, dtype=DOUBLE)
    cut = vae.surgery(model, x, log_prior=lambda z: vae.log_aggregated(z, mean, 0 * mean - 1))
    assert cut.marginal_kl == pytest.approx(0, abs=1e-12) and cut.information > 0.3


def test_single_precision_stays_single():
    network, x = vae.GaussianVAE(mlp(4, 4), mlp(2, 8)), torch.randn(6, 4)
    assert {value(network, x).dtype for value in (vae.elbo, lambda m, x: vae.importance_bound(m, x, 2))} == {
        torch.float32
    }


BAD, GOOD = torch.full((3, 2), math.nan), torch.zeros(3, 2)
COLUMN = SimpleNamespace(encode=lambda x: (x, x), log_likelihood=lambda x, z: z[:, :1])


@pytest.mark.parametrize(
    ("call", "named"),
    [(lambda: vae.gaussian_kl(BAD, GOOD), "mean"),
     (lambda: vae.gaussian_kl(GOOD, BAD), "log_variance"),
     (lambda: vae.gaussian_kl(GOOD, GOOD[:, :1]), "log_variance"),
     (lambda: vae.gaussian_log_density(GOOD, GOOD[:, :1], GOOD), "mean"),
     (lambda: vae.gaussian_log_density(GOOD, GOOD, GOOD[:, :1]), "log_variance"),
     (lambda: vae.reparametrized(GOOD, GOOD[:, :1]), "log_variance"),
     (lambda: vae.elbo(Linear(), BAD), "x"),
     (lambda: vae.elbo(Linear(), data(3), beta=-1.0), "beta"),
     (lambda: vae.elbo(Linear(), data(3), beta=math.inf), "beta"),
     (lambda: vae.elbo(COLUMN, GOOD), "log_likelihood"),
     (lambda: vae.elbo(Linear(), data(3), log_prior=lambda z: z), r"log_prior\(z\)"),
     (lambda: vae.importance_bound(Linear(), data(3), 0), "samples"),
     (lambda: vae.importance_bound(COLUMN, GOOD, 2), "log_likelihood"),
     (lambda: vae.importance_bound(Linear(), data(3), 2, log_prior=lambda z: z), r"log_prior\(z\)"),
     (lambda: vae.log_aggregated(GOOD, GOOD[:, :1], GOOD[:, :1]), "mean"),
     (lambda: vae.log_aggregated(GOOD, GOOD, GOOD[:2]), "log_variance"),
     (lambda: vae.log_aggregated(GOOD[0], GOOD, GOOD), "mean"),
     (lambda: vae.surgery(COLUMN, GOOD), "log_likelihood"),
     (lambda: vae.surgery(Linear(), data(3), log_prior=lambda z: z), r"log_prior\(z\)"),
     (lambda: vae.surgery(Linear(), BAD), "x"),
     (lambda: vae.GaussianVAE(mlp(2, 3), mlp(1, 4)).encode(GOOD), "encoder"),
     (lambda: vae.GaussianVAE(mlp(2, 4), mlp(2, 3)).decode(GOOD), "decoder"),
     (lambda: vae.GaussianVAE(mlp(2, 4), mlp(2, 6)).log_likelihood(GOOD, GOOD), "mean")],
)  # fmt: skip
def test_what_is_wrong_is_named(call, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected"):
        call()
