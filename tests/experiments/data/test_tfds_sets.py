"""Any data set of TFDS: prepared here without TensorFlow, by builders that yield encoded images."""

import io
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from PIL import Image
from tensorflow_datasets.core import registered

from experiments.cli.errors import UserError
from experiments.data import held_out, sets, stored, tfds_sets

tfds = stored.quiet_tfds()
RNG = np.random.default_rng(0)


def encoded(pixels, ending="png"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, ending)
    return buffer.getvalue()


def prepare(folder, parts, shape=(6, 6, 3), classes=("a", "b", "c"), extra=None, name="flowers"):
    """Prepares a data set of (image, label) rows as array_record."""
    features = {
        "picture": tfds.features.Image(shape=shape),
        "kind": tfds.features.ClassLabel(names=list(classes)),
        **(extra or {}),
    }

    with registered.skip_registration():

        class Flowers(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.2.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(rows) for split, rows in parts.items()}

            def _generate_examples(self, rows):
                for number, (image, label) in enumerate(rows):
                    others = dict.fromkeys(extra or {}, 0)
                    yield number, {"picture": encoded(image), "kind": label, **others}

    Flowers.name = name
    Flowers(data_dir=str(folder), file_format="array_record").download_and_prepare()


def rows(per_class, shape=(6, 6, 3), labels=(0, 1, 2)):
    return [
        (RNG.integers(0, 256, shape, np.uint8), label) for _ in range(per_class) for label in labels
    ]


def read(folder, name="flowers", split_seed=0, side=None, **options):
    return tfds_sets.read(name, folder, split_seed=split_seed, side=side, **options)


def check_part(part, expected):
    """Compares with what was prepared, whose order TFDS shuffles."""
    found = part.images[np.arange(len(part.labels))]
    got = sorted((image.tobytes(), label) for image, label in zip(found, part.labels, strict=True))
    assert got == sorted((np.asarray(image).tobytes(), label) for image, label in expected)


def test_train_and_validation_are_read_without_tensorflow(tmp_path):
    train, test = rows(3), rows(1)
    prepare(tmp_path, {"train": train, "validation": test})
    found = read(tmp_path)
    check_part(found.train, train)
    check_part(found.test, test)
    assert found.classes == ("a", "b", "c")
    assert found.notes == ("the test images are those of validation",)
    assert "tensorflow" not in sys.modules
    again = pickle.loads(pickle.dumps(found.test.images))
    np.testing.assert_array_equal(again[np.array([1])], found.test.images[np.array([1])])


def test_the_order_and_the_pixels_are_those_that_tfds_reads(tmp_path):
    prepare(tmp_path, {"train": rows(3), "test": rows(1)})
    builder = tfds.builder_from_directory(str(tmp_path / "flowers" / "1.2.0"))
    examples = list(builder.as_data_source("train"))
    found = read(tmp_path).train
    assert found.labels.tolist() == [e["kind"] for e in examples]
    np.testing.assert_array_equal(found.images[np.arange(9)], [e["picture"] for e in examples])


def test_a_part_is_held_out_where_there_is_one_split(tmp_path):
    whole = rows(5, (6, 6, 1))
    whole = [(image[..., 0], label) for image, label in whole]
    prepare(tmp_path, {"train": whole}, shape=(6, 6, 1))
    found = read(tmp_path, split_seed=2)
    assert found.train.images.shape == (12, 6, 6, 1)
    assert np.bincount(found.test.labels).tolist() == [1, 1, 1]
    assert found.recorded == held_out.described(2)


def test_unlabelled_test_images_and_classes_without_images_are_passed_over(tmp_path):
    unlabelled = [(image, -1) for image, _ in rows(1)]
    parts = {"train": rows(2, labels=(0, 2)), "test": unlabelled}
    prepare(tmp_path, {**parts, "validation": rows(1, labels=(2, 0))})
    found = read(tmp_path)
    assert found.classes == ("a", "c")
    assert set(found.train.labels.tolist()) == {0, 1}
    assert found.notes == ("the test images are those of validation",)


def test_images_of_any_size_and_grey_ones_in_a_set_with_colour(tmp_path):
    mixed = [*rows(2), *rows(1, (9, 7, 3))]
    mixed[0] = (mixed[0][0][..., 0], 0)
    prepare(tmp_path, {"train": mixed}, shape=(None, None, 3))
    with pytest.raises(UserError, match="the images of flowers differ in size"):
        read(tmp_path)
    found = read(tmp_path, side=4)
    assert found.train.images.shape[1:] == (4, 4, 3)
    assert found.notes[0].startswith("1 grey image (train ")


def test_the_newest_version_or_the_one_that_is_named(tmp_path):
    for version in ("1.9.0", "1.10.0", "other"):
        (tmp_path / "set" / version).mkdir(parents=True)
        (tmp_path / "set" / version / "dataset_info.json").touch()
    assert tfds_sets.version("set", tmp_path) == tmp_path / "set" / "1.10.0"
    assert tfds_sets.version("set:1.9.0", tmp_path) == tmp_path / "set" / "1.9.0"
    assert tfds_sets.version("set:2.0.0", tmp_path) is None
    for config in ("one", "two"):
        (tmp_path / "more" / config / "1.0.0").mkdir(parents=True)
        (tmp_path / "more" / config / "1.0.0" / "dataset_info.json").touch()
    assert tfds_sets.version("more/two", tmp_path) == tmp_path / "more" / "two" / "1.0.0"
    with pytest.raises(UserError, match=r"more in .* has several configurations: .*/one"):
        tfds_sets.version("more", tmp_path)


def test_what_is_not_prepared_or_not_known(tmp_path):
    with pytest.raises(UserError, match=r"there is no mnist in .*: prepare it with `python -m exp"):
        read(tmp_path, "mnist")
    with pytest.raises(UserError, match="TFDS knows no data set 'nonsense'"):
        read(tmp_path, "nonsense")


def test_what_tensorflow_alone_reads(tmp_path):
    prepare(tmp_path, {"train": rows(2)})
    place = tmp_path / "flowers" / "1.2.0"
    for file in place.glob("*.array_record*"):
        file.rename(str(file).replace("array_record", "tfrecord"))
    command = f"tfds convert_format --dataset_version_dir={place} --out_file_format=array_record"
    with pytest.raises(UserError, match=f"only TensorFlow reads: .*`{command}`"):
        read(tmp_path)


def test_what_is_damaged(tmp_path):
    prepare(tmp_path, {"train": rows(2)})
    (file,) = (tmp_path / "flowers" / "1.2.0").glob("*.array_record*")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"the data set in .*1\.2\.0 is damaged \(.*\): delete"):
        read(tmp_path)


def test_what_has_no_image_with_a_class(tmp_path):
    prepare(tmp_path, {"train": rows(1)}, extra={"other": tfds.features.ClassLabel(num_classes=2)})
    with pytest.raises(UserError, match=r"features kind, other, picture, of which not one is"):
        read(tmp_path)


def test_images_that_are_no_bytes(tmp_path):
    depth = tfds.features.Image(shape=(4, 4, 1), dtype=np.float32)
    features = {"image": depth, "label": tfds.features.ClassLabel(num_classes=2)}
    info = SimpleNamespace(features=features, supervised_keys=None)
    with pytest.raises(UserError, match="the images of depth are float32: choose"):
        tfds_sets._features("depth", info)


def test_preparing_needs_a_network_or_tensorflow(tmp_path, monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "head", refuse)
    with pytest.raises(SystemExit):
        sets.main(["--dataset", "mnist", "--data-dir", str(tmp_path)])
    said = capsys.readouterr().err
    assert (
        "error: mnist could not be prepared here (no route): where TensorFlow is installed" in said
    )
    assert "`tfds build mnist --file_format=array_record --data_dir=FOLDER`" in said


def test_features_are_read_without_importing_what_they_name(tmp_path, monkeypatch):
    prepare(tmp_path, {"train": rows(5), "test": rows(2)})
    (file,) = tmp_path.rglob("features.json")
    text = file.read_text()
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = "tensorflow_datasets.core.features.image_feature.Image"
    assert own in text
    for key, other in (
        ("pythonClassName", "stranger.Image"),
        ("python_class_name", "stranger.Image"),
        ("pythonClassName", "tensorflow_datasetsx.Image"),
    ):
        forged = text.replace(f'"pythonClassName": "{own}"', f'"{key}": "{other}"')
        assert forged != text
        file.write_text(forged)
        with pytest.raises(UserError, match=rf"features\.json names {other}, which is no class"):
            read(tmp_path)
    file.write_text("[" * 100_000)
    with pytest.raises(UserError, match="is damaged"):
        read(tmp_path)
    file.write_text(text)
    read(tmp_path)
