"""The losses' signs, values, gradients at large scores, and what they tell at the optimal critic."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon

from gankit.divergences import DIVERGENCES, GAN, JENSEN_SHANNON, KL
from gankit.losses import HINGE, LEAST_SQUARES, MINIMAX, NON_SATURATING, WASSERSTEIN, from_divergence

FIVE = [MINIMAX, NON_SATURATING, LEAST_SQUARES, HINGE, WASSERSTEIN]
ALL = FIVE + [from_divergence(divergence) for divergence in DIVERGENCES.values()]
by_name = pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def generator_gradient(loss, score, n, dtype):
    fake = torch.full((n, 1), score, dtype=dtype, requires_grad=True)
    loss.generator(fake).backward()
    return fake.grad


def critic_gradients(loss, real, fake):
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    return torch.autograd.grad(loss.critic(real, fake), (real, fake))


@dtypes
def test_minimax_saturates_and_non_saturating_does_not(dtype):
    zero = torch.zeros(5, dtype=dtype)
    torch.testing.assert_close(MINIMAX.generator(zero).item(), -math.log(2), rtol=1e-6, atol=0)
    torch.testing.assert_close(NON_SATURATING.generator(zero).item(), math.log(2), rtol=1e-6, atol=0)
    # A fake that the critic is sure of has score -100: only one of the losses still moves it.
    n = 4
    pulls = generator_gradient(NON_SATURATING, -100.0, n, dtype)
    torch.testing.assert_close(pulls, torch.full((n, 1), -1 / n, dtype=dtype))
    vanished = generator_gradient(MINIMAX, -100.0, n, dtype)
    torch.testing.assert_close(vanished, torch.zeros(n, 1, dtype=dtype), rtol=0, atol=1e-40)
    # At +100 the roles are exchanged.
    torch.testing.assert_close(generator_gradient(MINIMAX, 100.0, n, dtype), torch.full((n, 1), -1 / n, dtype=dtype))
    gone = generator_gradient(NON_SATURATING, 100.0, n, dtype)
    torch.testing.assert_close(gone, torch.zeros(n, 1, dtype=dtype), rtol=0, atol=1e-40)


@dtypes
@pytest.mark.parametrize("loss", [MINIMAX, NON_SATURATING], ids=lambda loss: loss.name)
def test_logistic_critic_learns_from_its_worst_mistakes(loss, dtype):
    n, m = 2, 5
    worst = critic_gradients(loss, torch.full((n,), -100.0, dtype=dtype), torch.full((m,), 100.0, dtype=dtype))
    torch.testing.assert_close(worst[0], torch.full((n,), -1 / n, dtype=dtype))
    torch.testing.assert_close(worst[1], torch.full((m,), 1 / m, dtype=dtype))
    value = loss.critic(torch.full((n,), -100.0, dtype=dtype), torch.full((m,), 100.0, dtype=dtype))
    torch.testing.assert_close(value.item(), 200.0)


@by_name
@pytest.mark.parametrize(("dtype", "large"), [(torch.float32, 80.0), (torch.float64, 100.0)])
def test_gradients_are_finite_at_large_scores(loss, dtype, large):
    scores = torch.tensor([-large, -1.0, 0.0, 1.0, large], dtype=dtype)
    for gradient in critic_gradients(loss, scores, scores):
        assert gradient.isfinite().all()
    fake = scores.clone().requires_grad_()
    loss.generator(fake).backward()
    assert fake.grad.isfinite().all()
    assert (fake.grad != 0).any()


@by_name
def test_the_critic_raises_real_scores_and_the_generator_raises_fake_ones(loss):
    """The players' directions at score 1/2, between all targets, where no loss is flat; real comes first."""
    undecided = torch.full((3,), 0.5, dtype=torch.float64)
    real, fake = critic_gradients(loss, undecided, undecided)
    assert (real < 0).all()
    assert (fake > 0).all()
    assert (generator_gradient(loss, 0.5, 3, torch.float64) < 0).all()


@pytest.mark.parametrize("loss", [MINIMAX, NON_SATURATING], ids=lambda loss: loss.name)
def test_logistic_critic_is_the_cross_entropy_of_a_classifier(loss):
    generator = torch.Generator().manual_seed(0)
    real, fake = (5 * torch.randn(n, 1, generator=generator, dtype=torch.float64) for n in (7, 3))
    entropy = F.binary_cross_entropy_with_logits
    expected = entropy(real, torch.ones_like(real)) + entropy(fake, torch.zeros_like(fake))
    torch.testing.assert_close(loss.critic(real, fake), expected)
    torch.testing.assert_close(NON_SATURATING.generator(fake), entropy(fake, torch.ones_like(fake)))
    torch.testing.assert_close(MINIMAX.generator(fake), -entropy(fake, torch.zeros_like(fake)))


def test_value_at_the_optimal_critic_is_log_4_minus_twice_jensen_shannon():
    counts_p, counts_q = torch.tensor([1, 4, 5]), torch.tensor([6, 3, 1])
    p, q = counts_p.double() / 10, counts_q.double() / 10
    scores = (p / q).log()  # D* = p / (p + q)
    real, fake = scores.repeat_interleave(counts_p), scores.repeat_interleave(counts_q)
    expected = math.log(4) - 2 * jensenshannon(p.numpy(), q.numpy()) ** 2
    torch.testing.assert_close(MINIMAX.critic(real, fake).item(), expected, rtol=1e-12, atol=0)
    for gradient in critic_gradients(MINIMAX, scores, scores):
        assert gradient.isfinite().all()
    nudged = scores + torch.tensor([0.1, -0.1, 0.05], dtype=torch.float64)
    assert MINIMAX.critic(nudged.repeat_interleave(counts_p), nudged.repeat_interleave(counts_q)).item() > expected


@pytest.mark.parametrize(
    ("loss", "critic", "generator"),
    [
        # real = (3, 0), fake = (-2, 1, 4): the means run over 2 and over 3 scores.
        (LEAST_SQUARES, ((4 + 1) / 2 + (4 + 1 + 16) / 3) / 2, (9 + 0 + 9) / 3 / 2),
        (HINGE, (0 + 1) / 2 + (0 + 2 + 5) / 3, -1.0),
        (WASSERSTEIN, 1.0 - 1.5, -1.0),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_values_by_hand(loss, critic, generator):
    real = torch.tensor([3.0, 0.0], dtype=torch.float64)
    fake = torch.tensor([-2.0, 1.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(loss.critic(real, fake).item(), critic)
    torch.testing.assert_close(loss.generator(fake).item(), generator)
    assert abs(loss.critic(fake, real).item() - critic) > 0.1  # exchanged arguments would be seen


def test_gradients_by_hand():
    real = torch.tensor([3.0, 0.0], dtype=torch.float64)
    fake = torch.tensor([-2.0, 1.0, 4.0], dtype=torch.float64)
    expected = {
        LEAST_SQUARES: ([2 / 2, -1 / 2], [-2 / 3, 1 / 3, 4 / 3]),
        HINGE: ([0.0, -1 / 2], [0.0, 1 / 3, 1 / 3]),
        WASSERSTEIN: ([-1 / 2, -1 / 2], [1 / 3, 1 / 3, 1 / 3]),
    }
    for loss, (on_real, on_fake) in expected.items():
        gradients = critic_gradients(loss, real, fake)
        torch.testing.assert_close(gradients[0], torch.tensor(on_real, dtype=torch.float64))
        torch.testing.assert_close(gradients[1], torch.tensor(on_fake, dtype=torch.float64))


def test_least_squares_at_its_optimal_critic_is_a_triangular_discrimination():
    """With T* = p / (p + q) the value is 1/2 sum p q / (p + q), a textbook identity for targets 1 and 0."""
    counts_p, counts_q = torch.tensor([1, 4, 5]), torch.tensor([6, 3, 1])
    p, q = counts_p.double() / 10, counts_q.double() / 10
    scores = p / (p + q)
    value = LEAST_SQUARES.critic(scores.repeat_interleave(counts_p), scores.repeat_interleave(counts_q))
    torch.testing.assert_close(value, (p * q / (p + q)).sum() / 2)


def test_hinge_at_its_optimal_critic_is_two_minus_twice_total_variation():
    counts_p, counts_q = torch.tensor([1, 4, 5]), torch.tensor([6, 3, 1])
    scores = (counts_p - counts_q).sign().double()
    value = HINGE.critic(scores.repeat_interleave(counts_p), scores.repeat_interleave(counts_q))
    torch.testing.assert_close(value.item(), 2 - 2 * 0.5)  # TV = (5 + 1 + 4) / 10 / 2


def test_the_divergence_gan_is_the_minimax_game():
    game = from_divergence(GAN)
    generator = torch.Generator().manual_seed(1)
    real, fake = (4 * torch.randn(n, 1, generator=generator, dtype=torch.float64) for n in (6, 9))
    torch.testing.assert_close(game.critic(real, fake), MINIMAX.critic(real, fake))
    torch.testing.assert_close(game.generator(fake), MINIMAX.generator(fake))


@pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)
def test_from_divergence_is_a_zero_sum_game_up_to_the_data(divergence):
    """Both losses come from one value V = E_P[T] - E_Q[f*(T)]: their gradients in the fake scores are opposite."""
    game = from_divergence(divergence)
    assert game.name == divergence.name
    fake = torch.tensor([-1.5, 0.3, 2.0], dtype=torch.float64)
    real = torch.tensor([0.7, -0.2], dtype=torch.float64)
    leaf = fake.clone().requires_grad_()
    (of_generator,) = torch.autograd.grad(game.generator(leaf), leaf)
    _, of_critic = critic_gradients(game, real, fake)
    torch.testing.assert_close(of_generator, -of_critic)


def test_from_divergence_by_hand():
    real, fake = torch.tensor([2.0, 1.0], dtype=torch.float64), torch.tensor([1.0, 3.0, 1.0], dtype=torch.float64)
    game = from_divergence(KL)
    torch.testing.assert_close(game.critic(real, fake).item(), (1 + math.e**2 + 1) / 3 - 1.5)
    torch.testing.assert_close(game.generator(fake).item(), -(1 + math.e**2 + 1) / 3)
    assert from_divergence(JENSEN_SHANNON).critic(torch.zeros(2), torch.zeros(3)).item() == 0.0


@by_name
def test_losses_are_scalars_in_the_scores_dtype_for_batches_of_any_size(loss):
    for dtype in (torch.float32, torch.float64):
        for shape in ((), (1,), (1, 4, 4)):
            real, fake = torch.zeros(2, *shape, dtype=dtype), torch.zeros(5, *shape, dtype=dtype)
            for value in (loss.critic(real, fake), loss.generator(fake)):
                assert value.shape == ()
                assert value.dtype == dtype


@by_name
def test_errors_name_the_argument(loss):
    good = torch.zeros(4, 1)
    with pytest.raises(ValueError, match=r"^fake_scores: expected shape \(N, 1\) like real_scores, got shape \(4,\)"):
        loss.critic(good, torch.zeros(4))
    with pytest.raises(ValueError, match=r"^real_scores: expected finite numbers, got 1 NaN"):
        loss.critic(torch.tensor([math.nan]), torch.zeros(1))
    with pytest.raises(ValueError, match=r"^fake_scores: expected finite numbers, got 1 NaN"):
        loss.generator(torch.tensor([math.inf]))
    with pytest.raises(ValueError, match=r"^fake_scores: expected a floating-point tensor, got torch.int64"):
        loss.generator(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"^fake_scores: expected .* at least one element, got shape \(0, 1\)"):
        loss.generator(torch.zeros(0, 1))
