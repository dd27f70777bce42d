"""What identifies the program: what its modules compute, and not how they are written."""

import os
import platform
import re
import shutil
import subprocess

import pytest

from experiments.records import surroundings

TEXT = '''"""A module."""

RATE = 0.1  # a comment


def step(x: float, by: float = RATE) -> float:
    """A docstring."""
    return x - by if x else f"{x:.2f}"
'''


def source(folder, monkeypatch, text, name="a.py"):
    (folder / "experiments").mkdir(exist_ok=True)
    for file in (folder / "experiments").iterdir():
        file.unlink()
    (folder / "experiments" / name).write_text(text)
    monkeypatch.setattr(surroundings, "_ROOT", folder)
    return surroundings.source.__wrapped__()


@pytest.mark.parametrize(
    ("former", "new"),
    [
        ("A module.", "Another text."),
        ('    """A docstring."""\n', ""),
        ("# a comment", "# another"),
        ("x - by if", "(x -\n            by) if"),
        ('"{x:.2f}"', "'{x:.2f}'"),
    ],
)
def test_what_computes_the_same_is_the_same_program(tmp_path, monkeypatch, former, new):
    changed = TEXT.replace(former, new)
    assert changed != TEXT
    assert source(tmp_path, monkeypatch, changed) == source(tmp_path, monkeypatch, TEXT)


@pytest.mark.parametrize(
    ("former", "new"),
    [("0.1", "0.10001"), ("RATE", "PACE"), ("x - by", "by - x"), (".2f", ".3f"), ("if x", "if by")],
)
def test_what_computes_something_else_is_another_program(tmp_path, monkeypatch, former, new):
    changed = TEXT.replace(former, new)
    assert changed != TEXT
    assert source(tmp_path, monkeypatch, changed) != source(tmp_path, monkeypatch, TEXT)


def test_so_is_what_is_called_otherwise_and_no_version_of_python_finds_another(
    tmp_path, monkeypatch
):
    assert source(tmp_path, monkeypatch, TEXT, "b.py") != source(tmp_path, monkeypatch, TEXT)
    assert source(tmp_path, monkeypatch, TEXT) == "a98d006066f0"


@pytest.mark.skipif(
    shutil.which("lscpu") is None or platform.machine() != "x86_64", reason="no lscpu of x86"
)
def test_the_processor_is_what_lscpu_says():
    env = {**os.environ, "LC_ALL": "C"}
    said = subprocess.run(["lscpu"], capture_output=True, text=True, check=True, env=env).stdout
    models = re.findall(r"^Model name:\s*(.*\S)\s*$", said, re.MULTILINE)
    assert surroundings.processor() == (models[0] if models else None)
