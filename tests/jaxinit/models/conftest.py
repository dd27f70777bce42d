"""PyTorch, for the tests that compare with it."""

from typing import Any

import pytest


@pytest.fixture(scope="module")
def torch() -> Any:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # more of them wait for each other where cores are shared
    return torch
