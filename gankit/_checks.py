"""Input checks that the modules share: ``ValueError`` with the argument, what was expected and what came."""

import math
from numbers import Integral
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

Numbers = ArrayLike | Tensor


def fail(argument: str, expected: str, got: object) -> NoReturn:
    """Raise the one kind of error that the package uses for bad input."""
    raise ValueError(f"{argument}: expected {expected}, got {got}")


def tensor(argument: str, value: object) -> Tensor:
    """A tensor of floating-point numbers, all of them finite."""
    if not isinstance(value, Tensor):
        fail(argument, "a torch.Tensor", type(value).__name__)
    if not value.is_floating_point():
        fail(argument, "a floating-point tensor", value.dtype)
    if value.numel() == 0:
        fail(argument, "a tensor with at least one element", f"shape {tuple(value.shape)}")
    if not torch.isfinite(value).all():
        fail(argument, "finite numbers", f"{int((~torch.isfinite(value)).sum())} NaN or infinite of {value.numel()}")
    return value


def same_shape(first: str, a: Tensor, second: str, b: Tensor) -> None:
    """Two tensors of one shape: a silent broadcast from (N,) and (N, 1) to (N, N) is the classic bug."""
    if a.shape != b.shape:
        fail(second, f"the shape {tuple(a.shape)} of {first}", f"shape {tuple(b.shape)}")


def histogram(argument: str, value: object) -> Tensor:
    """Probabilities along the last axis: finite, non-negative, with sum one up to rounding."""
    weights = tensor(argument, value)
    if weights.ndim == 0:
        fail(argument, "probabilities of shape (..., K)", "a scalar")
    if (weights < 0).any():
        fail(argument, "non-negative probabilities", f"a smallest entry of {weights.min().item():.3g}")
    rounding = 8 * math.sqrt(weights.shape[-1]) * torch.finfo(weights.dtype).eps
    total = weights.sum(-1)
    if ((total - 1).abs() > rounding).any():
        worst = total.flatten()[(total.flatten() - 1).abs().argmax()].item()
        fail(argument, f"probabilities that sum to 1 (within {rounding:.1e})", f"a sum of {worst:.9g}")
    return weights


def scores(real: object, fake: object) -> tuple[Tensor, Tensor]:
    """A critic's outputs on a real and a fake batch: the batch sizes may differ, the rest of the shape may not."""
    real, fake = tensor("real_scores", real), tensor("fake_scores", fake)
    if real.shape[1:] != fake.shape[1:]:
        shape = ", ".join(["N", *map(str, real.shape[1:])])
        fail("fake_scores", f"shape ({shape}) like real_scores", f"shape {tuple(fake.shape)}")
    return real, fake


def positive(argument: str, value: float) -> float:
    """A finite number above zero."""
    if not (math.isfinite(value) and value > 0):
        fail(argument, "a finite number above 0", value)
    return value


def positive_integer(argument: str, value: object) -> int:
    """A whole number of at least one."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        fail(argument, "a whole number of at least 1", repr(value))
    return int(value)


def array(argument: str, value: Any, axes: int) -> np.ndarray:
    """Finite numbers, at least one, along so many ``axes``, as float64: from an array, a tensor or lists."""
    try:
        numbers = np.asarray(value.detach().cpu().double() if isinstance(value, Tensor) else value)
        if numbers.dtype.kind not in "biuf":
            raise TypeError
    except (TypeError, ValueError):
        fail(argument, "real numbers", type(value).__name__)
    if numbers.ndim != axes or numbers.size == 0:
        fail(argument, f"a non-empty array with {axes} axes", f"shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        fail(argument, "finite numbers", f"{int((~np.isfinite(numbers)).sum())} NaN or infinite of {numbers.size}")
    return numbers.astype(np.float64, copy=False)


def precision(value: Any) -> float:
    """The rounding unit of the numbers as they came: float32 histograms sum to 1 in float32 only."""
    if isinstance(value, Tensor):
        return torch.finfo(value.dtype).eps if value.is_floating_point() else np.finfo(float).eps
    kind = np.asarray(value).dtype
    return float(np.finfo(kind if kind.kind == "f" else float).eps)


def masses(first: str, a: Any, n: int, second: str, b: Any, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative masses (n,) and (m,) of the same positive total up to rounding, as float64 of exactly one total."""
    unit = max(precision(a), precision(b))
    one, other = array(first, a, 1), array(second, b, 1)
    for argument, weights, count in ((first, one, n), (second, other, m)):
        if len(weights) != count:
            fail(argument, f"shape ({count},), a mass for each point", f"shape {weights.shape}")
        if weights.min() < 0:
            fail(argument, "non-negative masses", f"a smallest entry of {weights.min():.3g}")
    total = one.sum()
    if total == 0:
        fail(first, "a positive total mass", "only zeros")
    if abs(other.sum() - total) > 8 * math.sqrt(max(n, m)) * unit * total:
        fail(second, f"the total mass {total:.9g} of {first}", f"{other.sum():.9g}")
    return one, other * (total / other.sum())
