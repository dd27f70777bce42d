"""The authors' published curves, and which of them has the setting of one of our runs.

The curves of CIFAR-100 are of networks that were trained on ten tasks one after the other and never
re-initialised in between: only the first of the ten runs starts from the initialiser, so that their
first epochs cannot be compared with fresh runs. Whatever shows them says `LABEL`. Those of Tiny
ImageNet, with one task, are of fresh runs (`label`). "Fourier" in the authors' names is the
distance between the real parts of the transforms, not between their magnitudes.

Each curve is over 50 runs (Tiny ImageNet: 5). `random_model` has 25 epochs, all others 15.
"""

import functools
import importlib.resources
import json

RANDOM = "random_model"
PRETRAINED = "pre_trained_model"
CUSTOM_RANDOM = "custom_random_model"
LABEL = "authors (carried over)"

_DISTANCES = {"euclidean": "euclid", "fourier-real": "fourier"}


@functools.cache
def _load() -> dict[str, dict]:
    file = importlib.resources.files("experiments.records").joinpath("published_curves.json")
    return json.loads(file.read_text(encoding="utf-8"))


def names() -> tuple[str, ...]:
    """Returns the names of all 46 configurations."""
    return tuple(_load())


def data_set(name: str) -> str:
    """Returns the data set of a configuration, as `experiments.data` calls it."""
    return "tiny_imagenet" if name.startswith("tiny_imagenet") else "cifar100"


def label(name: str) -> str:
    """Returns what a figure or a table calls the authors' numbers of this configuration."""
    return "authors" if data_set(name) == "tiny_imagenet" else LABEL


def curve(name: str, metric: str = "val_acc_top1", statistic: str = "mean") -> list[float]:
    """Returns a published curve, one number an epoch.

    Args:
        name: A configuration, one of `names()`.
        metric: train_loss, val_loss, or train_ or val_ with acc_top1 or acc_top5 (percent), or
            learning_rate.
        statistic: mean, min or max over the runs; the learning rate has only one.

    Raises:
        ValueError: If there is no such configuration, metric or statistic.
    """
    configuration = _load().get(name)
    if configuration is None:
        raise ValueError(f"the authors published no {name!r}: take one of {', '.join(names())}")
    if metric == "learning_rate":
        return list(configuration["lr_list"])
    if statistic not in ("mean", "min", "max"):
        raise ValueError(f"statistic is {statistic!r}: take mean, min or max")
    if metric not in configuration[statistic]:
        known = ", ".join([*configuration[statistic], "learning_rate"])
        raise ValueError(f"metric is {metric!r}: take one of {known}")
    return list(configuration[statistic][metric])


def for_clusters(distance: str, k: int, *, models: int = 10, layers: int = 17) -> str | None:
    """Returns the configuration with k clusters, None if the authors have none.

    Args:
        distance: "euclidean" or "fourier-real"; "fourier" (magnitudes) and others have no match.
        k: Clusters a layer.
        models: Source models; theirs are 10.
        layers: Initialised layers; theirs are 17.
    """
    return _clustered(distance, "clusters", k) if (models, layers) == (10, 17) else None


def for_models(distance: str, models: int, *, clusters: int = 10, layers: int = 17) -> str | None:
    """Returns the configuration with so many source models, as `for_clusters`."""
    return _clustered(distance, "models", models) if (clusters, layers) == (10, 17) else None


def for_layers(distance: str, layers: int, *, clusters: int = 10, models: int = 10) -> str | None:
    """Returns the configuration with so many initialised layers, as `for_clusters`."""
    return _clustered(distance, "layers", layers) if (clusters, models) == (10, 10) else None


def for_gabor(layers: int) -> str | None:
    """Returns the configuration with so many layers of Gabor filters, None if there is none."""
    return _known(f"gabor_model_num_layers_{layers}")


def for_alignment(layers: int, *, models: int = 6) -> str | None:
    """Returns the configuration with so many aligned layers, None if there is none."""
    return _known(f"custom_alignment_num_layers_{layers}") if models == 6 else None


def for_tiny_imagenet(initializer: str) -> str | None:
    """Returns the Tiny ImageNet configuration of "random", "pretrained" or "clustered" networks."""
    return _known(f"tiny_imagenet_{initializer}_models")


def _clustered(distance: str, varied: str, value: int) -> str | None:
    theirs = _DISTANCES.get(distance.replace("_", "-"))
    return _known(f"{theirs}_model_num_{varied}_{value}")


def _known(name: str) -> str | None:
    return name if name in _load() else None
