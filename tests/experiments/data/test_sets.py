import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from experiments.cli.errors import UserError
from experiments.data import sets, stored, tasks, tfds_builders
from experiments.data.kinds import KINDS
from tests.experiments import archives, small

tfds = stored.quiet_tfds()

CIFAR100 = KINDS["cifar100"]


@pytest.fixture(scope="session")
def cifar100_folder(tmp_path_factory):
    """CIFAR-100 in small, prepared once: 3 training and 2 test images a class, of noise."""
    folder = tmp_path_factory.mktemp("data")
    rows = archives.cifar100_rows(3, 0), archives.cifar100_rows(2, 1)
    archive = archives.write_tar(folder / "a.tar.gz", archives.cifar100_files(*rows))
    tfds_builders.prepare("cifar100", folder, archive)
    return folder, *rows


@pytest.fixture
def small_kinds(monkeypatch):
    """Has the data sets in small accepted."""
    kinds = KINDS
    cifar = CIFAR100._replace(train_per_class=3, test_per_class=2, tolerance=0.1)
    monkeypatch.setitem(kinds, "cifar100", cifar)
    for name in ("tiny_imagenet", "tiny_imagenet32"):
        loose = kinds[name]._replace(test_per_class=1, tolerance=1.0)
        monkeypatch.setitem(kinds, name, loose)


@pytest.fixture
def folder(cifar100_folder, tmp_path, small_kinds):
    """A copy that a test may damage."""
    shutil.copytree(cifar100_folder[0] / "cifar100", tmp_path / "cifar100")
    return tmp_path


def shard(folder, split):
    (found,) = (folder / "cifar100" / "3.0.2").glob(f"cifar100-{split}.array_record*")
    return found


# Tasks


def tiny_dataset():
    dataset = small.make_dataset(train_per_class=1, test_per_class=1)
    return dataset._replace(
        superclass=np.array([0, 1, 0, 2], np.int32),
        train_labels=np.array([3, 2, 1, 0, 2, 3], np.int32),
        test_labels=np.array([0, 3, 2], np.int32),
    )


def test_pair_task_by_hand():
    # Superclasses 0 and 2 are classes 0, 2 and 3, which become 0, 1 and 2.
    task = tasks.pair_task(tiny_dataset(), (2, 0))
    assert task.name == "pair-2-0"
    assert task.classes == 3
    assert task.train_index.tolist() == [0, 1, 3, 4, 5]
    assert task.train_labels.tolist() == [2, 1, 0, 1, 2]
    assert task.test_index.tolist() == [0, 1, 2]
    assert task.test_labels.tolist() == [0, 2, 1]
    assert {a.dtype for a in task if isinstance(a, np.ndarray)} == {np.dtype(np.int32)}


def test_a_sample_of_a_task_is_even_over_its_classes_and_normalised():
    dataset = small.make_dataset(train_per_class=9)
    task = tasks.pair_task(dataset, (3, 1))
    few = tasks.sample(dataset, task, 20, normalize=True)
    own = dataset.train_images[task.train_index].astype(np.float64)
    normal = (own / 255 - 0.5) / 0.25
    rows = [
        np.flatnonzero(np.isclose(normal, image, atol=1e-5).all((1, 2, 3))).item() for image in few
    ]
    assert sorted(rows) == rows
    assert (np.bincount(task.train_labels[rows]) == 2).all()
    every = tasks.sample(dataset, task, 1000, normalize=False)
    np.testing.assert_allclose(every, own / 255, atol=1e-6)


def test_whole_task_is_everything():
    dataset = tiny_dataset()
    task = tasks.whole_task(dataset)
    assert (task.name, task.classes) == ("all", 4)
    assert task.train_index.tolist() == list(range(6))
    assert task.train_labels.tolist() == dataset.train_labels.tolist()


def test_superclasses_of_a_pair_are_complete():
    dataset = small.make_dataset()
    task = tasks.pair_task(dataset, (1, 3))
    fine = dataset.train_labels[task.train_index]
    assert sorted(set(dataset.superclass[fine])) == [1, 3]
    assert np.bincount(task.train_labels).tolist() == [13] * 10
    assert sets.superclass_count(dataset) == 4


@pytest.mark.parametrize("pair", [(0, 0), (0, 4), (-1, 2)])
def test_what_is_no_pair(pair):
    with pytest.raises(UserError, match="give two different superclasses of 0 to 3"):
        tasks.pair_task(small.make_dataset(), pair)


def test_first_of_each_class_by_hand():
    labels = np.array([1, 0, 1, 1, 0, 0], np.int32)
    assert sets.first_of_each_class(labels, 2).tolist() == [0, 1, 2, 4]
    with pytest.raises(UserError, match="4 images a class are asked for, but there are 3"):
        sets.first_of_each_class(labels, 4)


# Numbers


def test_halve_by_hand_and_as_pillow():
    one = np.array([[0, 1], [1, 0]], np.uint8).reshape(1, 2, 2, 1)  # a mean of ½ is rounded up
    assert stored.halve(one).tolist() == [[[[1]]]]
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).reduce(2))
    np.testing.assert_array_equal(stored.halve(image[None])[0], expected)


def test_channel_moments_as_numpy():
    images = np.random.default_rng(0).integers(0, 200, (1500, 4, 4, 3), np.uint8)
    mean, std = stored.channel_moments(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-12)


# Checks


def test_ids_count_from_zero():
    stored.check_ids(["train_00000", "train_00001"], "train")
    with pytest.raises(ValueError, match="image 1 of train is 'train_00002' instead of"):
        stored.check_ids(["train_00000", "train_00002"], "train")


@pytest.mark.parametrize(
    ("labels", "per_class", "match"),
    [
        ([0, 1, 1], 1, "1 to 2 training images of a class, but there should be 1 of each"),
        ([0, 1, 1], None, "as many of each"),
        ([0, 0], None, "as many of each"),
        ([1, 1], None, "0 to 2"),
        ([0, 1, 2], 1, "a label is 2, but there are 2 classes"),
    ],
)
def test_counts_that_are_wrong(labels, per_class, match):
    with pytest.raises(ValueError, match=match):
        stored.check_counts(np.array(labels, np.int32), 2, per_class, "training")


def test_superclass_of_fine_labels():
    fine = np.arange(10, dtype=np.int32)[::-1].copy()
    coarse = (fine % 2).astype(np.int32)
    assert stored.superclass_of(fine, coarse, 10).tolist() == [0, 1] * 5
    again = np.append(fine, np.int32(3))
    with pytest.raises(ValueError, match="images of class 3 have different coarse labels"):
        stored.superclass_of(again, np.append(coarse, np.int32(0)), 10)
    with pytest.raises(ValueError, match="superclass 0 has not five classes"):
        stored.superclass_of(fine, (fine > 5).astype(np.int32), 10)


def test_normalization_of_other_images():
    images = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), np.uint8)
    stored.check_normalization(images, CIFAR100._replace(tolerance=0.1))
    with pytest.raises(ValueError, match="the channels have mean"):
        stored.check_normalization(images, CIFAR100)


# Reading


def test_reads_what_tfds_reads():
    with tfds.testing.mock_data(num_examples=7):
        builder = tfds.builder("cifar100", file_format="array_record")
        split = stored.read_split(builder, "train")
        examples = sorted(builder.as_data_source("train"), key=lambda e: e["id"])
    assert split.images.shape == (7, 32, 32, 3)
    assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(split.images, [e["image"] for e in examples])
    assert split.labels.tolist() == [e["label"] for e in examples]
    assert split.coarse.tolist() == [e["coarse_label"] for e in examples]
    with pytest.raises(ValueError, match="image 0 of train is"):
        stored.check_splits(CIFAR100, split, split)  # the mock's labels and ids are random


def test_loads_in_the_official_order(cifar100_folder, folder):
    _, train, test = cifar100_folder
    dataset = sets.load("cifar100", data_dir=folder)
    np.testing.assert_array_equal(dataset.train_images, train.images)
    np.testing.assert_array_equal(dataset.train_labels, train.fine)
    np.testing.assert_array_equal(dataset.test_images, test.images)
    np.testing.assert_array_equal(dataset.test_labels, test.fine)
    np.testing.assert_array_equal(dataset.superclass, np.arange(100) // 5)
    assert (dataset.name, dataset.title) == ("cifar100", "CIFAR-100")
    assert dataset.mean == (0.5071, 0.4867, 0.4408)


def test_limits_keep_the_first_of_each_class(folder):
    whole = sets.load("cifar100", data_dir=folder)
    less = sets.load("cifar100", data_dir=folder, train_images_per_class=1)
    firsts = np.sort([np.flatnonzero(whole.train_labels == label)[0] for label in range(100)])
    np.testing.assert_array_equal(less.train_images, whole.train_images[firsts])
    assert len(less.test_labels) == 200
    assert less.fingerprint != whole.fingerprint
    with pytest.raises(UserError, match="but there are 3"):
        sets.load("cifar100", data_dir=folder, train_images_per_class=4)
    with pytest.raises(UserError, match="ask for 1 or more"):
        sets.load("cifar100", data_dir=folder, test_images_per_class=0)


def test_never_asks_the_network(folder, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(sets.load("cifar100", data_dir=folder).train_labels) == 300


def test_folder_is_tfdss_own_setting(folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    assert len(sets.load("cifar100").train_labels) == 300
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert sets.data_folder(None) == Path("~/tensorflow_datasets").expanduser()


def test_unknown_and_missing_data_sets(tmp_path):
    with pytest.raises(UserError, match=f"choose one of {', '.join(sets.NAMES)}, a name"):
        sets.load("nothing")
    for name in ("tiny_imagenet", "tiny_imagenet32"):
        command = f"python -m experiments.data --dataset tiny_imagenet --data-dir {tmp_path}`"
        with pytest.raises(UserError, match=command):
            sets.load(name, data_dir=tmp_path)


def test_data_in_another_format(tmp_path):
    (tmp_path / "cifar100" / "3.0.2").mkdir(parents=True)
    (tmp_path / "cifar100" / "3.0.2" / "cifar100-train.tfrecord-00000-of-00001").touch()
    with pytest.raises(UserError, match="that only TensorFlow reads: prepare it elsewhere"):
        sets.load("cifar100", data_dir=tmp_path)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def garble(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, garble, Path.unlink])
def test_damaged_data_name_the_folder_and_the_command(folder, damage):
    damage(shard(folder, "test"))
    with pytest.raises(UserError) as caught:
        sets.load("cifar100", data_dir=folder)
    place = folder / "cifar100" / "3.0.2"
    assert f"the cifar100 in {place} is damaged (" in str(caught.value)
    command = f"python -m experiments.data --dataset cifar100 --data-dir {folder}"
    assert f"delete that folder, then prepare it with `{command}`" in str(caught.value)


def test_wrong_counts_name_the_folder(folder, monkeypatch):
    monkeypatch.setitem(KINDS, "cifar100", CIFAR100)
    with pytest.raises(
        UserError, match="there are 3 training images of a class, but there should be 500"
    ):
        sets.load("cifar100", data_dir=folder)


# The cache


@pytest.fixture
def no_decoding(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("decoded again")

    return lambda: monkeypatch.setattr(stored, "read_split", refuse)


def same(one, other):
    return one.fingerprint == other.fingerprint and all(
        np.array_equal(a, b) for a, b in zip(one[2:7], other[2:7], strict=True)
    )


def test_second_load_does_not_decode(folder, no_decoding, tmp_path):
    first = sets.load("cifar100", data_dir=folder, cache_dir=tmp_path / "elsewhere")
    assert not (folder / "jaxinit-cache").exists()
    beside = sets.load("cifar100", data_dir=folder)
    no_decoding()
    assert same(sets.load("cifar100", data_dir=folder), first)
    assert same(sets.load("cifar100", data_dir=folder, cache_dir=tmp_path / "elsewhere"), beside)


def pickled(path):
    np.save(path, np.array([{}], object), allow_pickle=True)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, pickled, Path.unlink])
def test_damaged_cache_is_rebuilt(folder, damage, no_decoding):
    first = sets.load("cifar100", data_dir=folder)
    (cached,) = (folder / "jaxinit-cache").iterdir()
    damage(cached / "train_images.npy")
    assert same(sets.load("cifar100", data_dir=folder), first)
    no_decoding()
    assert same(sets.load("cifar100", data_dir=folder), first)


def test_changed_data_are_read_anew(folder, no_decoding):
    sets.load("cifar100", data_dir=folder)
    os.utime(shard(folder, "test"), ns=(0, 0))
    no_decoding()
    with pytest.raises(UserError, match="decoded again"):
        sets.load("cifar100", data_dir=folder)


def test_cache_that_cannot_be_written(folder, monkeypatch, tmp_path, no_decoding):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (folder / "jaxinit-cache").write_text("a file where the folder should be")
    first = sets.load("cifar100", data_dir=folder)
    assert (tmp_path / "home" / ".cache" / "jaxinit" / "data").is_dir()
    no_decoding()
    assert same(sets.load("cifar100", data_dir=folder), first)


def test_nothing_can_be_written(folder, tmp_path):
    (tmp_path / "file").touch()
    dataset = sets.load("cifar100", data_dir=folder, cache_dir=tmp_path / "file")
    assert len(dataset.train_labels) == 300


# Tiny ImageNet and the made-up set


def test_tiny_imagenet_in_both_sizes(tmp_path, small_kinds, no_decoding):
    root = archives.write_tiny_imagenet(tmp_path, train_per_class=2)
    tfds_builders.prepare("tiny_imagenet", tmp_path, root)
    whole = sets.load("tiny_imagenet", data_dir=tmp_path)
    no_decoding()  # the smaller size is made of the cached arrays
    half = sets.load("tiny_imagenet32", data_dir=tmp_path)
    assert whole.train_images.shape == (400, 64, 64, 3)
    assert half.test_images.shape == (200, 32, 32, 3)
    np.testing.assert_array_equal(half.train_images, stored.halve(np.asarray(whole.train_images)))
    assert sets.superclass_count(half) == 40
    assert half.superclass[:11].tolist() == [0] * 5 + [1] * 5 + [2]
    assert same(sets.load("tiny_imagenet32", data_dir=tmp_path), half)
    assert half.title != whole.title
    assert half.std == (0.229, 0.224, 0.225)


def test_procedural_data_need_no_files(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "/nowhere")
    dataset = sets.load("procedural", train_images_per_class=2, test_images_per_class=1)
    assert "procedural" in dataset.title
    assert dataset.train_images.shape == (200, 32, 32, 3)
    assert sets.superclass_count(dataset) == 20
    assert np.bincount(dataset.superclass).tolist() == [5] * 20
    again = sets.load("procedural", train_images_per_class=2, test_images_per_class=1)
    assert again.fingerprint == dataset.fingerprint


# The command


def test_command_says_what_it_found(folder, capsys):
    sets.main(["--dataset", "cifar100", "--data-dir", str(folder)])
    said = capsys.readouterr().out
    assert f"CIFAR-100, in {folder}: 100 classes in 20 superclasses" in said
    assert "3 training and 2 test images a class, 32×32 pixels" in said


def test_command_prepares_from_an_archive(tmp_path, small_kinds, capsys):
    files = archives.cifar100_files(archives.cifar100_rows(3, 0), archives.cifar100_rows(2, 1))
    archive = archives.write_tar(tmp_path / "a.tar.gz", files)
    sets.main(["--dataset", "cifar100", "--data-dir", str(tmp_path), "--archive", str(archive)])
    said = capsys.readouterr()
    assert "100 classes in 20 superclasses" in said.out
    assert f"{archive} has {archive.stat().st_size} bytes and the official cifar-100-b" in said.err


def test_an_archive_that_is_not_there_is_refused_where_it_is_not_needed_too(folder, capsys):
    with pytest.raises(SystemExit) as caught:
        sets.main(["--dataset", "cifar100", "--data-dir", str(folder), "--archive", "nothing"])
    assert caught.value.code == 2
    assert "there is no archive nothing: give the path" in capsys.readouterr().err


def test_nothing_is_prepared_in_a_folder_called_like_a_home_that_is_not_there(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        sets.main(["--dataset", "cifar100"])
    assert caught.value.code == 2
    assert "there is no home folder for ~/tensorflow_datasets" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"train_images_per_class": 10**7}, {"image_size": 4096}])
def test_more_images_than_memory_are_refused(options, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 2**21))
    with pytest.raises(UserError, match=r"images of .* GiB of memory, and there are 8: ask for"):
        sets.load("procedural", **options)


def test_command_without_a_network(tmp_path, monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "head", refuse)
    with pytest.raises(SystemExit) as caught:
        sets.main(["--dataset", "cifar100", "--data-dir", str(tmp_path)])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert (
        f"error: cifar100 could not be prepared in {tmp_path} from the network (no route)" in said
    )


# Real data, where there are any


def real(name):
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not stored.shards(KINDS[name], Path(folder)):
        pytest.skip(f"TFDS_DATA_DIR names no folder with {name}")
    return sets.load(name)


def test_real_cifar100():
    dataset = real("cifar100")
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (50000, 10000)
    # The first labels of the official files.
    assert dataset.train_labels[:5].tolist() == [19, 29, 0, 11, 1]
    assert dataset.test_labels[:5].tolist() == [49, 33, 72, 51, 71]
    assert dataset.superclass[:10].tolist() == [4, 1, 14, 8, 0, 6, 7, 7, 18, 3]
    assert len(tasks.pair_task(dataset, (10, 14)).train_index) == 5000


def test_real_tiny_imagenet():
    dataset = real("tiny_imagenet32")
    counts = np.bincount(dataset.train_labels)
    assert len(counts) == 200
    assert len(set(counts)) == 1
    assert dataset.train_images.shape[1:] == (32, 32, 3)
