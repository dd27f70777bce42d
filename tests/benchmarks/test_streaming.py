"""The benchmark of streaming, in small: its rows are what they say, and so is its table."""

import numpy as np
from PIL import Image

from benchmarks import streaming
from tests.small import SmallNetwork


def test_streaming_in_small(monkeypatch):
    monkeypatch.setattr(streaming, "_SECONDS", 0.01)
    monkeypatch.setattr(streaming, "_FILES", 2)
    said = streaming.measure(2, 4, 0, 16, 1, SmallNetwork()).split("\n")
    kinds = [line.split(" | ")[0] for line in said if line.startswith("| ")]
    assert kinds == [
        "| what",
        "| reading alone, made up",
        "| reading alone, JPEG",
        "| the steps alone, resident",
        "| both, made up",
        "| both, JPEG",
    ]
    assert all(float(line.split(" | ")[1].strip("| ")) > 0 for line in said[2:7])
    assert said[-2].endswith("all images would take 73 MiB")
    assert said[-1].startswith("ratio of streamed to resident, images/s: made up ")


def test_made_up_images_depend_on_their_number_alone(tmp_path):
    images = streaming.MadeUp(100, 4)
    np.testing.assert_array_equal(images[np.array([7, 3])][1], images[np.array([3])][0])
    assert not np.array_equal(*images[np.array([7, 3])])
    files = streaming.Jpegs(100, 16, tmp_path, 2)
    with Image.open(tmp_path / "1.jpeg") as image:
        np.testing.assert_array_equal(files[np.array([0, 3])][1], np.asarray(image))
