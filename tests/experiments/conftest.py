"""What several tests of the experiments ask for."""

import functools

import pytest

from jaxinit.models import registry
from tests.experiments import small


@pytest.fixture
def small_networks(monkeypatch):
    """Quickens whole commands that ask for the networks which this makes small."""
    small.shrink_networks(functools.partial(monkeypatch.setitem, registry._BY_NAME))
