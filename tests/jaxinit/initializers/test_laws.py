"""The laws of composition, for initialisers that are put together at random."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinit import initializers
from jaxinit.initializers import composition
from tests import small
from tests.jaxinit.initializers.comparing import same

PARAMS = small.few_layers()
NAMES = small.layer_names(PARAMS)
BANK = small.bank_for(PARAMS)
KEY = jax.random.key(11)

laws = settings(max_examples=15, deadline=None, derandomize=True, database=None)

numbers = st.lists(st.integers(0, len(NAMES) - 1), min_size=1, unique=True).map(sorted)
simple = st.one_of(
    st.just(("unchanged",)),
    st.tuples(st.just("scaled"), st.sampled_from([0.5, 2.0]), numbers),
    st.tuples(st.just("at_relative_norm"), st.sampled_from([0.25, 4.0]), numbers),
    st.tuples(st.just("gabor"), numbers),
    st.tuples(st.just("clustered"), numbers),
    st.tuples(st.just("he"), numbers),
)
# What `made` makes initialisers of.
starts = st.recursive(
    simple,
    lambda own: st.one_of(
        st.tuples(st.just("only"), own, numbers),
        st.tuples(st.just("mix"), own, own, st.sampled_from([0.0, 0.3, 1.0]), numbers),
        st.tuples(st.just("chain"), own, own),
    ),
    max_leaves=3,
)


def made(start):
    """The initialiser that a start describes."""
    kind, *described = start
    parts: list[Any] = [made(part) if isinstance(part, tuple) else part for part in described]
    if kind == "clustered":
        return initializers.clustered(BANK, *parts)
    if kind == "he":
        return initializers.per_layer(jax.nn.initializers.he_normal(), *parts)
    return getattr(initializers, kind)(*parts)


@laws
@given(starts)
def test_unchanged_is_the_identity_of_chain(start):
    init = made(start)
    alone = init(KEY, PARAMS)
    for same_start in (
        initializers.chain(init),
        initializers.chain(init, initializers.unchanged()),
        initializers.chain(initializers.unchanged(), init),
        initializers.chain(initializers.chain(), init),
    ):
        assert same(same_start(KEY, PARAMS), alone)


@laws
@given(starts, starts, starts)
def test_chain_is_associative(first, second, third):
    a, b, c, chain = made(first), made(second), made(third), initializers.chain
    flat = chain(a, b, c)(KEY, PARAMS)
    assert same(chain(chain(a, b), c)(KEY, PARAMS), flat)
    assert same(chain(a, chain(b, c))(KEY, PARAMS), flat)


@laws
@given(starts, numbers, st.sampled_from(["numbers", "names", "predicate"]))
def test_layers_that_are_not_chosen_keep_their_bits(start, chosen, how):
    init, names = made(start), [NAMES[number] for number in chosen]
    layers = {"numbers": chosen, "names": names, "predicate": lambda layer: layer.name in names}
    drawn = initializers.only(init, layers[how])(KEY, PARAMS)
    everything = init(KEY, PARAMS)
    for name in NAMES:
        wanted = everything if name in names else PARAMS
        np.testing.assert_array_equal(small.get_kernel(drawn, name), small.get_kernel(wanted, name))
    for module in ("bn1", "fc"):
        assert same(drawn[module], PARAMS[module])


@laws
@given(starts, starts, st.floats(0, 1), numbers)
def test_a_mix_has_the_channels_of_either(first, second, share, chosen):
    mixed = initializers.mix(made(first), made(second), share, chosen)(KEY, PARAMS)
    one, other = made(first)(KEY, PARAMS), made(second)(KEY, PARAMS)
    for number, name in enumerate(NAMES):
        kernel = np.asarray(small.get_kernel(mixed, name))
        wanted = np.array(small.get_kernel(PARAMS, name))
        if number in chosen:
            count = int(share * kernel.shape[-1] + 0.5)
            wanted[..., :count] = small.get_kernel(one, name)[..., :count]
            wanted[..., count:] = small.get_kernel(other, name)[..., count:]
        np.testing.assert_array_equal(kernel, wanted)


@laws
@given(starts, numbers)
def test_a_mix_of_one_start_with_itself_is_that_start(start, chosen):
    init = made(start)
    mixed = initializers.mix(init, init, 0.5, chosen)(KEY, PARAMS)
    assert same(mixed, initializers.only(init, chosen)(KEY, PARAMS))


@settings(laws, max_examples=5)
@given(starts)
def test_jit_and_vmap_agree_with_eager(start):
    init = made(start)
    keys = jax.random.split(KEY, 2)
    eager = [init(key, PARAMS) for key in keys]
    jitted = jax.jit(init)(keys[0], PARAMS)
    mapped = jax.jit(jax.vmap(init, in_axes=(0, None)))(keys, PARAMS)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *eager)
    for a, b in ((jitted, eager[0]), (mapped, stacked)):
        for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_only_some_leaves_by_their_paths():
    def doubled(key, params):
        del key
        return jax.tree.map(lambda leaf: 2 * leaf, params)

    drawn = initializers.only(doubled, paths=["fc/*", "bn1/scale"])(KEY, PARAMS)
    assert same(drawn["fc"], doubled(KEY, PARAMS)["fc"])
    assert same(drawn["bn1"]["scale"], 2 * PARAMS["bn1"]["scale"])
    assert same(drawn["bn1"]["bias"], PARAMS["bn1"]["bias"])
    assert same(drawn["conv1"], PARAMS["conv1"])
    predicate = initializers.only(doubled, paths=lambda path: path.endswith("fc/bias"))
    assert initializers.changed(predicate, PARAMS) == ("fc/bias",)


def test_what_cannot_be_composed_gets_a_sentence():
    kernel = jax.nn.initializers.he_normal()
    for compose in (initializers.chain, initializers.only, lambda a: initializers.mix(a, a)):
        with pytest.raises(ValueError, match="wrap this one in per_layer"):
            compose(kernel)
    with pytest.raises(ValueError, match=r"share=1\.5 must be from 0 to 1"):
        initializers.mix(initializers.unchanged(), initializers.unchanged(), 1.5)
    with pytest.raises(ValueError, match="layers or paths, not both"):
        initializers.only(initializers.unchanged(), 1, paths="fc/*")
    with pytest.raises(ValueError, match=r"no leaf has a path like 'head/\*'"):
        initializers.only(initializers.unchanged(), paths="head/*")(KEY, PARAMS)


def test_what_is_drawn_must_be_like_what_was_given():
    def cut(key, params):
        del key
        return jax.tree.map(lambda leaf: leaf[..., :2], params)

    def halved(key, params):
        del key
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) / 2, params)

    with pytest.raises(
        ValueError, match=r"the initialiser made shape \(7, 7, 3, 2\) for layer conv1"
    ):
        initializers.mix(cut, initializers.unchanged(), 0.5, 1)(KEY, PARAMS)
    with pytest.raises(ValueError, match="for layer conv1"):
        initializers.only(cut, 1)(KEY, PARAMS)
    with pytest.raises(ValueError, match="changes the shape of fc/kernel"):
        initializers.only(cut, paths="fc/kernel")(KEY, PARAMS)
    with pytest.raises(ValueError, match="changes the shape of bn1/bias, or leaves it out"):
        initializers.only(lambda key, params: {}, paths="bn1/bias")(KEY, PARAMS)
    with pytest.raises(ValueError, match="does not return a tree like"):
        initializers.only(lambda key, params: {}, 1)(KEY, PARAMS)
    for drawn in (
        initializers.only(halved, paths="fc/*")(KEY, PARAMS)["fc"]["kernel"],
        initializers.mix(halved, halved, 0.5, 1)(KEY, PARAMS)["conv1"]["kernel"],
    ):
        assert drawn.dtype == jnp.float32


def test_initialisers_may_take_whatever_they_are_given():
    def doubled(key, params, **unused):
        del key, unused
        return jax.tree.map(lambda leaf: 2 * leaf, params)

    drawn = initializers.chain(doubled, initializers.unchanged())(KEY, PARAMS)
    assert same(drawn["fc"]["bias"], 2 * PARAMS["fc"]["bias"])
    zeros = initializers.per_layer(lambda *given, **unused: jnp.zeros(given[1]), 1)
    assert not np.any(zeros(KEY, PARAMS)["conv1"]["kernel"])
    with pytest.raises(ValueError, match="which are functions, not int"):
        composition._check_whole(3, "chain")  # which the tests' type checks would not let through
