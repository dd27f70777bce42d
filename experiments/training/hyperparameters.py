"""How one network is trained: what decides its numbers, as options."""

import dataclasses
from typing import Any

from experiments.cli.options import check, option
from jaxinit.models import registry


@dataclasses.dataclass(frozen=True)
class Training:
    """How one network is trained; the defaults are the paper's."""

    epochs: int = option(15, "epochs of training")
    batch_size: int = option(128, "images a step; the last, smaller batch is kept")
    learning_rate: float = option(0.01, "learning rate of the first epoch")
    schedule: str = option(
        "published",
        "learning rate over the epochs: published (x0.2 by the authors' plateau rule), "
        "published-source (the same, x0.5: their source models), "
        "report (halved after five epochs without gain in validation accuracy), constant, cosine",
        choices=("published", "published-source", "report", "constant", "cosine"),
    )
    momentum: float = option(0.9, "momentum of SGD")
    weight_decay: float = option(1e-4, "L2 penalty in the gradient, on every parameter")
    augment: bool = option(True, "flip and rotate the training images")
    normalize: bool = option(True, "normalise the images by the data set's mean and deviation")
    freeze_stem: bool = option(False, "leave the kernel of the first convolution as it starts")
    precision: str = option("float32", "arithmetic of the network", choices=("float32", "bfloat16"))
    network: str = option(
        "resnet18",
        "a network of the library; custom is resnet18 without residuals in the first stage",
        choices=registry.names(),
    )

    def __post_init__(self) -> None:
        check(self.epochs >= 1, f"--epochs {self.epochs} is too small: say 1 or more")
        check(self.batch_size >= 2, f"--batch-size {self.batch_size} is too small: say 2 or more")
        check(self.learning_rate > 0, f"--learning-rate {self.learning_rate} must be positive")
        check(0 <= self.momentum < 1, f"--momentum {self.momentum} must be in [0, 1)")
        check(self.weight_decay >= 0, f"--weight-decay {self.weight_decay} must not be negative")

    def described(self) -> dict[str, Any]:
        """What is recorded with a run: the network, and the rest."""
        rest = dataclasses.asdict(self)
        if not self.freeze_stem:  # which came later: runs recorded before are the same
            del rest["freeze_stem"]
        return {"network": rest.pop("network"), "training": rest}
