"""What several tests of the experiments ask for."""

import pytest

from jaxinit.models import registry
from tests.experiments import small


@pytest.fixture
def small_networks(monkeypatch):
    """Quickens whole commands that ask for the networks whose places small ones take."""
    for name, network in small.networks().items():
        monkeypatch.setitem(registry._BY_NAME, name, network)
