"""Networks as Flax modules, by name, and their weights from and to PyTorch."""

from jaxinit.models import registry, torch

__all__ = ["registry", "torch"]
