"""How many floating-point operations a function takes."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters import partial_eval


def count_flops(function: Callable[..., Any], *args: Any) -> float:
    """Floating-point operations of a function's convolutions and matrix products.

    A multiplication and the addition after it are two. Everything else a network does
    is small beside these, and not counted. A convolution counts, for each element of
    its output, all taps of its kernel, also those on the padding; where its input is
    dilated (the gradient of a strided convolution), the zeros put in do not count. So,
    with padding "SAME", a gradient by the input, or by the kernel, takes what the
    convolution itself takes.

    Nothing is computed, only traced. What the program repeats counts each time, with
    what is recomputed for the backward pass; what nothing comes of does not. Of a
    condition the dearest branch counts; of ways for several platforms, which come to
    the same, the cheapest, wherever it runs; a `while` loop, whose trips nobody knows,
    counts as one. Inside `shard_map` all devices count together.

    Args:
      function: takes arrays, or trees of them.
      *args: its arguments; `jax.ShapeDtypeStruct` will do for arrays.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    # Without what nothing comes of, which the compiler drops: the gradient of a rule of
    # our own has one for the kernel, too, where that is frozen.
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return 2.0 * _multiplications(needed)


def _multiplications(jaxpr: Jaxpr) -> float:
    return math.fsum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: JaxprEqn) -> float:
    params = equation.params
    match equation.primitive.name:
        case "conv_general_dilated":
            return _convolution(equation)
        case "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            lhs, *_, out = _shapes(equation)
            return float(math.prod(out) * math.prod(lhs[i] for i in contracted))
        case "cond":
            most = min if params.get("branches_platforms") else max
            return most(_multiplications(branch.jaxpr) for branch in params["branches"])
    inside = math.fsum(_multiplications(jaxpr) for jaxpr in _jaxprs(params))
    match equation.primitive.name:
        case "scan":
            return inside * params["length"]
        case "shard_map":
            shape, axes = params["mesh"].shape, params["newly_manual_axes"]
            return inside * math.prod(shape[axis] for axis in axes)
    return inside


def _convolution(equation: JaxprEqn) -> float:
    params = equation.params
    spec = params["dimension_numbers"]
    lhs, rhs, out = _shapes(equation)
    # Each tap meets each position of the output, or of an input that was dilated.
    taps_and_positions = (
        rhs[r] * (out[o] if dilation == 1 else lhs[i])
        for r, o, i, dilation in zip(
            spec.rhs_spec[2:],
            spec.out_spec[2:],
            spec.lhs_spec[2:],
            params["lhs_dilation"],
            strict=True,
        )
    )
    # A kernel's channels are those of one group: nothing more to divide by.
    batch, features = (out[i] for i in spec.out_spec[:2])
    channels = rhs[spec.rhs_spec[1]]
    return float(batch * features * channels * math.prod(taps_and_positions))


def _shapes(equation: JaxprEqn) -> list[tuple[int, ...]]:
    """Of what it takes and of what it gives."""
    variables: list[Any] = [*equation.invars, *equation.outvars]
    return [variable.aval.shape for variable in variables]


def _jaxprs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """Programs inside an equation, those of loops and calls."""
    for value in params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(each, ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, Jaxpr):
                yield each
