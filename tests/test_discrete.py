"""Quantization against brute force, losses against k-means, scores against the exact sum, the prior against its sum."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Categorical

from gankit.discrete import VQAutoencoder, WordPrior, perplexity, quantize, restart, score_surrogate, vq_loss

ZEROS = torch.zeros(3, dtype=torch.int64)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@given(n=st.integers(1, 9), codes=st.integers(1, 7), depth=st.integers(1, 4), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_the_nearest_code_of_all(n, codes, depth, seed):
    torch.manual_seed(seed)
    z, codebook = double(n, depth), double(codes, depth)
    values, indices = quantize(z, codebook)
    for point, value, index in zip(z, values, indices, strict=True):
        distances = [math.dist(point.tolist(), code.tolist()) for code in codebook]
        assert distances[index] == min(distances)
        assert torch.equal(value, codebook[index])  # without rounding


def test_any_number_of_axes_and_the_first_of_equals():
    codebook = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    values, indices = quantize(torch.zeros(2, 3, 4, 2), codebook)
    assert values.shape == (2, 3, 4, 2) and indices.shape == (2, 3, 4) and indices.dtype == torch.int64
    assert (indices == 0).all()
    assert (quantize(torch.tensor([[0.9, 0.1]]), codebook)[1] == 0).all()


def test_far_from_the_origin_differences_decide():
    codebook = 10_000 + torch.tensor([[0.0], [0.5], [1.0]]).expand(3, 30)
    z = (codebook + 0.1).repeat(20, 1)  # enough rows for the library's fast and inaccurate way
    assert torch.equal(quantize(z, codebook)[1], torch.arange(3).repeat(20))


def test_the_values_of_a_code_are_fixed_points():
    codebook = double(6, 3)
    values, indices = quantize(codebook, codebook)
    assert torch.equal(indices, torch.arange(6)) and torch.equal(values, codebook)


def test_the_gradient_goes_straight_through_to_z_alone():
    z, codebook = double(5, 2).requires_grad_(), double(4, 2).requires_grad_()
    values, indices = quantize(z, codebook)
    to_z, to_codes = torch.autograd.grad(values.pow(3).sum(), (z, codebook), allow_unused=True)
    torch.testing.assert_close(to_z, 3 * codebook.detach()[indices] ** 2)
    assert to_codes is None


def test_vq_loss_by_hand():
    z, codebook = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [3.0, 2.0]])
    assert vq_loss(z, codebook, torch.tensor([0, 1]), 0.5).item() == pytest.approx(1.5 * (1 + 4) / 2)
    assert vq_loss(z, codebook, torch.tensor([1, 0]), 0.0).item() == pytest.approx((13 + 18) / 2)


def test_each_term_has_its_own_player():
    z, codebook = double(7, 3).requires_grad_(), double(4, 3).requires_grad_()
    indices = quantize(z, codebook)[1]
    to_z, to_codes = torch.autograd.grad(vq_loss(z, codebook, indices, 0.3), (z, codebook))
    torch.testing.assert_close(to_z, 0.3 * 2 * (z - codebook[indices]) / 7)
    for k in range(4):
        mine = z[indices == k]
        torch.testing.assert_close(to_codes[k], 2 * (codebook[k] - mine).sum(0) / 7 if len(mine) else 0 * codebook[k])


def test_descent_on_the_codebook_is_lloyds_algorithm():
    torch.manual_seed(3)
    z, codebook = double(200, 2), double(5, 2)
    for _ in range(30):
        indices = quantize(z, codebook)[1]
        codebook.requires_grad_()
        before = vq_loss(z, codebook, indices, 0.0)
        slope = torch.autograd.grad(before, codebook)[0]
        codebook = (codebook - len(z) / (2 * indices.bincount(minlength=5)[:, None]) * slope).detach()
        assert vq_loss(z, codebook, quantize(z, codebook)[1], 0.0) <= before + 1e-12
    means = torch.stack([z[indices == k].mean(0) for k in range(5)])
    torch.testing.assert_close(codebook, means)


@pytest.mark.parametrize(("counts", "expected"), [([5, 0, 0], 1.0), ([2, 2, 2, 2], 4.0), ([3, 3, 0], 2.0)])
def test_perplexity_of_equal_shares_counts_them(counts, expected):
    indices = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    assert perplexity(indices, len(counts)).item() == pytest.approx(expected)


@given(counts=st.lists(st.integers(0, 20), min_size=2, max_size=8).filter(any))
def test_perplexity_is_the_exponential_of_torchs_entropy(counts):
    indices = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    entropy = Categorical(probs=torch.tensor(counts).double()).entropy()
    assert perplexity(indices.reshape(1, -1), len(counts)).item() == pytest.approx(entropy.exp().item(), rel=1e-6)


def test_restart_moves_dead_codes_to_different_vectors_and_no_others():
    torch.manual_seed(0)
    z, codebook = torch.randn(3, 4, 2), torch.full((6, 2), 50.0)
    codebook[2] = 0
    before, indices = codebook.clone(), quantize(z, codebook)[1]
    fresh = restart(codebook, z, indices)
    assert torch.equal(codebook, before) and torch.equal(fresh[2], before[2])
    moved = fresh[[0, 1, 3, 4, 5]]
    assert all((z.flatten(0, 1) == row).all(1).any() for row in moved) and len(moved.unique(dim=0)) == 5
    assert len(quantize(z, fresh)[1].unique()) > 1
    seeds = [restart(codebook, z, indices) for _ in range(5)]
    assert any(not torch.equal(seeds[0], other) for other in seeds[1:])


def test_restart_repeats_vectors_where_there_are_too_few():
    fresh = restart(torch.full((7, 2), 9.0), torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([0, 0]))
    assert torch.equal(fresh[0], torch.tensor([9.0, 9.0])) and set(map(tuple, fresh[1:].tolist())) == {(0, 1), (2, 3)}


@pytest.mark.parametrize("paired", [False, True])
def test_scores_are_unbiased(paired):
    torch.manual_seed(4)
    logits, table = double(2, 5), double(5) + 3
    exact_logits = logits.clone().requires_grad_()
    exact = torch.autograd.grad((exact_logits.softmax(1) @ table).sum(), exact_logits)[0]
    many = logits.expand(40_000, 2, 5).clone().requires_grad_()
    estimates = torch.autograd.grad(score_surrogate(many, lambda c: table[c], paired=paired).sum(), many)[0]
    error = (estimates.mean(0) - exact) / (estimates.std(0) / 200)
    assert error.abs().max() < 4.5


def test_pairs_ignore_a_constant_and_plain_scores_do_not():
    table, logits = double(4), double(300, 4).requires_grad_()
    found = {}
    for paired, shift in itertools.product((False, True), (0.0, 100.0)):
        torch.manual_seed(5)
        constants = shift * torch.arange(300)  # another one for each law
        surrogate = score_surrogate(logits, lambda c, constants=constants: table[c] + constants, paired=paired)
        found[paired, shift] = torch.autograd.grad(surrogate.sum(), logits)[0]
    torch.testing.assert_close(found[True, 0.0], found[True, 100.0])
    assert found[False, 100.0].var() > 100 * found[False, 0.0].var()


@pytest.mark.parametrize("paired", [False, True])
def test_a_function_that_is_zero_has_no_score(paired):
    logits = double(6, 4).requires_grad_()
    score_surrogate(logits, lambda c: 0.0 * c, paired=paired).sum().backward()
    assert (logits.grad == 0).all()


def test_the_functions_own_parameters_learn_from_the_surrogate():
    table = double(4).requires_grad_()
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(50_000, 4)
    to_table = torch.autograd.grad(score_surrogate(logits, lambda c: table[c]).mean(), table)[0]
    torch.testing.assert_close(to_table.float(), torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.01, rtol=0)


def test_the_autoencoder_learns_two_pictures_and_gradients_reach_all_parts():
    torch.manual_seed(6)
    x = torch.where(torch.rand(2, 1, 8, 8) < 0.5, -0.9, 0.9)
    model = VQAutoencoder(codes=8, depth=4, width=8)
    assert torch.equal(model.decode(model.encode(x)), model(x)[0]) and model.encode(x).shape == (2, 2, 2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for i in range(150):
        if i < 100 and i % 20 == 0:
            model.revive(x)
        decoded, loss = model(x)
        error = (decoded - x).square().mean()
        optimizer.zero_grad()
        (error + 0.01 * loss).backward()
        assert i or all(parameter.grad.abs().max() > 0 for parameter in model.parameters())
        optimizer.step()
    assert error < 0.1 and not torch.equal(model.encode(x)[0], model.encode(x)[1])


def test_the_autoencoders_loss_sums_over_the_grid():
    model = VQAutoencoder(5, 3, encoder=nn.Conv2d(1, 3, 1), decoder=nn.Conv2d(3, 1, 1))
    x = torch.randn(4, 1, 6, 2)
    z, indices = model.vectors(x), model.encode(x)
    assert torch.equal(z[1, 5, 0], model.encoder(x)[1, :, 5, 0])
    assert z.shape == (4, 6, 2, 3) and model(x)[0].shape == x.shape
    apart = (z - model.codebook[indices]).square().sum((1, 2, 3)).mean()
    assert model(x, commitment=0.5)[1].item() == pytest.approx(1.5 * apart.item(), rel=1e-5)


def test_revived_codes_are_the_encoders_vectors():
    torch.manual_seed(7)
    model = VQAutoencoder(6, 2, encoder=nn.Conv2d(1, 2, 1), decoder=nn.Conv2d(2, 1, 1))
    nn.init.constant_(model.codebook, 40.0)
    x = torch.randn(5, 1, 4, 4)
    model.revive(x)
    assert len(model.encode(x).unique()) >= 5 and model.codebook.requires_grad


def prior():
    torch.manual_seed(8)
    model = WordPrior(torch.randn(3, 2), places=3, hidden=16)
    nn.init.normal_(model.body[0].weight)
    return nn.init.normal_(model.body[2].weight), model


def test_the_prior_is_a_law():
    _, model = prior()
    everything = torch.tensor(list(itertools.product(range(3), repeat=3)))
    total = model.log_prob(everything).exp()
    assert total.sum().item() == pytest.approx(1, abs=1e-5) and total.std() > 1e-3


def test_the_prior_draws_what_its_density_says():
    _, model = prior()
    drawn = model.sample(20_000)
    share = (drawn @ torch.tensor([9, 3, 1])).bincount(minlength=27) / 20_000
    everything = torch.tensor(list(itertools.product(range(3), repeat=3)))
    assert (share - model.log_prob(everything).exp()).abs().sum() / 2 < 0.03


def test_a_word_depends_on_those_before_it_and_on_its_place():
    _, model = prior()
    one, other = torch.tensor([[0, 1, 2]]), torch.tensor([[2, 1, 0]])
    assert torch.equal(model.next_word(one, 0), model.next_word(other, 0))
    assert not torch.allclose(model.next_word(one, 1), model.next_word(other, 1))
    later = torch.tensor([[0, 2, 0]])
    assert torch.equal(model.next_word(one, 1), model.next_word(later, 1))
    silent = WordPrior(torch.zeros(3, 2), places=3)
    assert not torch.allclose(silent.next_word(one, 0), silent.next_word(one, 1))


def test_the_prior_learns_a_grammar():
    torch.manual_seed(9)
    first = torch.randint(4, (400, 1))
    words = torch.cat([first, (first + 1) % 4], dim=1)  # the second word follows from the first
    model = WordPrior(torch.randn(4, 3), places=2, hidden=32)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(200):
        loss = -model.log_prob(words).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(math.log(4), abs=0.1)
    drawn = model.sample(200)
    assert ((drawn[:, 0] + 1) % 4 == drawn[:, 1]).double().mean() > 0.95
    assert not any(name == "codebook" for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("call", "named"),
    [(lambda: quantize(torch.randn(3, 2), torch.randn(4, 3)), "z"),
     (lambda: quantize(torch.randn(2), torch.randn(4, 2)), "z"),
     (lambda: quantize(torch.randn(3, 2), torch.randn(4)), "codebook"),
     (lambda: quantize(torch.full((3, 2), math.nan), torch.randn(4, 2)), "z"),
     (lambda: quantize(torch.ones(3, 2, dtype=torch.int64), torch.randn(4, 2)), "z"),
     (lambda: vq_loss(torch.randn(3, 2), torch.randn(4, 2), torch.zeros(3, 1, dtype=torch.int64)), "indices"),
     (lambda: vq_loss(torch.randn(3, 2), torch.randn(4, 2), ZEROS + 4), "indices"),
     (lambda: vq_loss(torch.randn(3, 2), torch.randn(4, 2), ZEROS - 1), "indices"),
     (lambda: vq_loss(torch.randn(3, 2), torch.randn(4, 2), ZEROS.double()), "indices"),
     (lambda: vq_loss(torch.randn(3, 2), torch.randn(4, 2), ZEROS, -0.1), "commitment"),
     (lambda: vq_loss(torch.randn(3, 2), torch.randn(4, 2), ZEROS, math.nan), "commitment"),
     (lambda: perplexity(ZEROS, 0), "codes"),
     (lambda: perplexity(ZEROS[:0], 4), "indices"),
     (lambda: restart(torch.randn(4, 2), torch.randn(3, 2), ZEROS + 4), "indices"),
     (lambda: score_surrogate(torch.randn(3, 4), lambda c: c.double().sum()), r"f\(words\)"),
     (lambda: score_surrogate(torch.full((3, 4), math.nan), lambda c: c.double()), "logits"),
     (lambda: VQAutoencoder(0, 2), "codes"),
     (lambda: VQAutoencoder(4, 2.0), "depth"),
     (lambda: WordPrior(torch.randn(4, 2), 0), "places"),
     (lambda: WordPrior(torch.randn(4, 2), 3).log_prob(torch.zeros(5, 2, dtype=torch.int64)), "c"),
     (lambda: WordPrior(torch.randn(4, 2), 3).log_prob(torch.full((5, 3), 4)), "c"),
     (lambda: WordPrior(torch.randn(4, 2), 3).sample(0), "n")],
)  # fmt: skip
def test_what_is_wrong_is_named(call, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected"):
        call()
