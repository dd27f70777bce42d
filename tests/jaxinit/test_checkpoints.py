"""Orbax checkpoints of trees of one's own, read an array at a time."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

import jaxinit
from jaxinit import checkpoints

KEY = jax.random.key(0)


class State(flax.struct.PyTreeNode):
    """What a user's own training may save."""

    params: dict
    slots: tuple


def make(seed):
    draw = jax.random.normal(jax.random.key(seed), (3, 3, 2, 8))
    return {"z_stem": {"kernel": draw}, "blocks": [{"kernel": draw[..., :2].astype(jnp.bfloat16)}]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        for seed in range(2):
            checkpointer.save(folder / f"{seed}", State(make(seed), (jnp.zeros(3), None)))
    return folder


def test_a_tree_stays_in_its_file_until_it_is_read(saved, monkeypatch):
    read = []
    plain = checkpoints._read
    monkeypatch.setattr(
        checkpoints, "_read", lambda path, tree, keys: read.append(keys) or plain(path, tree, keys)
    )
    params = jaxinit.open_checkpoint(saved / "0")["params"]
    assert params["z_stem"]["kernel"].shape == (3, 3, 2, 8)
    assert params["blocks"][0]["kernel"].dtype == jnp.bfloat16
    assert not read
    np.testing.assert_array_equal(params["blocks"][0]["kernel"], make(0)["blocks"][0]["kernel"])
    assert len(read) == 1


def test_a_bank_of_checkpoints_is_that_of_their_trees(saved):
    stored = [jaxinit.open_checkpoint(saved / f"{seed}")["params"] for seed in range(2)]
    network = jaxinit.declare(stored[0], ["z_stem", "blocks/0"])
    trees = [make(seed) for seed in range(2)]
    found, expected = (
        jaxinit.banks.fit(KEY, models, clusters=3, network=network) for models in (stored, trees)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert list(found.kernel_sizes) == ["z_stem", "blocks/0"]


def test_what_is_no_checkpoint_gets_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="is damaged or no Orbax checkpoint"):
        jaxinit.open_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="name the folder of an Orbax checkpoint"):
        jaxinit.open_checkpoint(tmp_path / "missing")
