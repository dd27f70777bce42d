"""Exact moments of bytes, against NumPy and fractions."""

from fractions import Fraction

import numpy as np
import pytest

from experiments.data import moments


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_moments_as_numpy(channels, monkeypatch):
    monkeypatch.setattr(moments, "_BLOCK", 1000)
    images = np.random.default_rng(0).integers(0, 200, (150, 5, 4, channels), np.uint8)
    assert len(list(moments.blocks(images))) > 2
    mean, std = moments.channel_moments(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-12)


def test_they_are_rounded_once():
    images = np.array([0, 1, 1], np.uint8).reshape(3, 1, 1, 1)
    (mean,), (std,) = moments.channel_moments(images)
    assert mean == float(Fraction(2, 3 * 255))
    assert std == float(Fraction(2, 9)) ** 0.5 / 255
    same = np.full((7, 3, 3, 1), 77, np.uint8)
    assert moments.channel_moments(same)[1] == 0
