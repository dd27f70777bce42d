"""Frozen dataclasses that say what a run is, and the command line derived from them."""

import argparse
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from experiments.errors import UserError
from jaxinit.models import registry

Pair = tuple[int, int]
T = TypeVar("T")


def option(default: Any, help: str, *, choices: Sequence[str] | None = None) -> Any:
    """Declares a field that becomes an option; `help` names the unit."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


def check(condition: bool, sentence: str) -> None:
    """Raises the sentence as a `UserError` unless the condition holds."""
    if not condition:
        raise UserError(sentence)


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


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images."""

    dataset: str = option(
        "procedural",
        "procedural (made up, no files), cifar100, tiny_imagenet (64x64) or tiny_imagenet32",
        choices=("procedural", "cifar100", "tiny_imagenet", "tiny_imagenet32"),
    )
    data_dir: str | None = option(
        None, "folder of the prepared data sets (TFDS's own setting where not given)"
    )
    train_images_per_class: int | None = option(
        None, "use the first so many training images of each class (all where not given)"
    )
    test_images_per_class: int | None = option(
        None, "use the first so many test images of each class (all where not given)"
    )

    def __post_init__(self) -> None:
        for name in ("train_images_per_class", "test_images_per_class"):
            value = getattr(self, name)
            check(
                value is None or value >= 1,
                f"--{name.replace('_', '-')} {value} is too small: say 1 or more",
            )


@dataclasses.dataclass(frozen=True)
class Sources:
    """The source models whose filters are clustered."""

    sources: int = option(10, "number of source models: the first so many of the 45 pairs")
    source_epochs: int = option(25, "epochs of training of a source model")
    source_schedule: str = option(
        "published-source",
        "learning rate of the source models over the epochs, as --schedule",
        choices=("published", "published-source", "report", "constant", "cosine"),
    )
    source_augment: bool = option(True, "flip and rotate the images of the source models")
    source_dataset: str | None = option(
        None,
        "data set of the source models (that of the comparison where not given)",
        choices=("procedural", "cifar100", "tiny_imagenet", "tiny_imagenet32"),
    )
    models_dir: str = option("output/sources", "folder of the source models' checkpoints")

    def __post_init__(self) -> None:
        check(1 <= self.sources <= 45, f"--sources {self.sources} is out of range: say 1 to 45")
        check(
            self.source_epochs >= 1,
            f"--source-epochs {self.source_epochs} is too small: say 1 or more",
        )


def parse_pair(text: str) -> Pair:
    """Reads "10-14" as (10, 14)."""
    try:
        first, second = sorted(int(part) for part in text.split("-"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no pair of superclasses: say two numbers with a dash, such as 10-14"
        ) from None
    if first == second:
        raise argparse.ArgumentTypeError(f"{text!r} names one superclass twice: say two different")
    return (first, second)


def parse(
    presets: Mapping[str, T], argv: Sequence[str] | None, *, program: str, description: str
) -> T:
    """Makes a configuration from the command line.

    Args:
        presets: Complete configurations by name; the first is the default. Options given beside
            `--preset` replace its values; nested dataclasses contribute their fields as options.
        argv: Arguments, or None for the process's own.
        program: How the program is called, for `--help`.
        description: What it does.

    Returns:
        A configuration of the presets' type.

    Raises:
        UserError: A value that the configuration's own checks refuse.
        SystemExit: Status 2 for an unknown option or a malformed value, 0 after `--help`.
    """
    names = tuple(presets)
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", choices=names, default=names[0])
    known, _ = chooser.parse_known_args(argv)
    base = presets[known.preset]

    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--preset",
        choices=names,
        default=names[0],
        help=f"the values that options start from (default: {names[0]})",
    )
    _add_options(parser, base)
    return _replace(base, vars(parser.parse_args(argv)))


def _add_options(parser: argparse._ActionsContainer, config: Any) -> None:
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _add_options(parser.add_argument_group((type(value).__doc__ or "").rstrip(".")), value)
            continue
        flag = f"--{field.name.replace('_', '-')}"
        text, choices = field.metadata["help"], field.metadata["choices"]
        kind = _scalar_type(hints[field.name])
        described = f"{text} (default: {_shown(value)})".replace("%", "%%")
        common: dict[str, Any] = {"default": value, "help": described}
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif isinstance(value, tuple):
            name = None if choices else field.name[:-1].upper()
            parser.add_argument(flag, nargs="+", type=kind, choices=choices, metavar=name, **common)
        else:
            parser.add_argument(flag, type=kind, choices=choices, **common)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(f"{v[0]}-{v[1]}" if isinstance(v, tuple) else str(v) for v in value)
    return "none" if value is None else str(value)


def _scalar_type(hint: Any) -> Any:
    """The type of one value: int of `int | None`, the reader of pairs of a tuple of pairs."""
    if isinstance(hint, types.UnionType):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return parse_pair if typing.get_origin(item) is tuple else item
    return hint


def _replace(config: T, values: Mapping[str, Any]) -> T:
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # pyright: ignore[reportArgumentType]
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changed[field.name] = _replace(value, values)
        else:
            given = values[field.name]
            changed[field.name] = tuple(given) if isinstance(value, tuple) else given
    return dataclasses.replace(config, **changed)  # pyright: ignore[reportArgumentType]
