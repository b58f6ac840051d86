import functools
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from rad_jax.convert.presets import PRESETS
from rad_jax.models import convolution
from rad_jax.models.apply import make_apply
from rad_jax.models.network import abstract_params
from rad_jax.models.noise_embedding import NoiseLevels
from rad_jax.runtime.flops import count_flops
from tests.oracles import upsampled_then_convolved


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def conv(x, w, *, stride=1, padding="SAME", **more):
    return jax.lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        **more,
    )


def dense(x, w):
    return x @ w


DENSE = 2 * 5 * 7 * 11


def test_matrix_products():
    assert count_flops(dense, shape(5, 7), shape(7, 11)) == DENSE
    batched = functools.partial(jnp.einsum, "bqhd,bkhd->bhqk")
    assert count_flops(batched, shape(3, 4, 2, 8), shape(3, 6, 2, 8)) == (
        2 * 3 * 2 * 4 * 6 * 8
    )
    both = jax.value_and_grad(lambda x, w: dense(x, w).sum(), argnums=(0, 1))
    gradients = count_flops(both, shape(5, 7), shape(7, 11))
    assert gradients == 3 * DENSE  # with the product itself


def test_nothing_else_counts():
    assert count_flops(lambda x: jnp.sin(x).sum() + x.T.mean(), shape(9, 9)) == 0


CONVOLUTIONS = {
    "plain": ({}, (4, 8, 10, 3), (3, 3, 3, 6), 2 * 4 * 8 * 10 * 6 * 27),
    "1x1": ({}, (4, 8, 10, 3), (1, 1, 3, 6), 2 * 4 * 8 * 10 * 6 * 3),
    "stride": ({"stride": 2}, (4, 8, 10, 3), (3, 3, 3, 6), 2 * 4 * 4 * 5 * 6 * 27),
    "odd": ({"stride": 2}, (4, 7, 9, 3), (3, 3, 3, 6), 2 * 4 * 4 * 5 * 6 * 27),
    "groups": (
        {"feature_group_count": 3},
        (4, 8, 10, 3),
        (3, 3, 1, 6),
        2 * 4 * 8 * 10 * 6 * 9,
    ),
    "dilated": (
        {"rhs_dilation": (2, 2)},
        (4, 8, 10, 3),
        (3, 3, 3, 6),
        2 * 4 * 8 * 10 * 6 * 27,
    ),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_and_each_of_their_gradients(case):
    options, x, w, expected = CONVOLUTIONS[case]
    x, w = shape(*x), shape(*w)
    forward = functools.partial(conv, **options)
    assert count_flops(forward, x, w) == expected

    out = jax.eval_shape(forward, x, w)
    for argument in (0, 1):

        def gradient(x, w, cotangent, argument=argument):
            first, second = (x, w) if argument == 0 else (w, x)

            def of(value):
                return (
                    forward(value, second) if argument == 0 else forward(second, value)
                )

            # Linear in each: the transpose alone, without the product itself.
            return jax.linear_transpose(of, first)(cotangent)

        assert count_flops(gradient, x, w, out) == expected


def test_padding_decides_the_size_of_the_output():
    valid = functools.partial(conv, padding="VALID")
    expected = 2 * 4 * 6 * 8 * 6 * 27
    assert count_flops(valid, shape(4, 8, 10, 3), shape(3, 3, 3, 6)) == expected


def test_loops_and_branches():
    x, w = shape(5, 7), shape(7, 7)
    once = 2 * 5 * 7 * 7

    def repeat(x, w):
        return jax.lax.scan(lambda x, _: (dense(x, w), None), x, length=6)[0]

    assert count_flops(repeat, x, w) == 6 * once
    assert count_flops(jax.jit(repeat), x, w) == 6 * once
    assert count_flops(lambda x, w: repeat(repeat(x, w), w), x, w) == 12 * once

    def branches(x, w):
        return jax.lax.cond(
            x.sum() > 0, lambda: dense(dense(x, w), w), lambda: dense(x, w)
        )

    assert count_flops(branches, x, w) == 2 * once

    def unknown(x, w):
        return jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: dense(x, w), x)

    assert count_flops(unknown, x, w) == once


def test_of_ways_for_platforms_the_cheapest_counts():
    """They come to the same."""
    x, w = shape(5, 7), shape(7, 7)

    def twice(x, w):
        return dense(dense(x, w), w)

    def call(x, w):
        return jax.lax.platform_dependent(x, w, cpu=twice, default=dense)

    assert count_flops(call, x, w) == 2 * 5 * 7 * 7


def test_rules_of_differentiation():
    x, w = shape(5, 7), shape(7, 11)

    @jax.custom_vjp
    def own(x, w):
        return dense(x, w)

    own.defvjp(lambda x, w: (own(x, w), (x, w)), lambda s, g: (g @ s[1].T, s[0].T @ g))
    assert count_flops(own, x, w) == DENSE
    both = jax.value_and_grad(lambda x, w: own(x, w).sum(), argnums=(0, 1))
    assert count_flops(both, x, w) == 3 * DENSE

    rule = jax.custom_jvp(dense)
    rule.defjvp(
        lambda primals, tangents: (dense(*primals), dense(tangents[0], primals[1]))
    )
    assert count_flops(rule, x, w) == DENSE


def test_what_is_not_needed_does_not_count():
    """A rule that gives both gradients, where one is asked for."""
    x, w = shape(5, 7), shape(7, 11)

    @jax.custom_vjp
    def own(x, w):
        return dense(x, w)

    own.defvjp(lambda x, w: (own(x, w), (x, w)), lambda s, g: (g @ s[1].T, s[0].T @ g))
    one = jax.grad(lambda x, w: own(x, w).sum())
    assert count_flops(one, x, w) == DENSE  # nor the product itself
    assert count_flops(lambda x, w: (dense(x, w), x)[1], x, w) == 0


def test_recomputing_counts_again():
    x, w = shape(5, 7), shape(7, 7)
    once = 2 * 5 * 7 * 7

    def block(x, w):
        return jnp.sin(dense(jnp.sin(dense(x, w)), w))

    def gradient(block):
        return jax.value_and_grad(lambda x, w: block(x, w).sum(), argnums=(0, 1))

    assert count_flops(gradient(block), x, w) == 6 * once
    again = count_flops(gradient(jax.checkpoint(block)), x, w)
    assert again == 8 * once


def test_devices_count_together():
    mesh = jax.sharding.AbstractMesh(
        (4, 2), ("data", "other"), axis_types=(AxisType.Auto,) * 2
    )
    x, w = shape(8, 7), shape(7, 11)
    whole = 2 * 8 * 7 * 11
    both, data = PartitionSpec(("data", "other")), PartitionSpec("data")

    def mapped(rows, names):
        return jax.shard_map(
            dense,
            mesh=mesh,
            in_specs=(rows, PartitionSpec()),
            out_specs=rows,
            axis_names=names,
        )

    assert count_flops(mapped(both, {"data", "other"}), x, w) == whole
    # Two devices compute the same rows.
    assert count_flops(mapped(data, {"data", "other"}), x, w) == 2 * whole
    # The compiler divides the rest.
    assert count_flops(jax.jit(mapped(data, {"data"})), x, w) == whole


def test_agrees_with_a_published_count():
    """ADM's network for 256x256 pixels takes 1120 "Gflops", multiplications, says DiT.

    Peebles and Xie, "Scalable Diffusion Models with Transformers", 2023.
    """
    config = PRESETS["imagenet256_uncond"].config
    apply, images = make_apply(config), shape(1, 256, 256, 3)

    def network(params, images, timesteps):
        return apply(params, images, NoiseLevels(timesteps))

    with mock.patch.object(convolution, "upsampled_conv", upsampled_then_convolved):
        flops = count_flops(network, abstract_params(config), images, shape(1, 1))
    assert flops == pytest.approx(2 * 1120e9, rel=1e-3)


def test_upsampled_convolutions_take_four_ninths():
    args = shape(1, 8, 8, 16), shape(3, 3, 16, 32)
    plain = count_flops(upsampled_then_convolved, *args)
    assert count_flops(convolution.upsampled_conv, *args) == plain * 4 / 9


def test_agrees_with_xla():
    """Without padding and dilation, XLA counts alike (and elementwise work besides)."""
    x, w = shape(4, 16, 16, 32), shape(3, 3, 32, 64)
    valid = functools.partial(conv, padding="VALID")
    cost = jax.jit(valid).lower(x, w).compile().cost_analysis() or {}
    assert count_flops(valid, x, w) == pytest.approx(cost["flops"], rel=0.01)
