import numpy as np
import pytest

from experiments.records import published


def test_all_46_configurations_are_whole():
    assert len(set(published.names())) == 46
    for name in published.names():
        epochs = 25 if name == published.RANDOM else 15
        for metric in ("train_loss", "val_loss", "train_acc_top1", "train_acc_top5",
                       "val_acc_top1", "val_acc_top5"):  # fmt: skip
            low, mean, high = (
                np.array(published.curve(name, metric, s)) for s in ("min", "mean", "max")
            )
            assert low.shape == mean.shape == high.shape == (epochs,)
            assert (low <= mean + 1e-3).all()
            assert (mean <= high + 1e-3).all()
        assert len(published.curve(name, "learning_rate")) >= epochs


def test_numbers_that_the_paper_prints():
    table = {
        "random": (28.246, 30.924),
        "pretrained": (28.338, 30.268),
        "clustered": (31.1, 35.374),
    }
    for initializer, (fifth, last) in table.items():
        name = published.for_tiny_imagenet(initializer)
        assert name is not None
        curve = published.curve(name)
        assert (curve[4], curve[14]) == pytest.approx((fifth, last), abs=5e-4)
    assert published.curve(published.RANDOM)[0] == pytest.approx(50.3, abs=0.05)
    assert published.curve(published.PRETRAINED)[-1] == pytest.approx(60.1, abs=0.05)
    assert published.curve("gabor_model_num_layers_1")[-1] == pytest.approx(62.4, abs=0.05)


def test_every_configuration_is_the_match_of_one_setting():
    found = [published.RANDOM, published.PRETRAINED, published.CUSTOM_RANDOM]
    for distance in ("euclidean", "fourier_real"):
        found += [published.for_clusters(distance, k) for k in (1, 2, 3, 10, 30, 50)]
        found += [published.for_models(distance, m) for m in (2, 4, 6, 10, 20)]
        found += [published.for_layers(distance, n) for n in (1, 2, 6, 10, 17)]
    found += [published.for_gabor(n) for n in (1, 2, 6, 10, 17)]
    found += [published.for_alignment(n) for n in (1, 2, 4)]
    found += [published.for_tiny_imagenet(i) for i in ("random", "pretrained", "clustered")]
    assert len(found) == 46
    assert set(found) == set(published.names())


def test_names_of_matches():
    assert published.for_clusters("euclidean", 3) == "euclid_model_num_clusters_3"
    assert published.for_clusters("fourier-real", 10) == "fourier_model_num_clusters_10"
    assert published.for_layers("euclidean", 6) == "euclid_model_num_layers_6"


def test_other_settings_have_no_match():
    assert published.for_clusters("euclidean", 4) is None
    assert published.for_clusters("cosine", 3) is None
    # The authors' program takes the real part, whatever the report says.
    assert published.for_clusters("fourier", 3) is None
    assert published.for_clusters("euclidean", 3, models=6) is None
    assert published.for_clusters("euclidean", 3, layers=1) is None
    assert published.for_models("euclidean", 10, clusters=3) is None
    assert published.for_layers("euclidean", 6, models=6) is None
    assert published.for_gabor(3) is None
    assert published.for_alignment(4, models=10) is None
    assert published.for_tiny_imagenet("gabor") is None


def test_labels_say_that_runs_carried_over():
    assert published.label(published.RANDOM) == "authors (carried over)"
    assert published.label("tiny_imagenet_random_models") == "authors"


def test_a_curve_is_a_copy():
    published.curve(published.RANDOM).clear()
    assert len(published.curve(published.RANDOM)) == 25


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("rando",), "published no 'rando': take one of custom_alignment"),
        (("random_model", "accuracy"), "metric is 'accuracy': take one of train_loss"),
        (("random_model", "val_loss", "median"), "statistic is 'median': take mean, min or max"),
    ],
)
def test_unknown_names_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        published.curve(*arguments)
