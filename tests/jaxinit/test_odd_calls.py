"""Odd arguments are refused in the library's own sentences, with and without checks of types.

`JAXINIT_ODD_CALLS` says how many of the calls are made, 0 for all of them.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

import jaxinit
from jaxinit import alignment, banks, initializers, kernel_init
from tests.jaxinit import odd_calls

ALSO = (TypeCheckError,)
NUMBER = int(os.environ.get("JAXINIT_ODD_CALLS", "100")) or None


def test_a_sentence_is_told_from_other_errors():
    def divides():
        return 1 // 0  # pyrefly: ignore[division-by-zero]

    assert "ZeroDivisionError" in str(odd_calls.complaint(divides))
    assert "KeyError" in str(odd_calls.complaint(lambda: {}["x"]))
    assert "TypeError" in str(odd_calls.complaint(lambda: initializers.scaled() is None))  # type: ignore
    assert odd_calls.complaint(lambda: jaxinit.start("nothing")) is None


def test_odd_arguments_get_a_sentence():
    assert odd_calls.complaints(NUMBER, seed=1, also=ALSO) == []


def test_odd_arguments_get_a_sentence_where_types_are_not_checked():
    """As users call the library: in a process without the hook of `tests.conftest`."""
    command = [sys.executable, "-m", "tests.jaxinit.odd_calls", str(NUMBER or 10**9), "2"]
    home = Path(__file__).parent.parent.parent
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home)
    assert done.stdout.endswith(" 0 wrong\n"), done.stdout + done.stderr[-2000:]


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, jnp.bool_])
def test_kernels_are_of_floating_point(dtype):
    """The sentence names the dtype, and in a tree the layer."""
    kernel = jnp.zeros((3, 3, 3, 4), dtype)
    with pytest.raises(ValueError, match=jnp.dtype(dtype).name):
        kernel_init.gabor_kernel(odd_calls.KEY, (3, 3, 3, 4), dtype)
    from_bank, real = initializers.clustered(odd_calls.BANK), [odd_calls.PARAMS]
    starts = initializers.gabor(), from_bank, initializers.bootstrap(real), jaxinit.start("dct")
    for init in starts:
        with pytest.raises(ValueError, match=f"conv1.*{jnp.dtype(dtype).name}"):
            init(odd_calls.KEY, {"conv1": {"kernel": kernel}})


@pytest.mark.parametrize("size", [np.inf, np.nan, -1.0])
def test_banks_of_odd_sizes_are_refused(tmp_path, size):
    bank = odd_calls.BANK
    odd = banks.FilterBank(
        bank.filters,
        {**bank.sizes, "conv1": jnp.asarray([1.0, size, 2.0])},
        bank.inertia,
        bank.kernel_sizes,
        bank.provenance,
    )
    with pytest.raises(ValueError, match="sizes of layer 'conv1'"):
        banks.draw(odd_calls.KEY, odd, "conv1", (3, 3, 1, 1))
    banks.save(odd, tmp_path / "bank.npz")
    with pytest.raises(ValueError, match="sizes of layer 'conv1'"):
        banks.load(tmp_path / "bank.npz")


@pytest.mark.parametrize("order", [[0, 1, 3], [0, 1, 1], [0, 1, -1], [0, 1]])
def test_what_is_no_permutation_is_refused(order):
    with pytest.raises(ValueError, match="permutation 'h'"):
        alignment.permute(odd_calls.PAIR, odd_calls.SYMMETRY, {"h": np.asarray(order)})


def test_unequal_networks_have_no_average():
    with pytest.raises(ValueError, match="network 1 differs"):
        alignment.average([{"a": jnp.ones((2, 3))}, {"a": jnp.ones((1, 3))}])


@pytest.mark.parametrize(
    ("name", "argument", "odd"),
    [
        ("initialiser scaled", "factor", np.zeros(0)),
        ("initialiser scaled", "factor", np.ones((2, 3))),
        ("initialiser scaled", "factor", np.array("x")),
        ("initialiser scaled", "factor", jnp.ones(4, jnp.complex64)),
        ("Network[…]", "name", np.zeros((2, 2))),
        ("alignment.grouping.align_layers", "symmetry", {"x": 1}),
        ("banks.fitting.fit", "restarts", 0),
    ],
)
def test_what_all_the_odd_calls_have_found(name, argument, odd):
    function, given = odd_calls.table()[name]
    assert odd_calls.complaint(lambda: function(**{**given, argument: odd}), ALSO) is None


def test_a_factor_for_each_channel_is_taken():
    kernel = odd_calls.PARAMS["conv1"]["kernel"]
    scaled = initializers.scaled(jnp.arange(4.0), layers=1)(odd_calls.KEY, odd_calls.PARAMS)
    np.testing.assert_array_equal(scaled["conv1"]["kernel"], np.asarray(kernel) * np.arange(4))


def test_slices_of_layers_go_forward():
    for odd in (slice(None, None, -1), slice(0, 2, 0)):
        with pytest.raises(ValueError, match="goes forward"):
            odd_calls.NETWORK.select(odd)
