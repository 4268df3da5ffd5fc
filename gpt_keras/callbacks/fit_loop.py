"""Access to the loop of `keras.Model.fit`: start in mid-epoch, digests of batches.

Keras has no public way to begin an epoch at a later batch. The functions here read and set
attributes of the epoch iterator of Keras 3.15 on TensorFlow. Nothing else in the package does.
"""

import sys
import zlib
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

# Digests that are kept. `tf.data` produces fewer batches in advance.
_KEPT = 10_000

# Bytes of a part of a batch from which on only a sample is digested.
_LARGE = 1_000_000


class DataPlace(NamedTuple):
    """Place of a training in its data.

    Attributes:
        iterations: For each iterator that was made, the digest of its first batch; None if no batch
            was taken from it.
        steps_seen: Number of batches taken from the last iterator.
        goes_on: Whether the next batch comes from the last iterator, not from a new one.
        last_digest: Digest of the last batch that was taken; None if there is none.
    """

    iterations: list[int | None]
    steps_seen: int
    goes_on: bool
    last_digest: int | None


class OtherData(Exception):
    """The data differ from the data of the interrupted training."""


def find_fit(frame: FrameType | None = None) -> FrameType:
    """Return the frame of the running `keras.Model.fit`.

    Args:
        frame: The frame to begin at. Default: that of the caller.

    Raises:
        RuntimeError: No `fit` with an epoch iterator is running.
    """
    frame = sys._getframe(1) if frame is None else frame
    while frame is not None:
        if frame.f_code.co_name == "fit" and "epoch_iterator" in frame.f_locals:
            return frame
        frame = frame.f_back
    raise RuntimeError("`fit` of this version of Keras has no `epoch_iterator`: cannot resume.")


class TrainingData:
    """The data of a running `fit`, which can start in the middle of an epoch.

    Args:
        epoch_iterator: The epoch iterator of `fit`.

    Raises:
        ValueError: The batches are split over devices.
    """

    def __init__(self, epoch_iterator: Any):
        self._epoch_iterator = epoch_iterator
        self._dataset = epoch_iterator._distributed_dataset
        if not isinstance(self._dataset, tf.data.Dataset):
            raise ValueError(
                "Checkpoint works on one device, got batches that a tf.distribute strategy splits."
            )
        self._iterations: list[int | None] = []
        self._digests: dict[int, int] = {}
        epoch_iterator._get_iterator = self._next_iteration

    @property
    def element_spec(self):
        """Structure, shapes and dtypes of a batch."""
        return self._dataset.element_spec

    def place(self, is_end_of_epoch: bool) -> DataPlace:
        """Return the place after the newest batch.

        Args:
            is_end_of_epoch: Whether the newest batch was the last one of its epoch.
        """
        iterator = self._epoch_iterator
        keeps = iterator.steps_per_epoch is not None and iterator._current_iterator is not None
        steps_seen = iterator._steps_seen
        digest = self._digests.get(steps_seen - 1)
        if self._iterations and steps_seen and self._iterations[-1] is None:
            self._iterations[-1] = self._digests.get(0)
        return DataPlace(list(self._iterations), steps_seen, keeps or not is_end_of_epoch, digest)

    def go_to(self, place: DataPlace, first_step: int, stop: bool = False) -> None:
        """Continue at a place: the next epoch of `fit` begins at a batch in its middle.

        Args:
            place: The place.
            first_step: Number of the batch within the epoch at which it begins.
            stop: Whether the epoch has no further batches.

        Raises:
            OtherData: A batch differs from the batch of the earlier training.
        """
        iterator = self._epoch_iterator
        repeated = place.iterations[:-1] if place.goes_on else place.iterations
        for expected in repeated:
            if expected is None:  # some shuffles change when an iterator is made
                iter(self._next_iteration())
                continue
            iterator.data_adapter.on_epoch_begin()
            next(iter(self._next_iteration()), None)
            self._compare(expected, 0, "the first batch of an epoch")
            iterator.data_adapter.on_epoch_end()
        if not place.goes_on or not place.iterations:
            return
        if place.steps_seen == 0:
            iterator._current_iterator = iter(self._next_iteration())
        else:
            skipped = place.steps_seen - 1
            batches = iter(self._next_iteration(skipped))
            try:
                next(batches)
            except StopIteration:
                raise OtherData(
                    f"there are fewer than {place.steps_seen} batches, as many as were trained on"
                ) from None
            self._compare(place.last_digest, skipped, f"batch {place.steps_seen}")
            self._iterations[-1] = place.iterations[-1]
            iterator._current_iterator = batches
        iterator._steps_seen = place.steps_seen
        num_steps = 0 if stop else iterator.steps_per_epoch or iterator._num_batches
        iterator._enumerate_iterator = lambda: self._rest_of_epoch(first_step, num_steps)

    def _rest_of_epoch(
        self, first_step: int, num_steps: int | None
    ) -> Iterator[tuple[int, int, Any]]:
        """Yield the steps of an epoch from `first_step` on, as Keras does from 0 on."""
        iterator = self._epoch_iterator
        del iterator._enumerate_iterator  # later epochs are Keras's own
        size = iterator.steps_per_execution
        iterator.data_adapter.on_epoch_begin()
        step = first_step
        while num_steps is None or step < num_steps:
            if iterator._num_batches and iterator._steps_seen >= iterator._num_batches:
                if iterator.steps_per_epoch:
                    iterator._interrupted_warning()
                break
            iterator._steps_seen += size
            yield step, step + size - 1, iterator._current_iterator
            step += size
        if iterator._num_batches and iterator._steps_seen >= iterator._num_batches:
            iterator._current_iterator = iter(iterator._get_iterator())
            iterator._steps_seen = 0
        iterator.data_adapter.on_epoch_end()

    def _next_iteration(self, skipped: int = 0) -> tf.data.Dataset:
        """Begin an iteration, and return its batches after the skipped ones."""
        if self._iterations and self._iterations[-1] is None:
            self._iterations[-1] = self._digests.get(0)
        self._iterations.append(None)
        # Each iteration has its own digests: threads of an iterator that is no longer used may
        # still produce batches.
        self._digests = {}
        dataset = self._dataset.skip(skipped) if skipped else self._dataset
        return _with_digests(dataset, skipped, self._digests)

    def _compare(self, expected, index, name):
        found = self._digests.get(index)
        if None not in (expected, found) and found != expected:
            raise OtherData(f"{name} differs")


def _with_digests(dataset: tf.data.Dataset, first: int, digests: dict[int, int]) -> tf.data.Dataset:
    """Return a dataset that also writes the digest of each batch into a dict.

    Args:
        dataset: The batches.
        first: Number of the first batch.
        digests: The dict, by the number of the batch. It keeps the first and the newest ones.
    """

    def record(index, *parts):
        digests[int(index)] = _digest(parts)
        if index > _KEPT:
            digests.pop(int(index) - _KEPT, None)
        return np.int64(0)

    def measured(index, batch):
        parts = [part for part in tf.nest.flatten(batch, expand_composites=True) if _is(part)]
        done = tf.numpy_function(record, [index, *parts], tf.int64)
        with tf.control_dependencies([done]):
            return tf.nest.map_structure(
                lambda part: tf.identity(part) if _is(part) else part,
                batch,
                expand_composites=True,
            )

    # With `prefetch`, the digests are computed beside the training step.
    return dataset.enumerate(first).map(measured).prefetch(2)


class ValidationData:
    """The validation data of a running `fit`: counts the iterators.

    A dataset that shuffles has another order in each evaluation. The order decides how the sums of
    the losses are rounded.

    Args:
        epoch_iterator: The epoch iterator of the evaluations in `fit`.
        iterations: For each iterator that the interrupted training made, whether a batch was taken
            from it. The data continue after them.
    """

    def __init__(self, epoch_iterator: Any, iterations: list[bool]):
        self.iterations = list(iterations)
        self._dataset = epoch_iterator._distributed_dataset
        for was_used in iterations:
            batches = iter(self._dataset)
            if was_used:
                next(batches, None)
        epoch_iterator._get_iterator = self._next_iteration

    def _next_iteration(self):
        self.iterations.append(False)
        return self._dataset

    def end_batch(self) -> None:
        """Count a batch of the last iterator that was made before it."""
        self.iterations[-1] = True


def _digest(parts) -> int:
    total = 0
    for part in parts:
        total = zlib.crc32(f"{part.dtype}{part.shape}".encode(), total)
        if part.dtype == object:
            for text in part.flat:
                total = zlib.crc32(text, total)
        else:
            flat = np.ascontiguousarray(part).reshape(-1)
            if flat.nbytes > _LARGE:
                step = flat.nbytes // _LARGE + 1
                flat = np.concatenate([flat[: 1 << 14], flat[::step], flat[-(1 << 14) :]])
            total = zlib.crc32(flat.view(np.uint8).data, total)
    return total


def _is(part) -> bool:
    """Return whether a part of a batch is a tensor; it may be None."""
    return part is not None
