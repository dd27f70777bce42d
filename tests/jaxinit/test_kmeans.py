from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans

from jaxinit import kmeans, point_blocks, seeding

KEY = jax.random.key(0)


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def inertia(points: np.ndarray, centers: np.ndarray, weights: np.ndarray | float = 1.0) -> float:
    distances = np.square(points[:, None].astype(float) - centers[None].astype(float)).sum(2)
    return float((weights * distances.min(1)).sum())


def sklearn_kmeans(k: int, **settings: Any) -> Any:
    return KMeans(k, **settings)  # whose annotations say that most settings are strings


# The first four share their shapes and their k: compiled once.
def blobs() -> tuple[np.ndarray, None, int]:
    return normal(4000, 9) + 4 * normal(10, 9, seed=1)[np.arange(4000) % 10] + 100, None, 10


def filters_like() -> tuple[np.ndarray, None, int]:
    # Slices of one layer: each a scaled copy of few shapes, plus noise.
    shapes, scale = normal(6, 9, seed=2), normal(4000, 1, seed=3)
    return scale * shapes[np.arange(4000) % 6] + 0.3 * normal(4000, 9, seed=4), None, 10


def without_clusters() -> tuple[np.ndarray, None, int]:
    return normal(4000, 9), None, 10


def weighted() -> tuple[np.ndarray, np.ndarray, int]:
    points = normal(4000, 9) * np.geomspace(0.1, 10, 9, dtype=np.float32)
    return points, np.random.default_rng(5).exponential(size=4000).astype(np.float32), 10


def stem_like() -> tuple[np.ndarray, None, int]:
    # 30 · 49 products: beyond what is unrolled.
    return normal(1500, 49) + 3 * normal(30, 49, seed=6)[np.arange(1500) % 30], None, 30


@pytest.mark.parametrize("data", [blobs, filters_like, without_clusters, weighted, stem_like])
def test_inertia_within_a_thousandth_of_scikit_learns_best(data):
    points, weights, k = data()
    theirs = (
        sklearn_kmeans(k, n_init=10, random_state=0).fit(points, sample_weight=weights).inertia_
    )
    # Where the data have no clusters, the best of ten seeds still varies by a thousandth or two.
    ours = kmeans.fit(KEY, points, k, weights=weights, restarts=30)
    assert ours.inertia <= 1.001 * theirs
    # What is said of the result is true of it, by arithmetic in float64.
    scale = 1.0 if weights is None else weights
    np.testing.assert_allclose(
        ours.inertia, inertia(points, np.asarray(ours.centers), scale), rtol=1e-4
    )
    sizes = np.bincount(np.asarray(ours.labels), weights=weights, minlength=k)
    np.testing.assert_allclose(ours.sizes, sizes, rtol=1e-5)


@pytest.mark.parametrize("weights", [None, np.arange(1, 5001, dtype=np.float32)])
def test_same_steps_as_scikit_learn_from_the_same_centres(weights):
    points = normal(5000, 9)
    theirs = sklearn_kmeans(10, init=points[:10], n_init=1, tol=0, max_iter=300)
    theirs.fit(points, sample_weight=weights)
    ours = kmeans.fit(
        KEY, points, 10, weights=weights, centers=points[:10], max_iterations=300, tolerance=0.0
    )
    np.testing.assert_allclose(ours.centers, theirs.cluster_centers_, atol=2e-3)
    assert np.mean(np.asarray(ours.labels) == theirs.labels_) > 0.999


def test_by_hand():
    # From 0 and 1: {0} and {1, 10, 12} with mean 23/3; then {0, 1} and {10, 12}; done.
    points = jnp.array([[0.0], [1.0], [10.0], [12.0]])
    found = kmeans.fit(KEY, points, 2, centers=points[:2], tolerance=0.0)
    np.testing.assert_allclose(found.centers, [[0.5], [11.0]], rtol=1e-6)
    np.testing.assert_array_equal(found.labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(found.sizes, [2, 2])
    np.testing.assert_allclose(found.inertia, 0.5 + 2.0, rtol=1e-6)
    assert found.iterations == 3  # the last finds that nothing moves
    one = kmeans.fit(KEY, points, 2, centers=points[:2], max_iterations=1)
    np.testing.assert_allclose(one.centers, [[0.0], [23 / 3]], rtol=1e-6)


def test_an_empty_cluster_moves_to_the_farthest_point():
    points = jnp.array([[0.0], [1.0], [2.0], [9.0]])
    start = jnp.array([[1.0], [50.0], [60.0]])
    one = kmeans.fit(KEY, points, 3, centers=start, max_iterations=1)
    # 9 is farthest from 1, then 0 and 2 alike; who is left belongs to the first.
    np.testing.assert_allclose(one.centers, [[1.5], [9.0], [0.0]], atol=1e-6)
    found = kmeans.fit(KEY, points, 3, centers=start)
    assert np.all(np.asarray(found.sizes) > 0)
    np.testing.assert_allclose(found.inertia, 0.5, rtol=1e-6)


def test_relocation_agrees_with_scikit_learn():
    points = normal(5000, 9)
    start = np.concatenate([points[:7], np.full((3, 9), 100, np.float32)])
    theirs = sklearn_kmeans(10, init=start, n_init=1, tol=0).fit(points)
    ours = kmeans.fit(KEY, points, 10, centers=start, tolerance=0.0)
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-4)


def test_fewer_different_points_than_clusters():
    points = jnp.repeat(jnp.array([[0.0, 1.0], [2.0, 3.0]]), 5, axis=0)
    found = kmeans.fit(KEY, points, 4)
    assert found.inertia == 0
    assert np.isfinite(found.centers).all()
    assert sorted(np.asarray(found.sizes).tolist()) == [0, 0, 5, 5]


def test_one_cluster_is_the_mean():
    points = normal(10, 2)
    one = kmeans.fit(KEY, points, 1)
    np.testing.assert_allclose(one.centers[0], points.mean(0), atol=1e-6)
    np.testing.assert_allclose(one.inertia, points.var(0).sum() * 10, rtol=1e-5)


def test_as_many_clusters_as_points_of_any_weight():
    points = jnp.concatenate([jnp.zeros((6, 2)), 100 + jnp.arange(8.0).reshape(4, 2)])
    weights = jnp.array([0.0] * 6 + [1.0] * 4)
    found = kmeans.fit(KEY, points, 4, weights=weights)
    np.testing.assert_allclose(found.inertia, 0, atol=1e-6)
    assert np.all(np.asarray(found.centers) > 99)
    np.testing.assert_array_equal(found.sizes, [1, 1, 1, 1])


def test_weights_are_repeated_points():
    points, counts = normal(300, 3), np.random.default_rng(1).integers(0, 4, 300)
    start = points[counts > 0][:5]
    by_weight = kmeans.fit(KEY, points, 5, weights=counts, centers=start)
    repeated = kmeans.fit(KEY, np.repeat(points, counts, axis=0), 5, centers=start)
    np.testing.assert_allclose(by_weight.centers, repeated.centers, atol=1e-5)
    np.testing.assert_array_equal(by_weight.sizes, repeated.sizes)
    np.testing.assert_allclose(by_weight.inertia, repeated.inertia, rtol=1e-5)


def test_blocks_do_not_show(monkeypatch):
    monkeypatch.setattr(point_blocks, "BLOCK", 32)
    points = normal(97, 3)  # no other test has this many, so nothing is compiled for other blocks
    ours = kmeans.fit(KEY, points, 8, centers=points[:8], tolerance=0.0)
    theirs = sklearn_kmeans(8, init=points[:8], n_init=1, tol=0).fit(points)
    np.testing.assert_allclose(ours.centers, theirs.cluster_centers_, atol=1e-5)
    np.testing.assert_array_equal(ours.labels, theirs.labels_)
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-5)
    labels, distances = kmeans.assign(points, ours.centers)
    np.testing.assert_array_equal(labels, theirs.labels_)
    np.testing.assert_allclose(distances, theirs.transform(points).min(1) ** 2, atol=1e-5)


def test_points_that_are_filled_up_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(point_blocks, "BLOCK", 64)
    points = normal(300, 3)
    filled = np.concatenate([points, np.full((1003, 3), 7, np.float32)])
    weights = (np.arange(1303) < 300).astype(np.float32)
    short = kmeans.fit(KEY, points, 5)
    long = kmeans.fit(KEY, filled, 5, weights=weights)
    np.testing.assert_allclose(long.centers, short.centers, atol=1e-5)
    np.testing.assert_array_equal(long.labels[:300], short.labels)
    np.testing.assert_array_equal(long.sizes, short.sizes)
    assert int(point_blocks.deal(jnp.asarray(filled), jnp.asarray(weights), jnp.ones(())).used) == 5
    # A point of weight 0 has a label like any other.
    nearest = np.square(np.asarray(long.centers) - 7).sum(1).argmin()
    assert np.all(np.asarray(long.labels[300:]) == nearest)


def in_a_row(n: int) -> np.ndarray:
    return np.arange(n) * 8 // n


def in_turns(n: int) -> np.ndarray:
    return np.arange(n) % 8


@pytest.mark.parametrize("place", [in_a_row, in_turns])
def test_the_sample_is_of_all_points(place, monkeypatch):
    """Sixteen blocks, of which the first four see seeding; eight places, far from each other."""
    monkeypatch.setattr(point_blocks, "BLOCK", 128)
    n = 2044 if place is in_turns else 2046  # shapes of their own: nothing is compiled yet
    points = 10 * normal(8, 3, seed=1)[place(n)] + 0.01 * normal(n, 3)
    found = kmeans.fit(KEY, points, 8, restarts=4)
    assert found.inertia < 1  # each of the 8 places has a centre
    np.testing.assert_array_equal(found.sizes, np.bincount(np.asarray(found.labels)))
    for own in range(8):
        assert len(np.unique(np.asarray(found.labels)[place(n) == own])) == 1


def test_steps_on_a_sample_first_end_as_well(monkeypatch):
    monkeypatch.setattr(point_blocks, "BLOCK", 512)
    points = normal(16_000, 9)
    ours = kmeans.fit(KEY, points, 10, restarts=10)
    theirs = sklearn_kmeans(10, n_init=10, random_state=0).fit(points)
    assert ours.inertia <= 1.001 * theirs.inertia_
    again = kmeans.fit(KEY, points, 10, centers=ours.centers)
    assert again.inertia >= 0.9999 * ours.inertia  # it stands still on all points, too
    assert ours.iterations >= 1


@pytest.mark.parametrize("k", [5, 70])
def test_assign_agrees_with_numpy_far_from_the_origin(k):
    points, centers = normal(1000, 9) + 1000, normal(k, 9, seed=1) + 1000
    labels, distances = kmeans.assign(points, centers)
    exact = np.square(points[:, None].astype(float) - centers[None].astype(float)).sum(2)
    np.testing.assert_array_equal(labels, exact.argmin(1))
    np.testing.assert_allclose(distances, exact.min(1), rtol=1e-3)


def apart(scale: float = 1.0, far: float = 1e5) -> np.ndarray:
    """Four clusters of 200 points at 0, 1, 2 and 3, and one point far from them."""
    near = np.arange(800) % 4 + 0.02 * normal(800, 1)[:, 0]
    return np.append(near, far).astype(np.float32)[:, None] * np.float32(scale)


def test_labels_beside_a_far_centre():
    labels, squares = kmeans.assign(jnp.array([[0.1], [0.9]]), jnp.array([[0.0], [1.0], [1e4]]))
    np.testing.assert_array_equal(labels, [0, 1])
    np.testing.assert_allclose(squares, 0.01, rtol=1e-5)


@pytest.mark.parametrize("far", [1e5, 1e9])
def test_clusters_beside_a_far_point(far):
    points = apart(far=far)
    found = kmeans.fit(KEY, points, 5, restarts=5)
    exact = np.square(points.astype(float) - np.asarray(found.centers)[:, 0].astype(float))
    np.testing.assert_array_equal(found.labels, exact.argmin(1))
    np.testing.assert_array_equal(np.sort(found.sizes), [1, 200, 200, 200, 200])
    means = np.array([points[i:800:4].mean(dtype=float) for i in range(4)] + [far])
    np.testing.assert_allclose(np.sort(np.asarray(found.centers)[:, 0]), means, rtol=1e-6)
    within = sum(points[i:800:4].var(dtype=float) * 200 for i in range(4))
    np.testing.assert_allclose(found.inertia, within, rtol=1e-4)


@pytest.mark.parametrize("scale", [2.0**-73, 2.0**43])  # 1e-22 and 9e12, times 1e5
def test_powers_of_two_change_no_rounding(scale):
    plain = kmeans.fit(KEY, apart(), 5, restarts=5)
    scaled = kmeans.fit(KEY, apart(scale), 5, restarts=5)
    np.testing.assert_array_equal(scaled.labels, plain.labels)
    np.testing.assert_array_equal(scaled.centers, plain.centers * np.float32(scale))
    np.testing.assert_array_equal(scaled.sizes, plain.sizes)


@pytest.mark.parametrize("scale", [1e-22, 1e18])
def test_tiny_and_huge_data_are_clustered_like_any(scale):
    points = normal(400, 3) * np.float32(scale)
    start = points[:10]
    found = kmeans.fit(KEY, points, 10, centers=start, tolerance=0.0)
    theirs = sklearn_kmeans(10, init=start / scale, n_init=1, tol=0, max_iter=300)
    theirs.fit((points / scale).astype(float))
    np.testing.assert_array_equal(found.labels, theirs.labels_)
    np.testing.assert_allclose(found.centers, theirs.cluster_centers_ * scale, rtol=1e-4)
    labels, _ = kmeans.assign(points, found.centers)
    np.testing.assert_array_equal(labels, theirs.labels_)


def test_a_point_of_weight_0_does_not_matter_wherever_it_is():
    points = normal(401, 3)
    weights = np.append(np.ones(400), 0).astype(np.float32)
    found = []
    for place in (0, 1e20, -3e38):
        points[400] = place
        found.append(kmeans.fit(KEY, points, 5, weights=weights))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(np.ravel(a)[:400], np.ravel(b)[:400])
    assert np.isfinite(found[1].inertia)


def test_sizes_are_exact_to_a_millionth(monkeypatch):
    monkeypatch.setattr(point_blocks, "BLOCK", 2**14)
    n = 2**17 + 1001
    points = (np.arange(n) % 4)[:, None].astype(np.float32)
    start = points[:4]
    random = np.random.default_rng(0)
    for weights in (np.full(n, 0.1), random.exponential(size=n) ** 4, np.full(n, 2.0**24 / n)):
        single = weights.astype(np.float32)
        found = kmeans.fit(KEY, points, 4, weights=single, centers=start)
        exact = np.bincount(np.arange(n) % 4, weights=single.astype(float))
        np.testing.assert_allclose(found.sizes, exact, rtol=1e-6)


def test_inertia_is_that_of_the_returned_labels(monkeypatch):
    monkeypatch.setattr(point_blocks, "BLOCK", 64)
    points, weights = normal(1001, 4) + 50, np.random.default_rng(0).exponential(size=1001)
    cases: tuple[dict[str, Any], ...] = ({"max_iterations": 1}, {"restarts": 3})
    for settings in cases:
        found = kmeans.fit(KEY, points, 7, weights=weights, **settings)
        own = np.asarray(found.centers).astype(float)[np.asarray(found.labels)]
        squares = np.square(points.astype(float) - own).sum(1)
        np.testing.assert_allclose(found.inertia, (weights * squares).sum(), rtol=1e-6)
        sizes = np.bincount(np.asarray(found.labels), weights=weights, minlength=7)
        np.testing.assert_allclose(found.sizes, sizes, rtol=1e-6)


@pytest.mark.parametrize("platform", ["cpu", "default"])
def test_scatter_and_product_sum_alike(platform, monkeypatch):
    def choose(*arguments: Any, **branches: Any) -> Any:
        return branches[platform](*arguments)

    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    points, weights = normal(100, 3), np.arange(100, dtype=np.float32)
    labels = jax.random.randint(KEY, (100,), 0, 40, jnp.int32)
    sums = kmeans._totals(jnp.asarray(points.T), jnp.asarray(weights), labels, 40)
    members = np.eye(40)[np.asarray(labels)].T * weights
    np.testing.assert_allclose(sums[:, :-1], members @ points, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(sums[:, -1], members.sum(1), rtol=1e-6)


def test_seeds_are_points_drawn_by_squared_distance():
    # The first seed is one of three points; the second is the best of two drawn with probability
    # ∝ distance²: from 0, 1 (1/10) or 3 (9/10). 3 is kept unless both are 1, as 3 is the better:
    # it leaves 1 and 1 leaves 4.
    points = jnp.array([[0.0], [1.0], [3.0]])
    blocks = point_blocks.deal(
        points, jnp.array([1.0, 1e-9, 1e-9]), jnp.ones(())
    )  # 0 is always the first
    draws = seeding.draws(KEY, 2, 4000, points.dtype)
    seeds = jax.vmap(lambda u: seeding.seed(u, blocks))(draws)
    assert np.all(np.asarray(seeds[:, 0]) == 0)
    ones = float((seeds[:, 1, 0] == 1).mean())
    assert set(np.unique(seeds[:, 1])) == {1.0, 3.0}
    assert abs(ones - 0.01) < 5 * np.sqrt(0.01 * 0.99 / 4000)


def test_jit_and_vmap_change_nothing():
    points, keys = jnp.asarray(normal(500, 3)), jax.random.split(KEY, 2)

    def fit(key: jax.Array, points: jax.Array) -> kmeans.KMeansResult:
        return kmeans.fit(key, points, 4)

    compiled = jax.jit(fit)
    mapped = jax.vmap(fit, in_axes=(0, None))(keys, points)
    for i, key in enumerate(keys):
        eager, jitted = fit(key, points), compiled(key, points)
        for a, b, c in zip(eager, jitted, mapped, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(a, c[i], rtol=1e-5, atol=1e-5)


def test_known_points_are_checked_under_jit_too():
    points = jnp.array([[0.0], [jnp.nan], [1.0]])
    with pytest.raises(ValueError, match="points hold NaN or ∞"):
        jax.jit(lambda key: kmeans.fit(key, points, 2))(KEY)


def test_same_key_same_result_other_key_another():
    points = normal(500, 9)
    first, again = (kmeans.fit(jax.random.key(3), points, 10) for _ in range(2))
    np.testing.assert_array_equal(first.centers, again.centers)
    assert not np.array_equal(first.centers, kmeans.fit(KEY, points, 10).centers)


def test_more_restarts_begin_with_the_fewer_and_keep_the_best():
    points = normal(500, 9)
    one, eight = (kmeans.fit(KEY, points, 10, restarts=n).inertia for n in (1, 8))
    others = [kmeans.fit(jax.random.key(i), points, 10).inertia for i in range(20)]
    assert eight <= one
    assert eight < np.median(others)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"k": 0}, "k=0 clusters cannot be made"),
        ({"k": 11}, "k=11 clusters need at least 11 points, but there are only 10"),
        ({"restarts": 0}, "restarts=0"),
        ({"points": normal(10, 2) * np.float32("nan")}, "points hold NaN or ∞"),
        ({"weights": np.ones(9)}, r"weights of shape \(9,\)"),
        ({"weights": -np.ones(10)}, "not negative"),
        ({"weights": np.full(10, np.inf)}, "weights must be finite"),
        ({"weights": np.eye(10)[0]}, "need 3 points of positive weight, not 1"),
        ({"centers": normal(2, 2)}, r"centers of shape \(2, 2\) should be \(3, 2\)"),
    ],
)
def test_bad_input(change, sentence):
    arguments: dict[str, Any] = {"points": normal(10, 2), "k": 3, **change}
    with pytest.raises(ValueError, match=sentence):
        kmeans.fit(KEY, **arguments)


def test_what_is_compiled_beforehand_is_not_compiled_again(caplog):
    kmeans.compile_for([(41, 2), (43, 2), (41, 2)], 3, restarts=2)
    with jax.log_compiles():
        kmeans.fit(KEY, normal(41, 2), 3, restarts=2)
        kmeans.fit(KEY, normal(43, 2), 3, restarts=2)
        assert "compilation of jit(_fit)" not in caplog.text
        kmeans.fit(KEY, normal(43, 2), 3, restarts=1)
    assert "compilation of jit(_fit)" in caplog.text


def test_bytes_are_clustered_as_the_numbers_that_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 2), np.uint8)
    with jax.numpy_dtype_promotion("standard"):
        found = kmeans.fit(KEY, pixels, 3)
        labels, _ = kmeans.assign(pixels, found.centers)
    assert jnp.array_equal(found.labels, labels)
    assert jnp.array_equal(labels, kmeans.fit(KEY, pixels.astype(np.float32), 3).labels)
