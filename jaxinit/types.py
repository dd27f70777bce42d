"""The former name of `jaxinit.signatures`."""

from jaxinit.signatures import *  # noqa: F403
