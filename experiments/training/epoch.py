"""One epoch of training and evaluation as a pure function, for one run or, vmapped, for many."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from experiments.training import augmentation, dead_taps, networks
from experiments.training.hyperparameters import Training
from jaxinit import diagnostics, kernels
from jaxinit.layers import Network
from jaxinit.signatures import PRNGKey

_TOP = 5
_EVALUATION_BATCH = 250


class State(NamedTuple):
    """What training changes. With several runs at once every leaf has a leading axis of runs."""

    params: Any
    batch_stats: Any
    optimizer: Any


class Split(NamedTuple):
    """The images of one task, as rows of the data set."""

    rows: Int[Array, " n"]
    labels: Int[Array, " n"]


class DeviceData(NamedTuple):
    """A whole data set on the device."""

    train_images: UInt8[Array, "n h w c"]
    test_images: UInt8[Array, "m h w c"]


class Metrics(NamedTuple):
    """Sums over images of one batch: cross-entropy in nats, and hits."""

    loss: Float[Array, ""]
    top1: Float[Array, ""]
    top5: Float[Array, ""]


class EpochResult(NamedTuple):
    """What one epoch measured."""

    train: Metrics  # means over the training images, while training
    validation: Metrics  # means over the test images, after it
    norms: dict[str, Float[Array, ""]]  # of each layer's taps that meet data, before it
    turns: dict[str, Float[Array, ""]]  # by how many degrees it turned these taps
    step_losses: Float[Array, " steps"]


def make_optimizer(settings: Training) -> optax.GradientTransformationExtraArgs:
    """SGD as PyTorch has it: v ← μ·v + (g + λ·w), w ← w − η·v. The rate η is set every epoch."""

    def sgd(learning_rate: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(settings.weight_decay),
            optax.sgd(learning_rate, momentum=settings.momentum),
        )

    return optax.inject_hyperparams(sgd)(learning_rate=settings.learning_rate)


def init_state(variables: Any, settings: Training) -> State:
    """Makes the state of one run from a network's variables."""
    optimizer = make_optimizer(settings)
    return State(variables["params"], variables["batch_stats"], optimizer.init(variables["params"]))


def with_learning_rate(state: State, rate: Array) -> State:
    """The state that trains at this rate, or at one a run."""
    return state._replace(optimizer=state.optimizer._replace(hyperparams={"learning_rate": rate}))


def batch_metrics(logits: Float[Array, "n k"], labels: Int[Array, " n"]) -> Metrics:
    """Sums cross-entropy and hits over a batch.

    A class is among the first k as argmax and top-k have it, ties going to the lower label: an
    image whose logits are all equal counts as one of class 0. NaN is no hit, and comes before all
    numbers.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    before = jnp.arange(logits.shape[1])[None] < labels[:, None]
    behind = jnp.where(before, own > logits, own >= logits)  # those that this class is ahead of
    ahead = logits.shape[1] - jnp.sum(behind, axis=1)  # itself is behind, unless it is NaN
    found = ~jnp.isnan(own[:, 0])
    hits = [jnp.sum(found & (ahead < k)).astype(jnp.float32) for k in (1, _TOP)]
    return Metrics(jnp.sum(losses), *hits)


class Epoch:
    """The pure function that trains one run for one epoch, then evaluates it.

    To be jitted, or vmapped over everything but `images`. The last batch is smaller where the batch
    size does not divide the number of images; of two or three images it can make the loss explode,
    as the 1×1 maps of the last stage are then normalised over so few values. The learning rate is
    the one in the optimiser's state.

    Args:
        network: A Flax module called as `network.apply(variables, images, train=…)`.
        settings: Batch size, optimiser, augmentation; static.
        mean: Of each channel, for normalisation, of values in [0, 1].
        std: Of each channel.
    """

    def __init__(
        self, network: Any, settings: Training, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.network = network
        self.settings = settings
        self.optimizer = make_optimizer(settings)
        if not settings.normalize:
            mean, std = (0.0,), (1.0,)
        scale, shift = np.asarray(std, np.float32), np.asarray(mean, np.float32)
        self.slope = (1 / (255 * scale)).reshape(1, 1, 1, -1)
        self.offset = (shift / scale).reshape(1, 1, 1, -1)

    def __call__(
        self, images: DeviceData, train: Split, test: Split, state: State, key: PRNGKey
    ) -> tuple[State, EpochResult]:
        """Trains on `train` in an order drawn by `key`, and evaluates on `test`."""
        count, size = train.rows.shape[0], images.train_images.shape[1:]
        full, rest = divmod(count, self.settings.batch_size)
        order_key, augment_key = jax.random.split(key)
        order = jax.random.permutation(order_key, count)
        before = state
        state, norms = self.begin(before, size)
        first = state.params

        def one(state: State, batch: tuple[Array, Array]) -> tuple[State, Metrics]:
            number, rows = batch
            step_key = jax.random.fold_in(augment_key, number)
            batch_images = images.train_images[train.rows[rows]]
            return self.step(state, step_key, batch_images, train.labels[rows], before.params)

        whole = order[: full * self.settings.batch_size].reshape(full, self.settings.batch_size)
        state, sums = jax.lax.scan(one, state, (jnp.arange(full), whole))
        if rest:
            state, last = one(state, (jnp.asarray(full), order[-rest:]))
            sums = jax.tree.map(lambda s, m: jnp.append(s, m), sums, last)
        state, turns = self.end(before, first, state, size, full + bool(rest))
        train_means, step_losses = self.means(sums, count)
        validation = self._evaluate(state, images.test_images, test)
        return state, EpochResult(train_means, validation, norms, turns, step_losses)

    def begin(self, state: State, size: tuple[int, ...]) -> tuple[State, dict[str, Array]]:
        """Leaves the taps that see no data out, and measures the norms of the others."""
        known = networks.trace(self.network, size)
        params = dead_taps.trim(state.params, known)
        optimizer = dead_taps.trim_optimizer(state.optimizer, known)
        norms = diagnostics.kernel_norms(params, network=known)
        return State(params, state.batch_stats, optimizer), norms

    def end(
        self, before: State, first: Any, state: State, size: tuple[int, ...], steps: int
    ) -> tuple[State, dict[str, Array]]:
        """Puts these taps back after an epoch's steps, and measures how far the others turned.

        Args:
            before: What `begin` was given.
            first: The parameters that it returned.
            state: After the steps.
            size: As given to `begin`.
            steps: How many there were. Static.
        """
        known = networks.trace(self.network, size)
        turns = diagnostics.kernel_angles(first, state.params, network=known)
        params, optimizer = dead_taps.put_back(
            state.params,
            state.optimizer,
            (before.params, before.optimizer),
            known,
            steps,
            state.optimizer.hyperparams["learning_rate"],
            self.settings,
        )
        return State(params, state.batch_stats, optimizer), turns

    def means(self, sums: Metrics, count: int) -> tuple[Metrics, Float[Array, " steps"]]:
        """The means over all images of an epoch, and over each step's the loss.

        Args:
            sums: Over the images of each step.
            count: How many images there are. Static.
        """
        steps = sums.loss.shape[0]
        sizes = np.full(steps, self.settings.batch_size, np.float32)
        sizes[-1] = count - (steps - 1) * self.settings.batch_size
        return jax.tree.map(lambda m: jnp.sum(m) / count, sums), sums.loss / sizes

    def normalized(self, images: UInt8[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Bytes as the network takes them."""
        return images.astype(jnp.float32) * self.slope - self.offset

    def loss(
        self,
        params: Any,
        batch_stats: Any,
        images: Array,
        labels: Array,
        expand: Callable[[Any], Any] = lambda params: params,
    ) -> Any:
        """Mean loss of a batch in nats; and its metrics, and the batch statistics after it."""
        logits, updated = self.network.apply(
            {"params": expand(params), "batch_stats": batch_stats},
            self.normalized(images),
            train=True,
            mutable=["batch_stats"],
        )
        metrics = batch_metrics(logits, labels)
        return metrics.loss / labels.shape[0], (metrics, updated["batch_stats"])

    def step(
        self, state: State, key: PRNGKey, images: Array, labels: Array, whole: Any = None
    ) -> tuple[State, Metrics]:
        """One step on a batch, augmented by `key`; its metrics are those before the step.

        Args:
            state: As `begin` returns it where `whole` is given.
            key: For augmentation.
            images: (n, h, w, c), uint8.
            labels: (n,).
            whole: Parameters of the shapes that `begin` was given.
        """
        if self.settings.augment:
            images = augmentation.augment(key, images)
        known = networks.trace(self.network, images.shape[1:])

        def expand(params: Any) -> Any:
            return params if whole is None else dead_taps.pad(params, known, whole)

        gradient = jax.grad(functools.partial(self.loss, expand=expand), has_aux=True)
        grads, (metrics, batch_stats) = gradient(state.params, state.batch_stats, images, labels)
        updates, slots = self.optimizer.update(grads, state.optimizer, state.params)
        if self.settings.freeze_stem:
            updates = _without_stem(updates, known)
        return State(optax.apply_updates(state.params, updates), batch_stats, slots), metrics

    def _evaluate(self, state: State, images: Array, test: Split) -> Metrics:
        count = test.rows.shape[0]
        batches, size = evaluation_batches(count)
        # Rows are repeated to fill the last batch, and weigh nothing.
        rows = jnp.arange(batches * size).reshape(batches, size)

        def one(total: Metrics, row: Int[Array, " b"]) -> tuple[Metrics, None]:
            place = row % count
            own = self.scores(state, images[test.rows[place]], test.labels[place], row < count)
            return jax.tree.map(jnp.add, total, own), None

        total, _ = jax.lax.scan(one, Metrics(*jnp.zeros((3,))), rows)
        return jax.tree.map(lambda m: m / count, total)

    def scores(self, state: State, images: Array, labels: Array, counted: Array) -> Metrics:
        """Evaluates on a batch; sums over the images that are counted, (n,) bool."""
        logits = self.network.apply(
            {"params": state.params, "batch_stats": state.batch_stats},
            self.normalized(images),
            train=False,
        )
        each = jax.vmap(lambda z, y: batch_metrics(z[None], y[None]))(logits, labels)
        return jax.tree.map(lambda m: jnp.sum(jnp.where(counted, m, 0.0)), each)


def evaluation_batches(count: int) -> tuple[int, int]:
    """How many batches of what size so many images are evaluated in, the last filled up."""
    batches = -(-count // _EVALUATION_BATCH)
    return batches, -(-count // batches)


def _without_stem(updates: Any, network: Network) -> Any:
    """Sets the update of the first convolution's kernel to zero."""
    stem = network.main[0]
    return kernels.put(updates, {stem: jnp.zeros_like(kernels.get(updates, stem))})
