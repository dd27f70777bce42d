"""Options at random, of each command's own types: a plan, or one sentence and status 2.

`JAXINIT_FUZZ` says how many command lines each command gets; a few where it is not set.
"""

import dataclasses
import functools
import os
import random
import typing
from typing import Any

import pytest

from experiments import evidence, paper, pretrain, report
from experiments.cli import options
from experiments.data import sets
from experiments.runs.sources import SourceModels
from experiments.study import entry

COUNT = int(os.environ.get("JAXINIT_FUZZ", "6"))
# So that each plan is made within moments.
SMALL = ("--train-images-per-class", "4", "--test-images-per-class", "2")
PLACES = ("output", "models_dir")

ODD = (
    *("", " ", "~", "~nobody/x", "-1", "0", "1", "2", "3", "17", "18", "46", "1.5", "1e3", "1e20"),
    *("inf", "-inf", "nan", "0.0", "1e-320", "1e39", "2147483647", "2147483648", "9" * 400, "0x10"),
    *("1_0", "--", "-", "None", "True", "random", "euclidean", "fourier", "10-14", "14-10", "0-9"),
    *("10-10", "10-25", "-1-3", "10-", "ü", "\u202e", "a/b", "../x", ".", "/dev/null", "nothing"),
)


def leaves(settings):
    """The fields that options are made of, and their types."""
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value)
        else:
            yield field.name, hints[field.name], value


def choices(hint):
    """The names that a type allows, wherever they are in it."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    marks = getattr(hint, "__metadata__", ())
    found = [c for mark in marks for c in getattr(mark, "choices", None) or ()]
    return found + [c for part in typing.get_args(hint) for c in choices(part)]


def argument(rng, name, hint, value):
    """One option with its values, mostly such as its type allows."""
    if isinstance(value, bool):
        return [rng.choice([f"--{name}", f"--no-{name}"]).replace("_", "-")]
    usual = [*map(str, choices(hint)), *([] if value is None else [str(value)])]
    if isinstance(value, tuple):
        usual = [*map(str, choices(hint)), *map(options._text, value)]
    several = rng.randrange(4) if isinstance(value, tuple) else 1
    given = [rng.choice(usual if usual and rng.random() < 0.5 else ODD) for _ in range(several)]
    return [options.flag(name), *given]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Where paths are relative to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))


@pytest.mark.parametrize("one", entry.entries(), ids=lambda one: one.name)
def test_a_plan_or_a_sentence(one, tmp_path, monkeypatch, capsys):
    made = []

    class Nothing:
        def run(self):
            made.append(True)
            return []

    def planned(settings, progress):
        one.plan(settings, progress)
        return Nothing()

    monkeypatch.setattr("experiments.cli.processes.setup_jax", lambda: None)
    asked = dataclasses.replace(one, plan=planned)
    try_all(one.name, asked.main, one.presets["quick"], SMALL, capsys, made)


def try_all(name, main, settings, small, capsys, made):
    """Gives a command odd options; `made` is filled where it has nothing to complain of."""
    fields = list(leaves(settings))
    for number in range(COUNT):
        rng = random.Random(f"{name} {number}")
        chosen = rng.sample(fields, min(len(fields), rng.randrange(1, 4)))
        argv = [*small, *(word for own in chosen for word in argument(rng, *own))]
        made.clear()
        try:
            main(argv)
            status = 0
        except SystemExit as stop:
            status = stop.code
        said = capsys.readouterr()
        assert status == (0 if made else 2), argv
        assert "Traceback" not in said.err + said.out, argv
        if not made:
            assert said.err.strip(), argv
            if said.err.startswith("error: "):
                assert said.err.count("\n") == 1, (argv, said.err)


@pytest.mark.parametrize("name", ["pretrain", "paper", "report", "evidence", "data"])
def test_other_commands_do_their_work_or_say_a_sentence(name, monkeypatch, capsys):
    made: list[Any] = []

    def stop(*_, **__):
        made.append(True)
        return []

    def placed(settings, progress):
        made.extend(paper._placed(one, settings) for one in entry.entries())
        return []

    monkeypatch.setattr("experiments.cli.processes.setup_jax", lambda: None)
    main, settings, small = {
        "pretrain": (pretrain.main, pretrain.QUICK, SMALL),
        "paper": (paper.main, paper.PRESETS["quick"], ()),
        "report": (report.main, report.Report(), ()),
        "evidence": (evidence.main, evidence.Evidence(), ()),
        "data": (sets.main, sets.Prepare(), SMALL),
    }[name]
    monkeypatch.setattr(paper, "plans", placed)
    if name == "paper":  # of which nothing is recorded to report
        monkeypatch.setattr(report, "write", stop)
    monkeypatch.setattr(SourceModels, "load", lambda self: stop(self.check_writable()))
    monkeypatch.setattr(sets, "describe", stop)
    try_all(name, main, settings, small, capsys, made)


def test_every_type_is_asked_for():
    """The generator finds bounds and names, so that it cannot run empty."""
    fields = {
        name: hint for one in entry.entries() for name, hint, _ in leaves(one.presets["quick"])
    }
    assert {"epochs", "pairs", "distances", "schedule", "starts", "best_of", "models"} <= set(
        fields
    )
    assert "euclidean" in choices(fields["distances"])
    assert "cosine" in choices(fields["schedule"])
    rng = random.Random(0)
    draw = functools.partial(argument, rng, "distances", fields["distances"], ("euclidean",))
    assert len({tuple(draw()) for _ in range(50)}) > 20
