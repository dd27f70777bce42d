"""Banks that are kept are taken only where they were made of the same, in the same way."""

import dataclasses
import os
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.study.bank_cache import BankCache
from experiments.study.clustering import Clustering
from experiments.training import networks
from jaxinit import banks
from tests.small import SmallNetwork

NAMES = ("set-0/pair-0-1", "set-0/pair-0-11")


class Models:
    """Stands for source models that are trained already."""

    def __init__(self, folder, checksums):
        self.folder, self.checksums, self.loaded = folder, lambda: checksums, 0

    def names(self):
        return NAMES

    def load(self):
        self.loaded += 1
        network, image = SmallNetwork(), jnp.zeros((1, 8, 8, 3))
        draw = jax.jit(lambda key: network.init(key, image, train=False)["params"])
        trees = [draw(jax.random.key(seed)) for seed in range(len(NAMES))]
        return [types.SimpleNamespace(stored_params=lambda own=own: own) for own in trees]


def cache(models, **options):
    network = networks.trace(SmallNetwork(), (8, 8, 3))
    clustering = dataclasses.replace(Clustering(restarts=1, most_slices=2**12), **options)
    return BankCache(models, network, clustering, overwrite=False)


KNOWN = {NAMES[0]: "a" * 64, NAMES[1]: "b" * 64}


@pytest.fixture
def kept(tmp_path):
    """The folder of a bank that is kept, and the bank."""
    bank = cache(Models(tmp_path, KNOWN)).bank("euclidean", 2)
    return tmp_path, bank


def test_the_same_bank_is_taken(kept):
    folder, bank = kept
    for known in (KNOWN, {}):  # of older models no checksum is known
        models = Models(folder, known)
        again = cache(models).bank("euclidean", 2)
        assert models.loaded == 0
        jax.tree.map(np.testing.assert_array_equal, again, bank)
    assert bank.provenance.sources[0] == f"{NAMES[0]} {'a' * 16}"


def test_a_bank_without_checksums_is_taken(kept):
    folder, bank = kept
    (file,) = (folder / "banks").iterdir()
    provenance = dataclasses.replace(bank.provenance, sources=NAMES)
    banks.save(dataclasses.replace(bank, provenance=provenance), file)
    models = Models(folder, KNOWN)
    cache(models).bank("euclidean", 2)
    assert models.loaded == 0


@pytest.mark.parametrize("why", ["another model", "renamed", "another network"])
def test_a_bank_of_something_else_is_made_anew(kept, why):
    folder, bank = kept
    (file,) = (folder / "banks").iterdir()
    known, options = KNOWN, {}
    if why == "another model":
        known = {**KNOWN, NAMES[1]: "c" * 64}
    elif why == "renamed":
        file.rename(str(file).replace("restarts-1", "restarts-2"))
        options = {"restarts": 2}
    else:
        (size,) = bank.kernel_sizes.values()
        fields = ("filters", "sizes", "inertia")
        other = {name: {"other": next(iter(getattr(bank, name).values()))} for name in fields}
        sizes = type(bank.kernel_sizes)({"other": size})
        banks.save(dataclasses.replace(bank, kernel_sizes=sizes, **other), file)
    models = Models(folder, known)
    made = cache(models, **options).bank("euclidean", 2)
    assert models.loaded == 1
    assert set(made.kernel_sizes) == set(bank.kernel_sizes)


def test_a_damaged_bank_is_named(kept):
    folder, _ = kept
    (file,) = (folder / "banks").iterdir()
    os.truncate(file, 100)
    with pytest.raises(UserError, match=rf"{file} is damaged .*; delete {file}, it will be made"):
        cache(Models(folder, KNOWN)).bank("euclidean", 2)
