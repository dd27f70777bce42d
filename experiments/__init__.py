"""Questions, a module each, and commands over several; what they share is in packages."""

from experiments.cli import start as _start

_start.prepare()
