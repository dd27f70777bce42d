"""What older records call otherwise, or do not say, as it could not be chosen then."""

from collections.abc import Mapping
from typing import Any

# What experiments were called, and are called now.
EXPERIMENTS = {
    "alignment": "aligned_filters",
    "controls": "ablations",
    "layers": "initialized_layers",
    "models": "source_models",
}

# Where a cluster's members stand for it, so many of them were kept to be drawn.
_MEMBERS = 16


def completed(settings: Any) -> Any:
    """Returns settings as they would be recorded now.

    Args:
        settings: Those of a run, or a part of them.
    """
    if not isinstance(settings, Mapping):
        return settings
    whole = {name: completed(value) for name, value in settings.items()}
    if whole.get("kind") == "clustered" and whole.get("representative") == "member":
        whole.setdefault("members", _MEMBERS)
    return whole
