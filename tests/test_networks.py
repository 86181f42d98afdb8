"""Shapes, ranges, counts and initialization of the networks, and which of them couple the samples of a batch."""

import itertools

import pytest
import torch
from torch import nn

from gankit.networks import (
    ConditionalGenerator,
    JointCritic,
    ProjectionCritic,
    UNet,
    dcgan_critic,
    dcgan_generator,
    mlp,
    paired,
    patch_critic,
)

SIZES, CHANNELS = (8, 16, 32, 64), (1, 2, 3, 4)
sizes = pytest.mark.parametrize("size", SIZES)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_mlp_is_affine_layers_with_activations_between():
    network = mlp(3, 5, 7, 2, activation=nn.Tanh)
    assert [type(layer) for layer in network] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert parameters(network) == 3 * 5 + 5 + 5 * 7 + 7 + 7 * 2 + 2
    x = torch.randn(11, 3)
    (w1, b1), (w2, b2), (w3, b3) = ((layer.weight, layer.bias) for layer in network[::2])
    by_hand = ((x @ w1.T + b1).tanh() @ w2.T + b2).tanh() @ w3.T + b3
    torch.testing.assert_close(network(x), by_hand)


def test_mlp_defaults_to_relu_and_two_widths_are_a_linear_map():
    assert isinstance(mlp(1, 2, 1)[1], nn.ReLU)
    linear = mlp(4, 3)
    assert [type(layer) for layer in linear] == [nn.Linear]


@pytest.mark.parametrize(("widths", "message"), [((3,), "at least an input"), ((), "at least an input")])
def test_mlp_needs_two_widths(widths, message):
    with pytest.raises(ValueError, match=rf"^widths: expected {message} and an output width, got"):
        mlp(*widths)


@pytest.mark.parametrize("width", [0, -1, 2.0, "8", True])
def test_mlp_widths_are_whole_numbers(width):
    with pytest.raises(ValueError, match=r"^widths: expected a whole number of at least 1, got"):
        mlp(2, width, 1)


@sizes
@pytest.mark.parametrize("channels", CHANNELS)
def test_shapes_and_ranges(size, channels):
    generator, critic = dcgan_generator(6, channels, size, width=2), dcgan_critic(channels, size, width=2)
    images = generator(100 * torch.randn(3, 6))
    assert images.shape == (3, channels, size, size)
    assert images.abs().max() <= 1
    assert critic(images).shape == (3, 1)
    assert dcgan_critic(channels, size, width=2, norm=None)(images).shape == (3, 1)


@sizes
def test_generator_ends_in_tanh_and_critic_in_an_unbounded_score(size):
    generator, critic = dcgan_generator(4, 1, size, width=2), dcgan_critic(1, size, width=2, norm=None)
    assert isinstance(generator[-1], nn.Tanh)
    images = torch.rand(2, 1, size, size) * 2 - 1
    with torch.no_grad():
        scores = critic(images)
        critic[-2].weight.mul_(1e6)
        torch.testing.assert_close(critic(images), 1e6 * scores)  # no sigmoid, no tanh
        generator[-2].bias.fill_(50.0)
        assert (generator(torch.randn(2, 4)) == 1).all()
        generator[-2].bias.fill_(-50.0)
        assert (generator(torch.randn(2, 4)) == -1).all()


@sizes
@pytest.mark.parametrize(("latent", "channels", "width"), [(5, 1, 2), (16, 3, 4)])
def test_parameter_counts(size, latent, channels, width):
    """Every kernel is 4 x 4; maps double at each halving of the size; batch normalization has two numbers a map."""
    stages = {8: 1, 16: 2, 32: 3, 64: 4}[size]
    maps = [width * 2**k for k in range(stages)]
    inner = sum(16 * a * b for a, b in itertools.pairwise(maps))
    generator = 16 * latent * maps[-1] + inner + 2 * sum(maps) + 16 * width * channels + channels
    assert parameters(dcgan_generator(latent, channels, size, width)) == generator
    critic = 16 * channels * width + width + inner + 2 * sum(maps[1:]) + 16 * maps[-1] + 1
    assert parameters(dcgan_critic(channels, size, width)) == critic
    plain = 16 * channels * width + inner + sum(maps) + 16 * maps[-1] + 1
    assert parameters(dcgan_critic(channels, size, width, norm=None)) == plain


def test_parameter_counts_of_the_known_64_pixel_pair():
    """PyTorch's DCGAN tutorial has 3,576,704 and 2,765,568 without the biases of the outer convolutions."""
    assert parameters(dcgan_generator(100, 3, 64, width=64)) == 3_576_704 + 3
    assert parameters(dcgan_critic(3, 64, width=64)) == 2_765_568 + 64 + 1


def test_initialization_statistics():
    torch.manual_seed(1)
    for network in (dcgan_generator(100, 3, 64, width=32), dcgan_critic(3, 64, width=32)):
        kernels, scales = [], []
        for layer in network:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                kernels.append(layer.weight.detach().flatten())
            elif isinstance(layer, nn.BatchNorm2d):
                scales.append(layer.weight.detach())
            if getattr(layer, "bias", None) is not None:
                assert (layer.bias == 0).all()
        for weights, mean in ((torch.cat(kernels), 0.0), (torch.cat(scales), 1.0)):
            n = len(weights)
            assert abs(weights.mean().item() - mean) < 4 * 0.02 / n**0.5
            assert abs(weights.std().item() - 0.02) < 4 * 0.02 / (2 * n) ** 0.5


@sizes
def test_batch_norm_keeps_its_small_eps(size):
    """A second positional argument of BatchNorm2d sets eps, not momentum: eps = 0.8 is a well-known mistake."""
    for network in (dcgan_generator(4, 1, size, 2), dcgan_critic(1, size, 2)):
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.eps == 1e-5
                assert layer.momentum == 0.1


@sizes
def test_normalization_stands_in_all_but_the_outer_layers(size):
    generator, critic = dcgan_generator(4, 1, size, 2), dcgan_critic(1, size, 2)
    stages = {8: 1, 16: 2, 32: 3, 64: 4}[size]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in generator) == stages
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in critic) == stages - 1
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in dcgan_critic(1, size, 2, norm=None))
    slopes = [layer.negative_slope for layer in critic if isinstance(layer, nn.LeakyReLU)]
    assert slopes == [0.2] * stages


def test_another_norm_is_used():
    critic = dcgan_critic(1, 32, 2, norm=nn.InstanceNorm2d)
    assert [layer.num_features for layer in critic if isinstance(layer, nn.InstanceNorm2d)] == [4, 8]


def test_in_eval_mode_a_single_sample_equals_its_row_of_a_batch():
    generator = dcgan_generator(4, 1, 16, width=4)
    for _ in range(5):
        generator(3 * torch.randn(32, 4) + 1)  # running statistics that are not the initial ones
    z = torch.randn(6, 4)
    generator.eval()
    batch = generator(z)
    for k in range(6):
        torch.testing.assert_close(generator(z[k : k + 1])[0], batch[k], rtol=1e-4, atol=1e-6)
    generator.train()
    assert (generator(z[:3])[0] - generator(z)[0]).abs().max() > 1e-4


def influence(critic, images):
    """|d score_i / d x_j| as an (N, N) matrix of norms."""
    jacobian = torch.autograd.functional.jacobian(lambda x: critic(x)[:, 0], images)  # (N, N, C, H, W)
    return jacobian.flatten(2).norm(dim=2)


def test_only_batch_normalization_couples_the_samples_of_a_critic():
    images = torch.rand(4, 1, 16, 16) * 2 - 1
    off_diagonal = ~torch.eye(4, dtype=torch.bool)
    alone = influence(dcgan_critic(1, 16, 4, norm=None), images)
    assert (alone[off_diagonal] == 0).all()
    assert (alone.diagonal() > 0).all()
    coupled = influence(dcgan_critic(1, 16, 4), images)
    assert (coupled[off_diagonal] > 1e-3 * coupled.diagonal().min()).all()
    evaluated = influence(dcgan_critic(1, 16, 4).eval(), images)
    assert (evaluated[off_diagonal] == 0).all()


@sizes
def test_every_parameter_gets_a_gradient(size):
    generator, critic = dcgan_generator(4, 1, size, 2), dcgan_critic(1, size, 2)
    critic(generator(torch.randn(5, 4))).square().mean().backward()
    for parameter in itertools.chain(generator.parameters(), critic.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert all((layer.weight.grad != 0).any() for layer in generator if isinstance(layer, nn.ConvTranspose2d))


@pytest.mark.parametrize("size", [4, 7, 24, 128, 0, -8])
def test_sizes_are_powers_of_two(size):
    for build in (lambda: dcgan_generator(4, 1, size), lambda: dcgan_critic(1, size)):
        with pytest.raises(ValueError, match=rf"^size: expected a power of two from 8 to 64, got {size}$"):
            build()


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: dcgan_generator(0, 1, 8), "latent"),
        (lambda: dcgan_generator(4, 0, 8), "channels"),
        (lambda: dcgan_generator(4, 1, 8, 1.5), "width"),
        (lambda: dcgan_critic(-1, 8), "channels"),
        (lambda: dcgan_critic(1, 8, 0), "width"),
    ],
)
def test_counts_are_positive_whole_numbers(build, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: expected a whole number of at least 1, got"):
        build()


def test_a_code_becomes_constant_planes_and_an_image_more_channels():
    images, code, other = torch.randn(3, 2, 4, 5), torch.randn(3, 6), torch.randn(3, 1, 4, 5)
    pair = paired(images, code)
    assert pair.shape == (3, 8, 4, 5) and torch.equal(pair[:, :2], images)
    assert torch.equal(pair[:, 2:].amax((2, 3)), code) and torch.equal(pair[:, 2:].amin((2, 3)), code)
    assert torch.equal(paired(images, other)[:, 2:], other)


@pytest.mark.parametrize(
    ("images", "condition", "named"),
    [((3, 4), (3, 2), "images"), ((3, 1, 4, 4), (2, 2), "condition"), ((3, 1, 4, 4), (3, 1, 4, 5), "condition"),
     ((3, 1, 4, 4), (3,), "condition")],
)  # fmt: skip
def test_pairs_that_do_not_fit_are_named(images, condition, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected shape"):
        paired(torch.zeros(images), torch.zeros(condition))


def test_a_conditional_generator_hands_its_condition_on():
    codes = ConditionalGenerator(dcgan_generator(7, 1, 8, 2), 3)
    inputs = torch.randn(4, 7)
    assert torch.equal(codes(inputs)[:, 1:], inputs[:, 4:, None, None].expand(4, 3, 8, 8))
    images = ConditionalGenerator(UNet(2, 1, 8, 2), 1)
    inputs = torch.randn(4, 2, 8, 8)
    assert torch.equal(images(inputs)[:, 1:], inputs[:, 1:])


def test_the_projection_picks_a_labels_own_column():
    critic = ProjectionCritic(nn.Flatten(), 16, 3)
    x, labels = torch.randn(5, 1, 4, 4), torch.tensor([0, 2, 1, 1, 0])
    scores = critic(paired(x, torch.nn.functional.one_hot(labels, 3).float()))
    for k, (image, label) in enumerate(zip(x.flatten(1), labels, strict=True)):
        by_hand = (critic.score.weight[0] + critic.embed.weight[:, label]) @ image + critic.score.bias[0]
        torch.testing.assert_close(scores[k, 0], by_hand)
    spread = critic(paired(x, torch.eye(3)[labels])) - critic(paired(x, torch.zeros(5, 3)))
    assert spread.abs().min() > 0  # the label has a say


def test_a_joint_critic_hears_both_of_its_arguments():
    critic = JointCritic(nn.Flatten(), 16, 3)
    x, z = torch.randn(5, 1, 4, 4, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    scores = critic(x, z)
    assert scores.shape == (5, 1)
    slopes = torch.autograd.grad(scores.sum(), [x, z, *critic.parameters()])
    assert all(slope.abs().max() > 0 for slope in slopes[:2])


@sizes
@pytest.mark.parametrize("channels", CHANNELS)
def test_a_u_net_keeps_the_size(size, channels):
    network = UNet(channels, 5 - channels, size, width=2)
    images = network(10 * torch.randn(2, channels, size, size))
    assert images.shape == (2, 5 - channels, size, size) and images.abs().max() <= 1
    images.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    single = network.eval()(torch.ones(1, channels, size, size))
    torch.testing.assert_close(network(torch.ones(3, channels, size, size))[:1], single, rtol=1e-4, atol=1e-6)


def test_a_u_net_remembers_what_its_bottom_cannot_hold():
    network = UNet(1, 1, 16, width=4).eval()
    x = torch.randn(1, 1, 16, 16)
    whole = network(x)
    network.up[0].register_forward_hook(lambda _, __, output: torch.zeros_like(output))  # nothing comes from the bottom
    assert (network(x) - network(x.flip(3))).abs().max() > 0
    assert (network(x) - whole).abs().max() > 0


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 32), (64, 64), (28, 28)])
def test_patches_see_eighteen_pixels(height, width):
    critic = patch_critic(2, 4).eval()
    x = torch.randn(1, 2, height, width, requires_grad=True)
    scores = critic(x)
    assert scores.shape == (1, 1, height // 4, width // 4)
    (slope,) = torch.autograd.grad(scores[0, 0, height // 8, width // 8], x)
    seen = slope.abs().sum((0, 1)) > 0
    assert seen.any(1).sum() <= 18 and seen.any(0).sum() <= 18
    if min(height, width) == 64:
        assert seen.any(1).sum() == 18 and seen.any(0).sum() == 18


@pytest.mark.parametrize("outputs", [1, 7])
def test_an_encoder_is_a_critic_with_more_outputs(outputs):
    assert dcgan_critic(1, 16, 2, outputs=outputs)(torch.randn(3, 1, 16, 16)).shape == (3, outputs)


@pytest.mark.parametrize(
    ("build", "named"),
    [(lambda: UNet(1, 1, 12), "size"), (lambda: UNet(0, 1, 8), "inputs"), (lambda: patch_critic(1, 0), "width"),
     (lambda: dcgan_critic(1, 8, outputs=0), "outputs"), (lambda: ConditionalGenerator(nn.Flatten(), 0), "codes"),
     (lambda: ProjectionCritic(nn.Flatten(), 0, 2), "width"), (lambda: JointCritic(nn.Flatten(), 2, 0), "latent")],
)  # fmt: skip
def test_builders_name_what_is_wrong(build, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected"):
        build()


@pytest.mark.parametrize("network", [UNet(1, 1, 32, 2), patch_critic(1, 2)])
def test_normalization_of_the_newer_networks_keeps_its_small_eps(network):
    assert {layer.eps for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)} == {1e-5}


@pytest.mark.parametrize("inputs", [1, 32, 64])
def test_the_unet_normalizes_every_map_on_the_way_down_but_the_first(inputs):
    down = UNet(inputs, 3, 32, 32).down
    assert [any(isinstance(layer, nn.BatchNorm2d) for layer in block) for block in down] == [False, True, True]
