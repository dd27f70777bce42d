"""Slices are functions of SciPy's discrete cosine transform, each as often as the others."""

import jax
import numpy as np
import pytest

from jaxinit import kernels
from jaxinit.kernel_init import cosine_basis


def spectrum(taps, size):
    from scipy import fft

    return np.ravel(np.asarray(fft.dctn(taps.reshape(size), type=2, norm="ortho")))


@pytest.mark.parametrize("size", [(7, 7), (3, 3), (4, 6), (1, 1), (5,), (3, 2, 4)])
def test_the_basis_is_scipys(size):
    basis = cosine_basis.basis(size)
    count = int(np.prod(size))
    spectra = np.stack([spectrum(row, size) for row in basis])
    np.testing.assert_allclose(spectra, np.eye(count), atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 3, 3, 8), (2, 5, 1, 4), (4, 3, 3), (2, 2, 2, 3, 5)])
def test_each_slice_has_one_frequency_and_all_are_as_frequent(shape):
    kernel = cosine_basis.dct(1.5)(jax.random.key(0), shape)
    size, taps = shape[:-2], int(np.prod(shape[:-2]))
    slices = np.asarray(kernels.to_slices(kernel), np.float64)
    spectra = np.stack([spectrum(own, size) for own in slices])
    largest = 1.5 * np.sqrt(2 / shape[-1])  # the norm of every slice
    hit = np.abs(np.abs(spectra) - largest) < 1e-5
    assert (hit.sum(axis=1) == 1).all()
    np.testing.assert_allclose(spectra[~hit], 0, atol=1e-5)
    counts = hit.sum(axis=0)
    assert counts.sum() == len(slices)
    assert set(counts) <= {len(slices) // taps, -(-len(slices) // taps)}


def test_frequencies_and_signs_are_random():
    drawn = [
        np.asarray(kernels.to_slices(cosine_basis.dct()(jax.random.key(seed), (3, 3, 2, 2))))
        for seed in range(40)
    ]
    spectra = np.concatenate([own @ cosine_basis.basis((3, 3)).T for own in drawn])
    used = np.abs(spectra) > 0.5
    assert used.any(axis=0).all()  # not always the same four of nine
    first = np.argmax(np.abs(spectra[::4]), axis=1)
    assert len(np.unique(first)) > 5  # nor always in one order
    signs = np.sign(spectra[used])
    assert 50 < (signs > 0).sum() < 110
