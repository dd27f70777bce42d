"""Times contenders in turns, so that whatever else the machine does meets all of them."""

import statistics
import time
from collections.abc import Callable, Mapping

import jax


def take_turns(
    contenders: Mapping[str, Callable[[], object]], repeats: int, *, unit: float = 1e-3
) -> dict[str, list[float]]:
    """Calls each contender once uncounted (compilation, the threads' start), then in rounds.

    Args:
        contenders: By name. What they return is waited for, where it is on a device.
        repeats: Rounds.
        unit: Seconds that the times are counted in; milliseconds where not given.

    Returns:
        Each contender's time of each round.
    """
    for call in contenders.values():
        jax.block_until_ready(call())
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, call in contenders.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append((time.perf_counter() - start) / unit)
    return times


def compare(times: Mapping[str, list[float]]) -> tuple[list[float], str]:
    """Compares the first contender with the second, in medians.

    Returns:
        Both medians, and "0.71 (rounds 0.69 to 0.74)".
    """
    ours, theirs = list(times.values())[:2]
    rounds = [a / b for a, b in zip(ours, theirs, strict=True)]
    medians = [statistics.median(ours), statistics.median(theirs)]
    spread = f"rounds {min(rounds):.2f} to {max(rounds):.2f}"
    return medians, f"{medians[0] / medians[1]:.2f} ({spread}"
