"""What the tests of alignment share."""

import pytest

from tests.jaxinit.alignment.two_networks import make_network


@pytest.fixture(scope="module")
def networks():
    return {flag: make_network(flag) for flag in (True, False)}
