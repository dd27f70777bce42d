"""Questions that make themselves known: found, in order, and complete."""

import importlib
import pkgutil

import pytest

import experiments
from experiments.study import entry


def test_every_module_that_asks_a_question_is_found():
    asking = {
        found.name
        for found in pkgutil.iter_modules(experiments.__path__)
        if not found.ispkg
        and hasattr(importlib.import_module(f"experiments.{found.name}"), "PRESETS")
    }
    assert {one.name for one in entry.entries()} == asking - {"paper", "pretrain"}


@pytest.mark.parametrize("one", entry.entries(), ids=lambda one: one.name)
def test_an_entry_is_that_of_its_module(one):
    module = importlib.import_module(f"experiments.{one.name}")
    assert module.ENTRY is one
    assert module.main == one.main
    assert one.about == module.__doc__
    assert next(iter(one.presets)) == "quick"
    if one.number is not None:  # the whole paper runs in each of these
        assert list(one.presets) == ["quick", "reduced", "paper"]
    assert one.presets["quick"].evaluation.output == f"output/{one.name}"


def test_the_paper_comes_first_in_its_order():
    numbers = [one.number for one in entry.entries()]
    known = [number for number in numbers if number is not None]
    assert known == sorted(known)
    assert numbers == known + [None] * (len(numbers) - len(known))


def test_the_report_has_each_figure_of_the_paper_once():
    parts = [part for part, _ in entry.sections()]
    assert [part.figure for part in parts] == [*range(2, 11), None, None]
    assert parts[0].heading == "Figure 2: ways of starting a network"
    assert parts[-1].heading == "Hyper-parameter search"
