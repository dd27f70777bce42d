"""A few layers, and a bank for them, which most tests of the library begin with."""

import pytest

from tests import small


@pytest.fixture(scope="module")
def params():
    return small.few_layers()


@pytest.fixture(scope="module")
def bank(params):
    return small.bank_for(params)
