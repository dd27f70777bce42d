"""Streamed training: the curves of the resident epoch, in bounded memory, and taken up again."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data.tasks import pair_task
from experiments.training import input_pipeline, run_log, streamed, unfinished
from experiments.training import trainer as trainers
from experiments.training.hyperparameters import Training
from experiments.training.trainer import Trainer
from tests.experiments.small import make_dataset
from tests.small import SmallNetwork

SETTINGS = Training(epochs=3, batch_size=32, learning_rate=0.05)
# 130 images: four whole batches and the last of 2.


class Rows:
    """Images that count how they are read, in this process."""

    def __init__(self, images, bad=None):
        self.images, self.shape, self.dtype = images, images.shape, images.dtype
        self.bad, self.asked = bad, []

    def __getitem__(self, rows):
        self.asked.append(len(rows))
        if self.bad in rows:
            raise OSError(5, "Input/output error", "n01440764_18.jpeg")
        return self.images[rows]


@pytest.fixture(scope="module")
def dataset():
    return make_dataset()


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(input_pipeline, "workers_for", lambda images: 0)


def train(dataset, settings=SETTINGS, pair=(0, 1), **options):
    trainer = Trainer(dataset, settings, 10, SmallNetwork())
    start, key = trainer.init_variables(jax.random.key(0)), jax.random.key(1)
    (curves,), (final,) = trainer.train([pair_task(dataset, pair)], [start], [key], **options)
    return curves, final


def assert_same(one, other):
    (curves, final), (theirs, their_final) = one, other
    assert curves.stopped == theirs.stopped
    assert curves.values.keys() == theirs.values.keys()
    for name, values in curves.values.items():
        pair = [np.asarray(own, np.float64) for own in (values, theirs.values[name])]
        np.testing.assert_allclose(*pair, rtol=1e-6, err_msg=name)
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(their_final), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("batches", [1, 3, 32])
def test_streamed_runs_are_the_resident_runs(dataset, batches, monkeypatch):
    monkeypatch.setattr(streamed, "_CHUNK_BATCHES", batches)
    resident = train(dataset._replace(stream="never"))
    assert_same(train(dataset._replace(stream="always")), resident)


@pytest.mark.parametrize("batch_size", [26, 64, 200])  # all whole; one more; a single smaller one
def test_whatever_the_batch_size(dataset, batch_size):
    settings = dataclasses.replace(SETTINGS, epochs=1, batch_size=batch_size)
    resident = train(dataset._replace(stream="never"), settings)
    assert_same(train(dataset._replace(stream="always"), settings), resident)


def test_taps_that_see_no_data_are_left_out_and_put_back():
    small = make_dataset(size=2)
    settings = dataclasses.replace(SETTINGS, weight_decay=0.1)
    resident = train(small._replace(stream="never"), settings)
    assert_same(train(small._replace(stream="always"), settings), resident)


def test_an_evaluation_in_several_batches(dataset, monkeypatch):
    """40 images in batches of up to 12: four of 10; the resident program is compiled anew."""
    from experiments.training import epoch, programs

    monkeypatch.setattr(epoch, "_EVALUATION_BATCH", 12)
    assert epoch.evaluation_batches(40) == (4, 10)
    assert epoch.evaluation_batches(37) == (4, 10)  # the last filled up
    few = dataset._replace(
        test_images=dataset.test_images[:75], test_labels=dataset.test_labels[:75]
    )
    programs.programs_for.cache_clear()
    settings = dataclasses.replace(SETTINGS, epochs=1)
    resident = train(few._replace(stream="never"), settings)
    assert_same(train(few._replace(stream="always"), settings), resident)
    programs.programs_for.cache_clear()


def test_no_more_than_a_batch_is_asked_for_at_once(dataset, in_this_process):
    rows = Rows(dataset.train_images), Rows(dataset.test_images)
    lazy = dataset._replace(train_images=rows[0], test_images=rows[1])
    assert_same(train(lazy), train(dataset._replace(stream="never")))
    assert rows[0].asked == [32, 32, 32, 32, 2] * 3
    assert rows[1].asked == [40] * 3


def test_rows_are_loaded_whole_where_they_are_not_to_be_streamed(dataset):
    lazy = dataset._replace(train_images=Rows(dataset.train_images), stream="never")
    assert_same(train(lazy), train(dataset._replace(stream="never")))


def test_what_is_streamed(dataset, monkeypatch):
    assert not trainers.is_streamed(dataset)
    assert trainers.is_streamed(dataset._replace(stream="always"))
    assert trainers.is_streamed(dataset._replace(test_images=Rows(dataset.test_images)))
    images = dataset.train_images.nbytes + dataset.test_images.nbytes
    monkeypatch.setattr(trainers, "free_memory", lambda: 2.0 * images)
    assert not trainers.is_streamed(dataset)
    monkeypatch.setattr(trainers, "free_memory", lambda: 2.0 * images - 1)
    assert trainers.is_streamed(dataset)
    assert not trainers.is_streamed(dataset._replace(stream="never"))
    trainer = Trainer(dataset, SETTINGS, 10, SmallNetwork())
    assert trainer.streams
    assert trainer.runs_that_fit(pair_task(dataset, (0, 1))) == 1


class Interrupted(Exception):
    pass


@pytest.fixture
def kept_always(monkeypatch):
    """Has the state saved after each chunk, of two batches."""
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    monkeypatch.setattr(streamed, "_CHUNK_BATCHES", 2)


@pytest.mark.parametrize("place", [1, 2, 4])  # within the first epoch, at its end, in the second
def test_a_run_that_was_interrupted_goes_on(dataset, place, kept_always, monkeypatch, tmp_path):
    whole = train(dataset._replace(stream="always"))
    save, saved = unfinished.Unfinished.save, []

    def interrupt(self, number, arrays, log):
        save(self, number, arrays, log)
        saved.append(number)
        if len(saved) == place:
            raise Interrupted

    monkeypatch.setattr(unfinished.Unfinished, "save", interrupt)
    rows = Rows(dataset.train_images)
    lazy = dataset._replace(train_images=rows, stream="always")
    monkeypatch.setattr(input_pipeline, "workers_for", lambda images: 0)
    kept = tmp_path / "unfinished" / "run"
    with pytest.raises(Interrupted):
        train(lazy, unfinished=kept)
    assert saved == [2, 4, 5, 8][:place]  # six batches an epoch, the last of the evaluation
    rows.asked.clear()
    told = []
    again = train(lazy, unfinished=kept, progress=lambda epoch, accuracies: told.append(epoch))
    assert_same(again, whole)
    assert again[0].earlier > 0
    assert told == ([1, 2, 3] if place < 4 else [2, 3])
    assert len(rows.asked) == 15 - saved[place - 1] + (place == 4)  # what was done is not read
    unfinished.discard(kept)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_unfinished_run_gets_a_sentence(dataset, kept_always, tmp_path):
    train(dataset._replace(stream="always"), unfinished=tmp_path / "run")
    content = (tmp_path / "run").read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damage in (b"", content[:-100], flipped):
        (tmp_path / "run").write_bytes(damage)
        with pytest.raises(UserError, match="is damaged, or of another run or network"):
            train(dataset._replace(stream="always"), unfinished=tmp_path / "run")
    (tmp_path / "renamed").write_bytes(content)
    with pytest.raises(UserError, match=r"it was called run.: delete the file and start again"):
        train(dataset._replace(stream="always"), unfinished=tmp_path / "renamed")


def test_several_runs_or_devices_are_refused(dataset, monkeypatch):
    trainer = Trainer(dataset._replace(stream="always"), SETTINGS, 10, SmallNetwork())
    task, start = pair_task(dataset, (0, 1)), trainer.init_variables(jax.random.key(0))
    with pytest.raises(UserError, match="one run at a time: leave --runs-at-once out"):
        trainer.train([task] * 2, [start] * 2, [jax.random.key(0)] * 2)
    monkeypatch.setattr(Trainer, "devices", 8)
    with pytest.raises(UserError, match="takes one device, and there are 8: let JAX see one"):
        Trainer(dataset._replace(stream="always"), SETTINGS, 10, SmallNetwork())


def test_images_that_cannot_be_read_end_in_a_sentence(dataset, in_this_process):
    lazy = dataset._replace(train_images=Rows(dataset.train_images, bad=17))
    task = pair_task(dataset, (0, 1))
    pair = (0, 1) if 17 in task.train_index else (2, 3)
    with pytest.raises(UserError, match=r"Input/output error: 'n01440764_18.jpeg'\): repair"):
        train(lazy, pair=pair)


def test_a_loss_that_is_not_finite_stops_the_run(dataset):
    """Of the last batch alone: two images in batch norm, and a rate at which nothing is finite."""
    settings = dataclasses.replace(SETTINGS, learning_rate=1e30)
    resident, _ = train(dataset._replace(stream="never"), settings)
    curves, _ = train(dataset._replace(stream="always"), settings)
    assert curves.stopped == resident.stopped
    assert str(curves.stopped).startswith("the loss is not finite in epoch 1, in training step ")
    assert curves.values["train_loss"] == []
    assert set(run_log.CURVES) <= curves.values.keys()
