"""Log-probabilities of continuations, given their contexts."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gpt_keras.backend import require_tensorflow
from gpt_keras.checks import check_positive_int, check_token_ids
from gpt_keras.generation.continuation_passes import CachedPasses, Targets

# Memory for the logits of a pass, and for the KV cache of the contexts of a pool, in bytes.
_LOGITS_BYTES = 300_000_000
_POOL_BYTES = 300_000_000

# A pool holds the caches of this many batches of contexts. Their continuations are sorted by
# length, so that the rows of a batch need little padding.
_POOL_BATCHES = 8


class ContinuationScore(NamedTuple):
    """Score of one continuation.

    Attributes:
        log_probability: Sum of the log-probabilities of its tokens, in nats.
        num_tokens: Number of its tokens.
        is_greedy: Whether each token is the most likely one, so that greedy decoding gives it.
        was_cut: Whether context and continuation were longer than the model's context, and lost
            tokens on the left.
    """

    log_probability: float
    num_tokens: int
    is_greedy: bool
    was_cut: bool


def score_continuations(
    model,
    requests: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    *,
    batch_size: int = 8,
    progress: Callable[[int], None] | None = None,
) -> list[list[ContinuationScore]]:
    """Return the score of each continuation of each context.

    A context runs once for all its continuations, against a KV cache. Equal contexts share a pass,
    and a continuation that is a prefix of another one costs nothing. Rows are sorted by length; the
    results are in the given order.

    A context that is too long together with a continuation loses tokens on the left, as in
    lm-evaluation-harness: the last `max_sequence_length + 1` tokens remain. The last token is only
    predicted.

    Args:
        model: A `CausalLM`.
        requests: Contexts with their continuations, all as token ids, none empty.
        batch_size: Number of rows in a batch. It changes a result only by rounding errors.
        progress: A function that is called after each batch with the number of continuations that
            are now finished; or None.

    Returns:
        For each context a list of `ContinuationScore`, one for each continuation.

    Raises:
        ValueError: A context or a continuation is empty, an id is outside the vocabulary, or a
            continuation alone is longer than `max_sequence_length`.

    Example:
        >>> import gpt_keras as gk
        >>> from gpt_keras.generation.continuations import score_continuations
        >>> model = gk.GPTCausalLM(gk.presets.get("tiny").replace(vocabulary_size=4))
        >>> (scores,) = score_continuations(model, [([1, 2], [[3], [3, 0]])])
        >>> [score.num_tokens for score in scores]
        [1, 2]
    """
    require_tensorflow("Scoring")
    check_positive_int("batch_size", batch_size)
    passes = model._require_generators().continuation_passes
    is_cached = isinstance(passes, CachedPasses)
    jobs = list(_jobs(model, requests, is_cached))
    groups = _groups(jobs)
    if is_cached:
        batches = _run_cached(passes, groups, model.vocabulary_size, batch_size)
    else:
        batches = _run_whole(passes, groups, model.vocabulary_size, batch_size)
    for rows, targets, log_probabilities, is_greedy in batches:
        owners = [rows[i].targets[k].job for i, k in targets]
        for job, log_probability, greedy in zip(owners, log_probabilities, is_greedy, strict=True):
            job.log_probability += float(log_probability)
            job.is_greedy &= bool(greedy)
            job.num_open -= 1
        if progress is not None:
            progress(sum(job.num_open == 0 for job in {id(job): job for job in owners}.values()))
    found = [[] for _ in requests]
    for job in jobs:
        found[job.request].append(
            ContinuationScore(job.log_probability, job.num_tokens, job.is_greedy, job.was_cut)
        )
    return found


@dataclasses.dataclass
class _Job:
    """One continuation: its rows of tokens, and its score so far.

    Attributes:
        request: Index of its request.
        head: Tokens that fill the cache.
        inputs: Tokens that run against the cache; the last ones predict the continuation.
        continuation: Tokens of the continuation.
    """

    request: int
    head: tuple[int, ...]
    inputs: tuple[int, ...]
    continuation: tuple[int, ...]
    was_cut: bool
    log_probability: float = 0.0
    is_greedy: bool = True

    def __post_init__(self):
        self.num_tokens = self.num_open = len(self.continuation)


class _Target(NamedTuple):
    """A token to predict, the column that predicts it, and its continuation."""

    column: int
    token_id: int
    job: _Job


class _Row(NamedTuple):
    """A row of the second pass, which may serve several continuations."""

    head: tuple[int, ...]
    inputs: tuple[int, ...]
    targets: list[_Target]


def _jobs(model, requests, is_cached) -> Iterator[_Job]:
    limit = model.max_sequence_length
    for i, (context, continuations) in enumerate(requests):
        context = _checked(f"`requests` must hold contexts; number {i}", context, model)
        for j, continuation in enumerate(continuations):
            name = f"`requests` must hold continuations; number {j} of context {i}"
            continuation = _checked(name, continuation, model)
            if limit is not None and len(continuation) > limit:
                raise ValueError(
                    f"A continuation must have at most {limit} tokens, the model's "
                    f"max_sequence_length; number {j} of context {i} has {len(continuation)}."
                )
            kept = context + continuation
            if limit is not None:
                kept = kept[-(limit + 1) :]
            # The last token of the context predicts the first one of the continuation.
            num_head = len(kept) - len(continuation) - 1 if is_cached else 0
            was_cut = len(kept) < len(context) + len(continuation)
            yield _Job(i, kept[:num_head], kept[num_head:-1], continuation, was_cut)


def _checked(name, token_ids, model):
    if len(token_ids) == 0:
        raise ValueError(f"{name} is empty.")
    check_token_ids(token_ids, model.vocabulary_size)
    return tuple(map(int, token_ids))


def _groups(jobs: Sequence[_Job]) -> list[list[_Row]]:
    """Return the rows of each head, without rows that others contain.

    The shortest head is first.
    """
    by_head: dict[tuple, list[_Job]] = {}
    for job in jobs:
        by_head.setdefault(job.head, []).append(job)
    groups = []
    for head in sorted(by_head, key=len):
        rows: list[_Row] = []
        # In descending order, a row that begins with other inputs comes just before them.
        for job in sorted(by_head[head], key=lambda job: job.inputs, reverse=True):
            if not rows or rows[-1].inputs[: len(job.inputs)] != job.inputs:
                rows.append(_Row(head, job.inputs, []))
            first = len(job.inputs) - len(job.continuation)
            rows[-1].targets.extend(
                _Target(first + k, token_id, job) for k, token_id in enumerate(job.continuation)
            )
        groups.append(rows)
    return groups


def _run_whole(passes, groups, vocabulary_size, batch_size):
    """Yield `(rows, targets, log_probabilities, is_greedy)` of each batch."""
    rows = sorted((row for group in groups for row in group), key=lambda row: len(row.inputs))
    while rows:
        batch = rows[:batch_size]
        most = _LOGITS_BYTES // (4 * vocabulary_size * len(batch[-1].inputs))
        batch = batch[: max(most, 1)]
        rows = rows[len(batch) :]
        owners, targets = _targets(batch, 0, len(batch[-1].inputs))
        found = passes.score(_padded([row.inputs for row in batch]), targets)
        yield batch, owners, *(part.numpy() for part in found)


def _run_cached(passes, groups, vocabulary_size, batch_size):
    """Yield `(rows, targets, log_probabilities, is_greedy)` of each batch."""
    for pool in _pools(groups, passes.bytes_per_column, batch_size):
        heads = [group[0].head for group in pool]
        rows = [(number, row) for number, group in enumerate(pool) for row in group]
        rows.sort(key=lambda numbered: len(numbered[1].inputs))
        width = max(1, *map(len, heads))
        # A cache that cannot get more columns later has room for all continuations at once.
        room = 0 if passes.can_move else len(rows[-1][1].inputs)
        caches = [
            passes.fill(
                _padded(part, width, on_the_left=True),
                np.array([width - len(head) for head in part], np.int32),
                width + room,
            )
            for part in (heads[i : i + batch_size] for i in range(0, len(heads), batch_size))
        ]
        cache = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *caches)
        del caches
        for batch in _batches(rows, passes.limit, batch_size):
            numbers, batch = zip(*batch, strict=True)
            starts = np.array([width - len(row.head) for row in batch], np.int32)
            token_ids = _padded([row.inputs for row in batch])
            num_new = token_ids.shape[1]
            part = passes.take(cache, np.array(numbers, np.int32), width + num_new)
            # A long continuation runs in several steps, which limits the memory for the logits.
            step = max(1, _LOGITS_BYTES // (4 * vocabulary_size * len(batch)))
            for first in range(0, num_new, step):
                end = min(first + step, num_new)
                owners, targets = _targets(batch, first, end)
                *found, update = passes.score(
                    token_ids[:, first:end], part, width + first, starts, targets
                )
                if end < num_new:
                    part = passes.write(part, update, width + first)
                yield batch, owners, *(part.numpy() for part in found)


def _pools(groups, bytes_per_column, batch_size):
    """Yield consecutive groups whose caches fit into memory together."""
    while groups:
        size = batch_size
        for size in range(_POOL_BATCHES * batch_size, batch_size, -batch_size):
            longest = len(groups[:size][-1][0].head)  # the groups are sorted
            if size * longest * bytes_per_column <= _POOL_BYTES:
                break
        yield groups[:size]
        groups = groups[size:]


def _batches(rows, limit, batch_size):
    """Yield lists of rows, whose padding does not exceed the model's last position."""
    batch, longest_head = [], 0
    for numbered in rows:
        row = numbered[1]
        longest_head = max(longest_head, len(row.head))
        is_too_long = limit is not None and longest_head + len(row.inputs) > limit
        if batch and (len(batch) == batch_size or is_too_long):
            yield batch
            batch, longest_head = [], len(row.head)
        batch.append(numbered)
    yield batch


def _targets(rows, first, end):
    """Return `(row, target)` of each target in a range of columns, and `Targets`."""
    owners, cells = [], []
    for i, row in enumerate(rows):
        for k, target in enumerate(row.targets):
            if first <= target.column < end:
                owners.append((i, k))
                cells.append((i, target.column - first, target.token_id))
    columns = np.array(cells, np.int32).reshape(-1, 3).T
    return owners, Targets(*map(tf.constant, columns))


def _padded(rows, width=None, on_the_left=False):
    """Return rows of token ids as an int32 matrix, padded with 0."""
    padded = np.zeros((len(rows), max(map(len, rows)) if width is None else width), np.int32)
    for line, row in zip(padded, rows, strict=True):
        if on_the_left:
            line[len(line) - len(row) :] = row
        else:
            line[: len(row)] = row
    return padded
