"""What the tests of initialisers share."""

import pytest

from tests import small


@pytest.fixture(scope="module")
def params():
    return small.few_layers()


@pytest.fixture(scope="module")
def bank(params):
    return small.bank_for(params)
