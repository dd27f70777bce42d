"""How one network is trained: what decides its numbers, as options."""

import dataclasses
import math
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt

from experiments.cli.options import BatchSize, Epochs, Positive, Settings, one_of
from experiments.records import surroundings
from experiments.training import schedules
from jaxinit.models import registry


@dataclasses.dataclass(frozen=True)
class Training(Settings):
    """How one network is trained; the defaults are the paper's."""

    # epochs of training
    epochs: Epochs = 15
    # images a step; the last, smaller batch is kept
    batch_size: BatchSize = 128
    # learning rate of the first epoch
    learning_rate: Positive = 0.01
    # learning rate over the epochs: published (x0.2 by the authors' plateau rule),
    # published-source (the same, x0.5: their source models), report (halved after five epochs
    # without gain in validation accuracy), constant, cosine
    schedule: schedules.Schedule = "published"
    # momentum of SGD
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    # L2 penalty in the gradient, on every parameter
    weight_decay: Annotated[float, Ge(0), Lt(math.inf)] = 1e-4
    # flip and rotate the training images
    augment: bool = True
    # normalise the images by the data set's mean and deviation
    normalize: bool = True
    # leave the kernel of the first convolution as it starts
    freeze_stem: bool = False
    # arithmetic of the network; float64 needs JAX_ENABLE_X64=1
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    # a network of the library; custom is resnet18 without residuals in the first stage
    network: Annotated[str, one_of(registry.names())] = "resnet18"

    def described(self) -> dict[str, Any]:
        """What is recorded with a run: the network, and the rest.

        Raises:
            UserError: JAX is set to another width than that of the precision.
        """
        surroundings.check_width(self.precision)
        rest = {**dataclasses.asdict(self), **surroundings.unusual()}
        if not self.freeze_stem:  # which came later: runs recorded before are the same
            del rest["freeze_stem"]
        return {"network": rest.pop("network"), "training": rest}
