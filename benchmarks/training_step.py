"""How long one training step of ResNet-18 takes, beside another program's of the same network.

The other is PyTorch, in the faster of its forms, or plain Flax. All hold their images as bytes in
memory, and for each step gather a batch, normalise it, go forward and back, and update by SGD with
momentum and weight decay; none augments. Ours is the epoch of `experiments.training` as it is used.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import plain_flax, turns
from experiments.cli import errors
from experiments.cli.errors import UserError
from experiments.records import surroundings
from experiments.training import networks
from experiments.training.epoch import DeviceData, Epoch, Split, init_state
from experiments.training.hyperparameters import Training

CLASSES = 10
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def main() -> None:
    """Prints the times of each round, and their ratio on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", choices=("pytorch", "flax"), default="pytorch")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--steps", type=int, default=10, help="steps a round")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    options = parser.parse_args()
    with errors.exit_status():
        print(compare(**vars(options)))


def compare(against: str, batch: int, size: int, steps: int, repeats: int) -> str:
    """Times both in turns."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch * steps, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, batch * steps, dtype=np.int32)
    settings = Training(batch_size=batch, augment=False)
    ours = jax_epoch(networks.make_network(CLASSES, settings), images, labels, settings)
    if against == "pytorch":
        version = import_torch().__version__.split("+")[0]
        theirs = torch_epochs(images, labels, batch)
    else:
        version = ""
        theirs = {"plain Flax": jax_epoch(plain_flax.ResNet18(CLASSES), images, labels, settings)}
    times = turns.take_turns({"ours": ours, **theirs}, repeats, unit=1e-3 * steps)
    name = min(theirs, key=lambda form: statistics.median(times[form]))
    (our_time, their_time), ratio = turns.compare({"ours": times["ours"], name: times[name]})
    name = f"PyTorch {version}, {name}," if version else name
    return (
        f"ratio: {ratio}; ours {our_time:.0f} ms, {name} {their_time:.0f} ms a step; batch "
        f"{batch}, {size}×{size}, {surroundings.cores()} cores, jax {jax.__version__}, median of "
        f"{repeats} rounds of {steps} steps)"
    )


def import_torch() -> Any:
    """Returns PyTorch, or says how to get it."""
    try:
        import torch
    except ImportError:
        raise UserError("PyTorch is not installed: say `make bench`, which installs it") from None
    torch.set_num_threads(surroundings.cores())
    return torch


def jax_epoch(
    network: Any, images: np.ndarray, labels: np.ndarray, settings: Training
) -> Callable[[], Any]:
    """Returns an epoch as `experiments.training.Trainer` runs it, tested on a single image."""
    shape = jnp.zeros((1, *images.shape[1:]))
    variables = jax.jit(lambda key: network.init(key, shape, train=False))(jax.random.key(0))
    epoch = jax.jit(Epoch(network, settings, MEAN, STD), donate_argnums=3)
    device = DeviceData(jnp.asarray(images), jnp.asarray(images[:1]))
    train = Split(jnp.arange(len(labels)), jnp.asarray(labels))
    test = Split(jnp.arange(1), jnp.asarray(labels[:1]))
    state = init_state(variables, settings)
    key = jax.random.key(1)

    def run() -> Any:
        nonlocal state
        state, result = epoch(device, train, test, state, key)
        return state, result

    return run


def torch_epochs(
    images: np.ndarray, labels: np.ndarray, batch: int
) -> dict[str, Callable[[], None]]:
    """Returns the same epoch in PyTorch, in each form that may be its fastest."""
    from benchmarks import torch_forms

    device = torch_forms.prepare()
    rest = ("resnet18", "float32", images, labels, batch, (MEAN, STD))
    return {form: torch_forms.epoch(form, device, *rest) for form in torch_forms.forms(device)}


if __name__ == "__main__":
    main()
