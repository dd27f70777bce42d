"""Every initialiser can be asked for by name, and keeps to the layers that it is told."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import catalogue, initializers, kernel_init
from tests import small
from tests.jaxinit.initializers.comparing import changed_layers

IMAGES = np.random.default_rng(0).standard_normal((8, 16, 16, 3)).astype(np.float32)
KEY = jax.random.key(3)


def apply(params, images):
    """A network of the layers of `small.few_layers`, shortcuts left out."""
    x = images
    for kernel in (
        params["conv1"]["kernel"],
        params["layer1_0"]["conv1"]["kernel"],
        params["layer2_0"]["conv1"]["kernel"],
        params["layer2_0"]["conv2"]["kernel"],
    ):
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jnp.maximum(x, 0)
    return x


def options(name, params, bank):
    """What an initialiser is made from."""
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    needs = catalogue.get(name).needs
    if needs == "images":
        return {"images": IMAGES}
    if needs == "a bank":
        return {"bank": bank}
    if needs == "networks":
        several = "sources" in catalogue.get(name).options
        return {"sources": [params, other]} if several else {"source": other}
    return {"apply": apply, "images": IMAGES} if needs == "a network and images" else {}


@pytest.mark.parametrize("name", catalogue.names())
def test_every_start_fills_the_layers_that_it_is_told_and_no_others(name, params, bank):
    init = catalogue.start(name, 1, **options(name, params, bank))
    made = init(KEY, params)
    assert changed_layers(params, made) == ["conv1"]
    assert np.isfinite(small.get_kernel(made, "conv1")).all()


@pytest.mark.parametrize("name", [*catalogue.names("nothing"), "patch_whitening"])
def test_those_of_one_kernel_fit_kernel_init(name, params, bank):
    if not catalogue.get(name).of_kernels:
        return
    made = catalogue.kernel(name, **options(name, params, bank))
    assert made(KEY, (5, 5, 3, 8), jnp.float32).shape == (5, 5, 3, 8)


def test_nothing_that_the_library_starts_from_is_missing():
    """By the functions that make initialisers, whatever the catalogue says."""
    entries = [catalogue.get(name) for name in catalogue.names()]
    known = {entry.makes.__name__ for entry in entries} | {entry.name for entry in entries}
    kernels = set(kernel_init.__all__) - {"gabor_kernel", "closed_form_covariance"}
    assert kernels <= known
    composing = {
        "at_relative_norm",
        "chain",
        "changed",
        "fill_layers",
        "for_step_size",
        "from_bank",
    }
    composing |= {"mix", "only", "per_layer", "run", "scaled", "unchanged"}
    same = {"Chain", "default", "gabor", "recommended", "clustered_kernel"}  # under other names
    assert set(initializers.__all__) - composing - same <= known
    assert {"torchvision", "gabor"} <= set(catalogue.names())


def test_comparing_all_that_need_nothing_is_one_line(params):
    starts = {name: jaxinit.start(name, layers=1) for name in catalogue.names("nothing")}
    kernels = {
        name: np.asarray(small.get_kernel(init(KEY, params), "conv1"))
        for name, init in starts.items()
    }
    assert len(kernels) > 15
    assert len({kernel.tobytes() for kernel in kernels.values()}) == len(kernels)


def test_options_are_checked_before_anything_is_drawn():
    with pytest.raises(ValueError, match="initialiser 'xavier' is not known: choose one of torchv"):
        catalogue.start("xavier")
    with pytest.raises(
        ValueError, match="dct is made with the options relative_norm, but got an un"
    ):
        catalogue.start("dct", norm=3)
    with pytest.raises(ValueError, match="missing a required argument: 'images'"):
        catalogue.start("patch_whitening")
    with pytest.raises(ValueError, match="missing a required argument: 'bank'"):
        catalogue.start("clustered", layers=1)
    with pytest.raises(ValueError, match="clustered fills whole trees"):
        catalogue.kernel("clustered")


@pytest.mark.parametrize("name", catalogue.names())
def test_every_entry_says_where_it_was_described(name):
    entry = catalogue.get(name)
    assert entry.source
    assert "layers" not in entry.options
    assert set(entry.options) <= set(inspect.signature(entry.makes).parameters)


def grouped(params, images):
    return jax.lax.conv_general_dilated(
        images,
        params["w"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=4,
    )


def test_starts_know_the_groups_of_their_layers():
    """An identity of each group, and an orthogonal matrix each: both keep an input's norm."""
    params = {"w": jnp.zeros((3, 3, 2, 8))}
    images = jax.random.normal(KEY, (2, 5, 5, 8))
    network = jaxinit.trace(grouped, params, images)
    made = jaxinit.start("dirac")(KEY, params, network=network)
    np.testing.assert_array_equal(grouped(made, images), images)
    made = jaxinit.start("delta_orthogonal")(KEY, params, network=network)
    out = grouped(made, images)
    np.testing.assert_allclose(
        jnp.linalg.norm(out, axis=-1), jnp.linalg.norm(images, axis=-1), 1e-5
    )
    for group in range(4):
        before, after = images[..., 2 * group :][..., :2], out[..., 2 * group :][..., :2]
        np.testing.assert_allclose(jnp.sum(after**2), jnp.sum(before**2), rtol=1e-5)


def test_the_axes_of_a_traced_network_are_not_doubted():
    params = {"w": jnp.zeros((4, 4, 3, 3))}

    def apply(params, x):
        return jax.lax.conv_general_dilated(
            x, params["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    network = jaxinit.trace(apply, params, jnp.zeros((1, 8, 8, 3)))
    for name in ("smooth", "dct", "closed_form", "gabor"):
        assert np.any(jaxinit.start(name)(KEY, params, network=network)["w"])
    with pytest.raises(ValueError, match="looks like"):
        catalogue.kernel("dct")(KEY, (4, 4, 3, 3))


def test_what_initialisers_need_is_one_of_few():
    with pytest.raises(ValueError, match="needs='image' is not known: choose one of nothing"):
        catalogue.names("image")
    assert catalogue.get("colour_gabor").defaults["relative_norm"] == 12.0


# What a key draws stays what it is (docs/stability.md): a weighted sum of each of two kernels.
DRAWN = {
    "torchvision": (-0.9659, -5.3457),
    "gabor": (-1.0619, -2.6799),
    "centred_gabor": (-5.9428, -4.6776),
    "colour_gabor": (-1.0987, -28.4267),
    "difference_of_gaussians": (0.1303, -0.7338),
    "gaussian_derivatives": (-0.3881, -1.0637),
    "natural_whitening": (-0.0452, -0.3267),
    "smooth": (-1.4424, -2.9004),
    "closed_form": (-1.6445, 0.5377),
    "dct": (-2.2889, -3.6262),
    "dirac": (-0.6477, 0.0449),
    "impulse": (-3.548, 3.8487),
}


def weighed(kernel):
    numbers = np.asarray(kernel, np.float64).ravel()
    return numbers @ np.cos(np.arange(numbers.size))


@pytest.mark.parametrize("name", DRAWN)
def test_what_a_key_draws_is_fixed(name):
    first, second = ({"kernel": jnp.ones(shape)} for shape in ((7, 7, 3, 8), (3, 3, 8, 8)))
    made = jaxinit.start(name)(jax.random.key(7), {"conv1": first, "layer1_0": {"conv1": second}})
    kernels = (made["conv1"]["kernel"], made["layer1_0"]["conv1"]["kernel"])
    assert tuple(map(weighed, kernels)) == pytest.approx(DRAWN[name], abs=1e-3)


def test_what_a_key_draws_from_a_bank_is_fixed():
    bank = jaxinit.banks.named("cifar100-resnet18")
    drawn = jaxinit.banks.draw(jax.random.key(7), bank, "layer1_0/conv1", (3, 3, 8, 8), jnp.float32)
    assert weighed(drawn) == pytest.approx(-0.5297, abs=1e-3)
