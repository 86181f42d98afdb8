"""Coupling layers against autograd in three and more dimensions; a flow's density against quadrature and samples."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.functional import jacobian

from gankit.flows import AffineCoupling, Flow
from gankit.training import descend

MASKS = [
    (True, False),
    (True, False, True),
    (False, False, True),
    (False, True, True, False, True),
]


def shaken(module, size=0.5):
    """Weights away from zero, where a layer is the identity and its log-determinant tests nothing; float64."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=size)
    return module.double()


def coupling(mask, width=16):
    return shaken(AffineCoupling(torch.tensor(mask), width))


def slope(function, x):
    """The Jacobian (d, d) of a map of rows at one row."""
    return jacobian(lambda row: function(row[None])[0], x)


@pytest.mark.parametrize("mask", MASKS)
def test_a_layers_log_determinant_is_autograds(mask):
    layer, x = coupling(mask), torch.randn(6, len(mask)).double()
    z, log_det = layer(x)
    assert z.shape == x.shape and log_det.shape == (6,)
    found = torch.stack([torch.linalg.slogdet(slope(lambda row: layer(row)[0], row)).logabsdet for row in x])
    torch.testing.assert_close(log_det, found)
    assert log_det.abs().max() > 0.1


@pytest.mark.parametrize("mask", MASKS)
def test_a_layer_and_its_inverse(mask):
    layer, x = coupling(mask), torch.randn(50, len(mask)).double()
    torch.testing.assert_close(layer.inverse(layer(x)[0]), x)
    torch.testing.assert_close(layer(layer.inverse(x))[0], x)
    assert (layer(x)[0] - x).abs().max() > 0.1


def test_a_layer_leaves_A_and_reads_nothing_else():
    mask = torch.tensor([True, False, False, True])
    layer, x = coupling(mask.tolist()), torch.randn(4).double()
    assert torch.equal(layer(x[None])[0][0, mask], x[mask])
    J = slope(lambda row: layer(row)[0], x)
    assert torch.equal(J[mask], torch.eye(4).double()[mask])
    block = J[~mask][:, ~mask]
    assert torch.equal(block, block.diag().diag()) and (block.diag() > 0).all()
    assert (J[~mask][:, mask].abs() > 1e-6).all()  # the block that the determinant does not see is not empty


def test_scales_are_bounded_where_weights_are_huge():
    layer, x = shaken(AffineCoupling(torch.tensor([True, False]), 8), size=50.0), torch.randn(100, 2).double()
    z, log_det = layer(x)
    assert log_det.abs().max() <= 1 and torch.isfinite(z).all()


@settings(max_examples=25)
@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_a_flows_log_density_is_the_change_of_variables(dimension, layers, seed):
    torch.manual_seed(seed)
    flow, x = shaken(Flow(dimension, layers, 8), 0.3), torch.randn(dimension).double()
    z = flow(x[None])[0][0]
    base = torch.distributions.MultivariateNormal(torch.zeros(dimension).double(), torch.eye(dimension).double())
    volume = torch.linalg.slogdet(slope(lambda row: flow(row)[0], x)).logabsdet
    torch.testing.assert_close(flow.log_prob(x[None])[0], base.log_prob(z) + volume, atol=1e-9, rtol=1e-9)


@settings(max_examples=25)
@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_a_flow_and_its_samples_are_inverse(dimension, layers, seed):
    torch.manual_seed(seed)
    flow, z = shaken(Flow(dimension, layers, 8), 0.3), torch.randn(20, dimension).double()
    torch.testing.assert_close(flow(flow.sample(z))[0], z, atol=1e-8, rtol=1e-8)


def test_samples_density_is_the_inverse_of_the_volume():
    flow, z = shaken(Flow(3, 3, 8)), torch.randn(3).double()
    stretch = torch.linalg.slogdet(slope(flow.sample, z)).logabsdet
    torch.testing.assert_close(flow(flow.sample(z[None]))[1][0], -stretch)


def test_the_density_integrates_to_one():
    flow, axis = shaken(Flow(2, 3, 16)), torch.linspace(-25, 25, 751).double()
    with torch.no_grad():
        density = flow.log_prob(torch.cartesian_prod(axis, axis)).exp()
    total = density.sum().item() * (axis[1] - axis[0]).item() ** 2
    assert total == pytest.approx(1, abs=1e-4)


def test_samples_follow_the_density():
    flow, edges = shaken(Flow(2, 3, 16), 0.4), torch.linspace(-4, 4, 17).double()
    fine = (torch.arange(320).double() + 0.5) / 40 - 4  # twenty midpoints to a cell
    with torch.no_grad():
        q = flow.log_prob(torch.cartesian_prod(fine, fine)).exp().reshape(16, 20, 16, 20).sum((1, 3)) / 1600
        samples = flow.sample(torch.randn(100_000, 2).double())
    counts = torch.histogramdd(samples, bins=[edges, edges]).hist / len(samples)
    assert (counts - q).abs().sum() / 2 < 0.02
    assert q.sum() > 0.9


def test_a_new_flow_is_the_standard_normal_and_no_layer_stays_untrained():
    flow, x = Flow(5, 4, 8), torch.randn(32, 5)
    torch.testing.assert_close(flow.sample(x), x)
    torch.testing.assert_close(flow.log_prob(x), torch.distributions.Normal(0, 1).log_prob(x).sum(1))
    optimizer = torch.optim.SGD(flow.parameters(), 0.1)
    for _ in range(2):  # in the first step only the last, zero layers have a slope
        loss = descend(-flow.log_prob(x).mean(), optimizer)
    assert math.isfinite(loss)
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in flow.parameters())


def test_masks_alternate():
    flow = Flow(5, 4, 8)
    assert all((one.mask != other.mask).all() for one, other in zip(flow.layers, flow.layers[1:], strict=False))
    shaken(flow)
    J = slope(lambda row: flow(row)[0], torch.randn(5).double())
    assert (J.abs() > 1e-9).all()  # every output sees every input


def test_maximum_likelihood_finds_a_gaussian():
    torch.manual_seed(1)
    mixing = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    data, flow = torch.randn(4000, 2) @ mixing.T, Flow(2, 2, 16)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    for _ in range(300):
        loss = descend(-flow.log_prob(data).mean(), optimizer)
    entropy = 1 + math.log(2 * math.pi) + math.log(0.6)
    assert loss == pytest.approx(entropy, abs=0.05)
    drawn = flow.sample(torch.randn(20_000, 2)).detach()
    torch.testing.assert_close(torch.cov(drawn.T), mixing @ mixing.T, atol=0.08, rtol=0)


def test_gradients_flow_through_samples_and_densities():
    flow = shaken(Flow(3, 2, 8))
    z = torch.randn(4, 3).double().requires_grad_()
    flow.sample(z).sum().backward()
    assert z.grad is not None and (z.grad.abs() > 0).all()
    x = torch.randn(4, 3).double().requires_grad_()
    flow.log_prob(x).sum().backward()
    assert x.grad is not None and (x.grad.abs() > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kind_of_numbers_and_state(dtype):
    flow, x = Flow(3, 2, 8).to(dtype), torch.randn(4, 3, dtype=dtype)
    assert flow.log_prob(x).dtype == flow.sample(x).dtype == dtype
    assert [name for name in flow.state_dict() if name.endswith("mask")] == ["layers.0.mask", "layers.1.mask"]


@pytest.mark.parametrize(
    "mask",
    [torch.tensor([True, True]), torch.tensor([False, False]), torch.tensor([1.0, 0.0]), torch.tensor([[True, False]]),
     torch.zeros(0, dtype=torch.bool), [True, False]],
)  # fmt: skip
def test_a_mask_must_split(mask):
    with pytest.raises(ValueError, match=r"^mask: expected"):
        AffineCoupling(mask)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((1,), "dimension"), ((0,), "dimension"), ((2.0,), "dimension"), ((2, 0), "layers"), ((2, 2, 0), "width")],
)  # fmt: skip
def test_a_flows_sizes_are_checked(arguments, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected"):
        Flow(*arguments)


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 3, 1), (4, 1)])
def test_rows_must_fit(shape):
    flow = Flow(3, 2, 8)
    with pytest.raises(ValueError, match=r"^x: expected shape \(N, 3\)"):
        flow.log_prob(torch.randn(shape))
    with pytest.raises(ValueError, match=r"^z: expected shape \(N, 3\)"):
        flow.sample(torch.randn(shape))
