"""Training as in the paper: one compiled epoch, on data that stay on the device, for many runs."""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Float, Int, UInt8

import jaxinit
from experiments import augmentation, config, data, dead_taps, processes, schedules
from jaxinit import diagnostics, kernels
from jaxinit.layers import Network
from jaxinit.models import registry
from jaxinit.types import PRNGKey

_TOP = 5
_EVALUATION_BATCH = 250
_USABLE = 0.85  # of a device's memory: the rest is for what the compiler's account leaves out


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


class Curves(NamedTuple):
    """What one run recorded: lists with one value an epoch.

    Those of `CURVES`, accuracies in percent; `norm/<layer>`, the norm of the layer's taps that
    meet data, as the epoch begins, so that the first is the initialiser's; and `turn/<layer>`, the
    angle in degrees between these taps before the epoch and after it.
    """

    values: dict[str, list[float | None]]
    stopped: str | None


# Called after each epoch with the number of epochs done and each run's last validation accuracy.
Progress = Callable[[int, Sequence[float]], None]


def to_device(dataset: data.Dataset, sharding: Sharding | None = None) -> DeviceData:
    """Puts all images on the default device, or where the sharding says, as bytes."""
    put = jnp.asarray if sharding is None else lambda host: processes.spread(host, sharding)
    return DeviceData(put(dataset.train_images), put(dataset.test_images))


def free_memory() -> float | None:
    """Bytes of the default device that may be used still; None where it does not say."""
    memory = jax.local_devices()[0].memory_stats()
    if not memory or "bytes_limit" not in memory:
        return None
    return _USABLE * memory["bytes_limit"] - memory["bytes_in_use"]


def make_optimizer(settings: config.Training) -> optax.GradientTransformationExtraArgs:
    """SGD as PyTorch has it: v ← μ·v + (g + λ·w), w ← w − η·v. The rate η is set every epoch."""

    def sgd(learning_rate: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(settings.weight_decay),
            optax.sgd(learning_rate, momentum=settings.momentum),
        )

    return optax.inject_hyperparams(sgd)(learning_rate=settings.learning_rate)


def init_state(variables: Any, settings: config.Training) -> State:
    """Makes the state of one run from a network's variables."""
    optimizer = make_optimizer(settings)
    return State(variables["params"], variables["batch_stats"], optimizer.init(variables["params"]))


def make_network(classes: int, settings: config.Training) -> linen.Module:
    """The network that the settings ask for."""
    network = registry.get(settings.network)
    return network.make(classes=classes, dtype=jnp.dtype(settings.precision))


def trace(network: Any, size: tuple[int, ...]) -> Network:
    """Finds the convolutions of a network.

    Args:
        network: A Flax module called as `network.apply(variables, images, train=…)`.
        size: Of its images: (height, width), and channels where they are not three.
    """
    return _trace(network, (1, *size, 3)[:4])


@functools.cache
def _trace(network: Any, shape: tuple[int, ...]) -> Network:
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(
        lambda key, x: network.init(key, x, train=False), jax.random.key(0), images
    )
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def apply(params: Any, rest: Any, images: Array) -> Array:
        return network.apply({"params": params, **rest}, images, train=False)

    return jaxinit.trace(apply, variables["params"], rest, images)


def _metrics(logits: Float[Array, "n k"], labels: Int[Array, " n"]) -> Metrics:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    rank = jnp.sum(logits > own, axis=1)
    hits = [jnp.sum(rank < k).astype(jnp.float32) for k in (1, _TOP)]
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
        self, network: Any, settings: config.Training, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.network = network
        self.settings = settings
        self.optimizer = make_optimizer(settings)
        if not settings.normalize:
            mean, std = (0.0,) * 3, (1.0,) * 3
        scale, shift = np.asarray(std, np.float32), np.asarray(mean, np.float32)
        self.slope = (1 / (255 * scale)).reshape(1, 1, 1, 3)
        self.offset = (shift / scale).reshape(1, 1, 1, 3)

    def __call__(
        self, images: DeviceData, train: Split, test: Split, state: State, key: PRNGKey
    ) -> tuple[State, EpochResult]:
        """Trains on `train` in an order drawn by `key`, and evaluates on `test`."""
        count = train.rows.shape[0]
        full, rest = divmod(count, self.settings.batch_size)
        order_key, augment_key = jax.random.split(key)
        order = jax.random.permutation(order_key, count)
        known, before = trace(self.network, images.train_images.shape[1:]), state
        state = state._replace(
            params=dead_taps.trim(state.params, known),
            optimizer=dead_taps.trim_optimizer(state.optimizer, known),
        )
        first = state.params
        norms = diagnostics.kernel_norms(first, network=known)

        def one(state: State, batch: tuple[Array, Array]) -> tuple[State, Metrics]:
            number, rows = batch
            step_key = jax.random.fold_in(augment_key, number)
            batch_images = images.train_images[train.rows[rows]]
            return self._step(state, step_key, batch_images, train.labels[rows], expand)

        def expand(params: Any) -> Any:
            return dead_taps.pad(params, known, before.params)

        whole = order[: full * self.settings.batch_size].reshape(full, self.settings.batch_size)
        state, sums = jax.lax.scan(one, state, (jnp.arange(full), whole))
        step_losses = sums.loss / self.settings.batch_size
        if rest:
            state, last = one(state, (jnp.asarray(full), order[-rest:]))
            sums = jax.tree.map(lambda s, m: jnp.append(s, m), sums, last)
            step_losses = jnp.append(step_losses, last.loss / rest)
        turns = diagnostics.kernel_angles(first, state.params, network=known)
        params, optimizer = dead_taps.put_back(
            state.params,
            state.optimizer,
            (before.params, before.optimizer),
            known,
            full + bool(rest),
            state.optimizer.hyperparams["learning_rate"],
            self.settings,
        )
        state = State(params, state.batch_stats, optimizer)
        train_means = jax.tree.map(lambda m: jnp.sum(m) / count, sums)
        validation = self._evaluate(state, images.test_images, test)
        return state, EpochResult(train_means, validation, norms, turns, step_losses)

    def _normalize(self, images: UInt8[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        return images.astype(jnp.float32) * self.slope - self.offset

    def _loss(
        self,
        params: Any,
        batch_stats: Any,
        images: Array,
        labels: Array,
        expand: Callable[[Any], Any] = lambda params: params,
    ) -> Any:
        logits, updated = self.network.apply(
            {"params": expand(params), "batch_stats": batch_stats},
            self._normalize(images),
            train=True,
            mutable=["batch_stats"],
        )
        metrics = _metrics(logits, labels)
        return metrics.loss / labels.shape[0], (metrics, updated["batch_stats"])

    def _step(
        self,
        state: State,
        key: PRNGKey,
        images: Array,
        labels: Array,
        expand: Callable[[Any], Any] = lambda params: params,
    ) -> tuple[State, Metrics]:
        if self.settings.augment:
            images = augmentation.augment(key, images)
        gradient = jax.grad(functools.partial(self._loss, expand=expand), has_aux=True)
        grads, (metrics, batch_stats) = gradient(state.params, state.batch_stats, images, labels)
        updates, slots = self.optimizer.update(grads, state.optimizer, state.params)
        if self.settings.freeze_stem:
            known = trace(self.network, images.shape[1:])
            updates = _without_stem(updates, known)
        return State(optax.apply_updates(state.params, updates), batch_stats, slots), metrics

    def _evaluate(self, state: State, images: Array, test: Split) -> Metrics:
        count = test.rows.shape[0]
        batches = -(-count // _EVALUATION_BATCH)
        size = -(-count // batches)
        # Rows are repeated to fill the last batch, and weigh nothing.
        rows = jnp.arange(batches * size).reshape(batches, size)

        def one(total: Metrics, row: Int[Array, " b"]) -> tuple[Metrics, None]:
            place = row % count
            logits = self.network.apply(
                {"params": state.params, "batch_stats": state.batch_stats},
                self._normalize(images[test.rows[place]]),
                train=False,
            )
            each = jax.vmap(lambda z, y: _metrics(z[None], y[None]))(logits, test.labels[place])
            weighed = jax.tree.map(lambda m: jnp.sum(jnp.where(row < count, m, 0.0)), each)
            return jax.tree.map(jnp.add, total, weighed), None

        total, _ = jax.lax.scan(one, Metrics(*jnp.zeros((3,))), rows)
        return jax.tree.map(lambda m: m / count, total)


def _without_stem(updates: Any, network: Network) -> Any:
    """Sets the update of the first convolution's kernel to zero."""
    stem = network.main[0]
    return kernels.put(updates, {stem: jnp.zeros_like(kernels.get(updates, stem))})


def jit_once(function: Callable[..., Any]) -> Any:
    """Compiles what a run needs once: on a CPU in half the time, for code that is no faster."""
    cpu = jax.default_backend() == "cpu"
    options: Any = {"xla_backend_optimization_level": 1} if cpu else None
    return jax.jit(function, compiler_options=options)


class _Programs(NamedTuple):
    """The compiled functions of a `Trainer`."""

    mesh: jax.sharding.Mesh
    init: Any
    start: Callable[[Any], State]
    starts: Callable[[Any], State]
    one: Any
    many: Any


@functools.cache
def _programs(
    network: Any,
    settings: config.Training,
    size: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> _Programs:
    epoch = Epoch(network, settings, mean, std)
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("runs",))
    many = jax.vmap(epoch, in_axes=(None, 0, 0, 0, 0))
    over_runs = None
    if mesh.size > 1:
        own = PartitionSpec("runs")
        over_runs = NamedSharding(mesh, own)
        many = jax.shard_map(
            many,
            mesh=mesh,
            in_specs=(PartitionSpec(), own, own, own, own),
            out_specs=own,
            check_vma=False,  # no run sees another
        )
    one_image = jnp.zeros((1, *size))
    return _Programs(
        mesh,
        init=jit_once(lambda key: network.init(key, one_image, train=False)),
        # Copied, as the states are given away to the epochs, and the variables are the caller's.
        start=jax.jit(lambda own: init_state(jax.tree.map(jnp.copy, own), settings)),
        starts=jax.jit(
            jax.vmap(lambda variables: init_state(variables, settings)), out_shardings=over_runs
        ),
        # A single run keeps its plain program: XLA does worse with a batch of one on a CPU.
        one=jax.jit(epoch, donate_argnums=3),
        many=jax.jit(many, donate_argnums=3),
    )


class Trainer:
    """Trains groups of runs on one data set.

    Every group of the same shape shares one program, whatever its epochs and its learning rates.

    Args:
        dataset: Images and normalisation.
        settings: Of the training.
        classes: Number of logits.
        network: Another network than ResNet-18, if any.
    """

    def __init__(
        self, dataset: data.Dataset, settings: config.Training, classes: int, network: Any = None
    ) -> None:
        self.settings = settings
        self.network: Any = make_network(classes, settings) if network is None else network
        # Trainers that differ in what only the host sees share their programs.
        compiled = dataclasses.replace(settings, epochs=1, learning_rate=1.0, schedule="constant")
        size = dataset.train_images.shape[1:]
        normalization = (tuple(dataset.mean), tuple(dataset.std))
        self._programs = _programs(self.network, compiled, size, *normalization)
        self._mesh = self._programs.mesh
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        self.images = to_device(dataset, everywhere if self.devices > 1 else None)

    @property
    def layers(self) -> Network:
        """The network's convolutions."""
        return trace(self.network, self.images.train_images.shape[1:])

    @property
    def devices(self) -> int:
        """How many devices the runs are spread over."""
        return self._mesh.size

    def init_variables(self, key: PRNGKey) -> Any:
        """Draws the network's default start: {"params": …, "batch_stats": …}."""
        return self._programs.init(key)

    def runs_that_fit(self, task: data.Task) -> int | None:
        """How many runs the devices hold at once, by the compiler's account of what two need.

        None where a device or the compiler does not say, as on a CPU.

        Args:
            task: One like those to train on.
        """
        free = free_memory()
        needed = None if free is None else self._bytes_per_run(task)
        if free is None or needed is None:
            return None
        return max(1, int(processes.agreed(free / needed))) * self.devices

    def _bytes_per_run(self, task: data.Task) -> float | None:
        key = jax.random.key(0)
        variables = self._programs.init.eval_shape(key)
        state = jax.eval_shape(lambda own: init_state(own, self.settings), variables)
        splits = (
            _split(task.train_index, task.train_labels),
            _split(task.test_index, task.test_labels),
        )
        count = 2 * self.devices
        runs = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype),
            (*splits, state, jax.eval_shape(lambda: key)),
        )
        needed = self._programs.many.lower(self.images, *runs).compile().memory_analysis()
        if needed is None:
            return None
        images = sum(leaf.nbytes for leaf in self.images)
        # The caller holds each run's start, too.
        start = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state[:2]))
        total = needed.temp_size_in_bytes + needed.argument_size_in_bytes
        total += needed.output_size_in_bytes - needed.alias_size_in_bytes
        return (total - images) / 2 + start

    def train(
        self,
        tasks: Sequence[data.Task],
        variables: Sequence[Any],
        keys: Sequence[PRNGKey],
        progress: Progress = lambda epochs, accuracies: None,
        *,
        places: int = 1,
        keep: bool = True,
    ) -> tuple[list[Curves], list[Any]]:
        """Trains one run for each task, all at once, spread over the devices.

        Args:
            tasks: One a run; all with as many images.
            variables: Each run's start.
            keys: Each run's order of images and augmentation.
            progress: Told after every epoch.
            places: Train as if there were at least so many runs, so that a smaller last group
                needs no program of its own.
            keep: Return the variables.

        Returns:
            Each run's curves, and its variables after the last epoch where they are to be kept. A
            run whose loss is not finite is recorded up to the epoch before, stopped, and does not
            touch the others.
        """
        single = max(len(tasks), places, self.devices) == 1
        join = operator.itemgetter(0) if single else functools.partial(self._join, places=places)
        part = (lambda tree, _: tree) if single else _part
        call = self._programs.one if single else self._programs.many
        train = join([_split(t.train_index, t.train_labels) for t in tasks])
        test = join([_split(t.test_index, t.test_labels) for t in tasks])
        start = self._programs.start if single else self._programs.starts
        state = start(join(variables))
        logs = [RunLog(self.settings) for _ in tasks]
        for epoch in range(self.settings.epochs):
            rate = join([jnp.float32(log.learning_rate()) for log in logs])
            state = _with_learning_rate(state, rate)
            key = join([jax.random.fold_in(key, epoch) for key in keys])
            state, result = call(self.images, train, test, state, key)
            host = processes.gather(result)
            for number, log in enumerate(logs):
                log.add(part(host, number))
            progress(epoch + 1, [log.last_accuracy() for log in logs])
            if all(log.stopped for log in logs):
                break
        curves = [Curves(log.curves, log.stopped) for log in logs]
        if not keep:
            return curves, []
        trained = {"params": state.params, "batch_stats": state.batch_stats}
        if jax.process_count() > 1:
            trained = processes.gather(trained)
        return curves, [part(trained, number) for number in range(len(tasks))]

    def _join(self, trees: Sequence[Any], places: int) -> Any:
        """Stacks one tree a run, the last repeated to fill all places of all devices."""
        count = -(-max(len(trees), places) // self.devices) * self.devices
        filled = [*trees, *[trees[-1]] * (count - len(trees))]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *filled)
        if self.devices == 1:
            return stacked
        return processes.spread(stacked, NamedSharding(self._mesh, PartitionSpec("runs")))


CURVES = (
    "train_loss",
    "train_acc_top1",
    "train_acc_top5",
    "val_loss",
    "val_acc_top1",
    "val_acc_top5",
    "learning_rate",
)


class RunLog:
    """The curves of one run as they grow, and the learning rate that follows from them."""

    def __init__(self, settings: config.Training) -> None:
        self.settings = settings
        self.curves: dict[str, list[Any]] = {name: [] for name in CURVES}
        self.stopped: str | None = None

    def learning_rate(self) -> float:
        """The rate of the next epoch."""
        return schedules.learning_rate(
            self.settings.schedule,
            self.settings.learning_rate,
            len(self.curves["train_loss"]),
            self.settings.epochs,
            train_losses=self.curves["train_loss"],
            val_accuracies=self.curves["val_acc_top1"],
        )

    def last_accuracy(self) -> float:
        """Validation accuracy of the last epoch in percent; NaN where there is none."""
        return self.curves["val_acc_top1"][-1] if self.curves["val_acc_top1"] else math.nan

    def add(self, result: EpochResult) -> None:
        """Records one epoch, unless its loss was not finite: then the run is stopped."""
        if self.stopped:
            return
        losses = np.append(result.step_losses, result.validation.loss)
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            epoch = len(self.curves["train_loss"]) + 1
            last = bad[0] == len(losses) - 1
            where = "the validation" if last else f"training step {bad[0] + 1}"
            self.stopped = f"the loss is not finite in epoch {epoch}, in {where}"
            return
        rate = self.learning_rate()
        for split, metrics in (("train", result.train), ("val", result.validation)):
            self.curves[f"{split}_loss"].append(float(metrics.loss))
            self.curves[f"{split}_acc_top1"].append(100 * float(metrics.top1))
            self.curves[f"{split}_acc_top5"].append(100 * float(metrics.top5))
        self.curves["learning_rate"].append(rate)
        for kind, values in (("norm", result.norms), ("turn", result.turns)):
            for name, value in values.items():
                self.curves.setdefault(f"{kind}/{name}", []).append(float(f"{value:.5g}"))


def _with_learning_rate(state: State, rate: Array) -> State:
    return state._replace(optimizer=state.optimizer._replace(hyperparams={"learning_rate": rate}))


def _split(rows: np.ndarray, labels: np.ndarray) -> Split:
    return Split(jnp.asarray(rows), jnp.asarray(labels))


def _part(tree: Any, number: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[number], tree)
