"""Several processes that work as one, through `jax.distributed`: on several machines, for example.

All processes run the same program. Runs are spread over the devices of all of them, each process
learns every run's results, and the first alone writes and speaks. They share a file system: what
one has written all can read once `wait` returns.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from experiments.cli import endings
from experiments.cli.errors import UserError, first_line

_COORDINATOR = "JAX_COORDINATOR_ADDRESS"
_NUMBERS = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
_HEARTBEAT = "JAXINIT_HEARTBEAT_SECONDS"
_SECONDS = 30  # without a sign of life, after which a process counts as dead


def join() -> None:
    """Joins the other processes where the environment names a coordinator.

    `JAX_COORDINATOR_ADDRESS` (host:port of the first process), `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID` (from 0); JAX finds out the last two itself under Slurm and Open MPI 4. To be
    called before JAX is used. Where a process dies later, the others end as `endings` says.

    Raises:
        UserError: If the other processes cannot be joined.
    """
    if not (coordinator := os.environ.get(_COORDINATOR)) or jax.distributed.is_initialized():
        return
    try:
        numbers: dict[str, Any] = {
            name: int(os.environ[v]) for name, v in _NUMBERS.items() if v in os.environ
        }
        seconds = int(os.environ.get(_HEARTBEAT, _SECONDS))
        endings.prepare()
        # It would have SIGTERM do nothing but be noted.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(coordinator, **numbers, heartbeat_timeout_seconds=seconds)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the other processes cannot be joined ({reason}): set {_COORDINATOR} to host:port of "
            f"the first, {_NUMBERS['num_processes']} to how many there are, and "
            f"{_NUMBERS['process_id']} to the number of each, from 0"
        ) from error
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


def wait(reason: str) -> None:
    """Returns once all processes have come here, each for the same reason."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(reason)


def agreed(numbers: Sequence[float]) -> list[float]:
    """The first process's numbers, of which all have as many.

    What each finds in files may differ, where another command writes there at the same time.
    """
    if jax.process_count() == 1 or not numbers:
        return list(numbers)
    return multihost_utils.broadcast_one_to_all(np.asarray(numbers, np.float32)).tolist()


def spread(tree: Any, sharding: Sharding) -> Any:
    """Puts arrays that every process has onto the devices of all.

    Args:
        tree: Of arrays or keys, the same in every process.
        sharding: Where each array's parts go.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, tree)


def gather(tree: Any) -> Any:
    """Copies arrays that lie on the devices of all processes to the host of each."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def setup_jax() -> None:
    """Joins other processes, starts JAX, and keeps compiled programs between starts.

    Programs are kept as `JAX_COMPILATION_CACHE_DIR` says, else in the user's own cache; nowhere if
    that folder cannot be used.

    Raises:
        UserError: The other processes cannot be joined, or there is no such platform.
    """
    join()
    try:
        jax.devices()
    except RuntimeError as error:
        raise UserError(
            f"JAX finds no device ({first_line(error)}): correct or unset JAX_PLATFORMS"
        ) from error
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = own_cache("compiled") if given is None else Path(given)
    if given is not None and (not given or "://" in given):
        return  # nowhere, or in a cloud, which JAX asks itself
    usable = folder is not None and _can_keep(folder)
    if given and not usable and is_first():
        note = f"compiled programs are not kept: JAX_COMPILATION_CACHE_DIR {given} cannot be used"
        print(note, file=sys.stderr)
    jax.config.update("jax_compilation_cache_dir", str(folder) if usable else None)


def own_cache(name: str) -> Path | None:
    """A folder for what can be made again, in the user's home; None where there is no home."""
    try:
        return Path.home() / ".cache" / "jaxinit" / name
    except RuntimeError:
        return None


def _can_keep(folder: Path) -> bool:
    """Whether files can be written to a folder and read, for which it is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            return bool(os.listdir(folder)) and Path(file.name).is_file()
    except OSError:
        return False
