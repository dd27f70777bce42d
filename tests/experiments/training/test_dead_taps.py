"""The fast path of training against the plain one: same streams of randomness, same curves."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import tasks
from experiments.runs import protocol
from experiments.training import dead_taps, networks, trainer
from experiments.training.epoch import Epoch, Split, init_state
from experiments.training.hyperparameters import Training
from jaxinit.models import convolution
from tests.experiments.small import make_dataset

PAIR = (0, 1)
STEPS = 20
# In float32 the two part within ten steps: rounding turns a ReLU or a maximum over, and training
# makes what follows from it grow. In float64 only a mistake could part them.
SETTINGS = Training(epochs=1, batch_size=16, precision="float64")


def test_twenty_steps_of_two_runs_at_once_are_those_of_plain_convolutions_alone(monkeypatch):
    """Matrix products, taps left out and vmap, against `lax` with all taps, a run at a time."""
    dataset = make_dataset(STEPS * SETTINGS.batch_size // 10, size=8, superclasses=2)
    task = tasks.pair_task(dataset, PAIR)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        # Every kind of layer that ResNet-18 has, fewer of each and narrower: quicker to compile.
        whole = networks.make_network(task.classes, SETTINGS)
        network = whole.clone(stages=(1, 1, 1), widths=(8, 16, 32))
        assert dead_taps.trimmed_layers(networks.trace(network, (8, 8)))
        images = trainer.to_device(dataset)
        train = Split(jnp.asarray(task.train_index), jnp.asarray(task.train_labels))
        test = Split(jnp.asarray(task.test_index), jnp.asarray(task.test_labels))
        one_image = jnp.zeros((1, 8, 8, 3))
        init = jax.jit(lambda key: network.init(key, one_image, train=False))
        keys = [protocol.run_keys(seed, PAIR) for seed in (0, 1)]
        variables = [jax.tree.map(lambda x: x.astype("float64"), init(k.network)) for k in keys]
        states = [init_state(start, SETTINGS) for start in variables]

        def epoch(network):
            return Epoch(network, SETTINGS, dataset.mean, dataset.std)

        many = jax.jit(jax.vmap(epoch(network), in_axes=(None, None, None, 0, 0)))
        together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        both = jnp.stack([key.training for key in keys])
        ended, fast = many(images, train, test, together, both)

        monkeypatch.setattr(dead_taps, "trimmed_layers", lambda network: ())
        plain = jax.jit(epoch(network.clone(convolve=convolution.plain_convolution)))
        for run, (state, key) in enumerate(zip(states, keys, strict=True)):
            after, alone = plain(images, train, test, state, key.training)
            assert alone.step_losses.shape == (STEPS,)
            # Norms and turns are of the taps that meet data, for the plain one all of them.
            ended_as, is_as = (result._replace(norms={}, turns={}) for result in (fast, alone))
            for ours, theirs in zip(
                jax.tree.leaves((ended_as, ended.params, ended.batch_stats)),
                jax.tree.leaves((is_as, after.params, after.batch_stats)),
                strict=True,
            ):
                np.testing.assert_allclose(ours[run], theirs, rtol=1e-9, atol=1e-9)
