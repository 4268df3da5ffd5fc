"""Log-probabilities of continuations, given their contexts."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gpt_keras.backend import require_tensorflow
from gpt_keras.checks import check_positive_int, check_token_ids
from gpt_keras.generation.continuation_passes import CachedPasses, Targets, WholeRowPasses

# Memory for the logits of a pass, and for the KV caches of a pool of trunks, in bytes.
_LOGITS_BYTES = 300_000_000
_POOL_BYTES = 300_000_000

# `batch_size` rows of this many tokens make a full batch. Batches of shorter rows have more rows,
# because products of small matrices are slow.
_ROW_TOKENS = 64

# A pool holds the caches of this many full batches of trunks. Their branches are sorted by length,
# so that the rows of a batch need little padding.
_POOL_BATCHES = 4

# Trunks that share this many tokens at their beginning are neighbours in the order of work.
_FAMILY_TOKENS = 32

# A prefix that all trunks of a pool share is run once if this saves at least 64 tokens.
_LEAST_SAVED = 64


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

    Tokens that continuations of a context share are run once: the context, and the first tokens of
    the continuations if they are equal. So is a prefix that many contexts share, such as the
    examples of a few-shot prompt. Rows are sorted by length; the results are in the given order.

    A context that is too long together with a continuation loses tokens on the left, as in
    lm-evaluation-harness: the last `max_sequence_length + 1` tokens remain. The last token is only
    predicted.

    Args:
        model: A `CausalLM`.
        requests: Contexts with their continuations, all as token ids, none empty.
        batch_size: Number of rows in a batch. Rows of less than 64 tokens make larger batches. The
            batch size changes a result only by rounding errors.
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
    jobs = list(_jobs(model, requests))
    trees = _trees(jobs)
    if isinstance(passes, CachedPasses):
        work = _CachedWork(passes, model.max_sequence_length, model.vocabulary_size, batch_size)
    else:
        work = _WholeWork(passes, model.vocabulary_size, batch_size)
    for targets, log_probabilities, is_greedy in work.run(trees):
        num_finished = 0
        for target, log_probability, greedy in zip(
            targets, log_probabilities.tolist(), is_greedy.tolist(), strict=True
        ):
            num_finished += target.job.add(log_probability, greedy)
        if progress is not None:
            progress(num_finished)
    found = [[] for _ in requests]
    for job in jobs:
        found[job.request].append(job.score())
    return found


@dataclasses.dataclass
class _Job:
    """One continuation, and its score so far.

    Attributes:
        request: Number of its request.
        context: Tokens before the continuation, after the cut.
        continuation: Its tokens.
        was_cut: Whether the context was cut.
    """

    request: int
    context: tuple[int, ...]
    continuation: tuple[int, ...]
    was_cut: bool

    def __post_init__(self):
        self._sum, self._is_greedy, self._num_open = 0.0, True, len(self.continuation)

    @property
    def inputs(self):
        return self.context + self.continuation[:-1]

    def add(self, log_probability: float, is_greedy: bool) -> bool:
        """Add the score of one token, and return whether it was the last one."""
        self._sum += log_probability
        self._is_greedy &= is_greedy
        self._num_open -= 1
        return self._num_open == 0

    def score(self) -> ContinuationScore:
        return ContinuationScore(self._sum, len(self.continuation), self._is_greedy, self.was_cut)


class _Target(NamedTuple):
    """A token to predict, the column that predicts it, and its continuation."""

    column: int
    token_id: int
    job: _Job


class _Row(NamedTuple):
    """Tokens to run, and the tokens that they predict."""

    token_ids: tuple[int, ...]
    targets: list[_Target]


class _Tree(NamedTuple):
    """All continuations of one context: the tokens that they share, and the others.

    Attributes:
        trunk: The shared tokens.
        first_scored: Column of the trunk's first target.
        branches: The other tokens of each continuation; columns count from the end of the trunk.
    """

    trunk: _Row
    first_scored: int
    branches: list[_Row]


def _jobs(model, requests) -> Iterator[_Job]:
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
            room = len(context) if limit is None else limit + 1 - len(continuation)
            yield _Job(i, context[-room:], continuation, room < len(context))


def _checked(name, token_ids, model):
    if len(token_ids) == 0:
        raise ValueError(f"{name} is empty.")
    check_token_ids(token_ids, model.vocabulary_size)
    return tuple(map(int, token_ids))


def _trees(jobs: Sequence[_Job]) -> list[_Tree]:
    by_context: dict[tuple, list[_Job]] = {}
    for job in jobs:
        by_context.setdefault(job.context, []).append(job)
    return [_tree(context, members) for context, members in by_context.items()]


def _tree(context, jobs):
    rows = [job.inputs for job in jobs]
    trunk = _Row(_common_prefix(rows), [])
    branches: list[_Row] = []
    # In descending order, a row that begins with other tokens comes just before them.
    for job in sorted(jobs, key=lambda job: job.inputs, reverse=True):
        rest = job.inputs[len(trunk.token_ids) :]
        if rest and (not branches or branches[-1].token_ids[: len(rest)] != rest):
            branches.append(_Row(rest, []))
        for column, token_id in enumerate(job.continuation, len(context) - 1):
            if column < len(trunk.token_ids):
                trunk.targets.append(_Target(column, token_id, job))
            else:
                column -= len(trunk.token_ids)
                branches[-1].targets.append(_Target(column, token_id, job))
    return _Tree(trunk, len(context) - 1, branches)


def _common_prefix(rows):
    # Every row lies between the smallest and the largest one.
    pairs = zip(min(rows), max(rows))
    return tuple(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


class _WholeWork:
    """Passes over whole rows, in batches."""

    def __init__(self, passes: WholeRowPasses, vocabulary_size: int, batch_size: int):
        self._passes = passes
        self._vocabulary_size = vocabulary_size
        self._batch_size = batch_size

    def run(self, trees: list[_Tree]):
        """Yield `(targets, log_probabilities, is_greedy)` of each batch."""
        rows = []
        for (trunk, trunk_targets), _, branches in trees:
            branches = branches or [_Row((), [])]
            for i, (token_ids, targets) in enumerate(branches):
                moved = [t._replace(column=t.column + len(trunk)) for t in targets]
                rows.append(_Row(trunk + token_ids, moved + (trunk_targets if i == 0 else [])))
        rows.sort(key=lambda row: len(row.token_ids), reverse=True)
        while rows:
            longest = len(rows[0].token_ids)
            most = _LOGITS_BYTES // (4 * self._vocabulary_size * longest)
            batch = rows[: max(1, min(most, self._batch_size))]
            rows = rows[len(batch) :]
            chosen, targets = _targets(batch, 0, longest)
            found = self._passes.score(_padded(batch), targets)
            yield chosen, *(part.numpy() for part in found)


class _CachedWork:
    """Passes against KV caches, in batches: trunks first, then their branches."""

    def __init__(
        self, passes: CachedPasses, limit: int | None, vocabulary_size: int, batch_size: int
    ):
        self._passes = passes
        self._limit = limit
        self._vocabulary_size = vocabulary_size
        self._batch_size = batch_size
        self._prefix: tuple[int, ...] = ()  # the tokens of `_prefix_cache`
        self._prefix_cache = None

    def run(self, trees: list[_Tree]):
        """Yield `(targets, log_probabilities, is_greedy)` of each batch."""
        for pool in self._pools(trees):
            # Neighbours have a similar number of columns with targets.
            pool.sort(key=lambda tree: len(tree.trunk.token_ids) - tree.first_scored)
            width = max(len(tree.trunk.token_ids) for tree in pool)
            branches = [(i, row) for i, tree in enumerate(pool) for row in tree.branches]
            branches.sort(key=lambda branch: len(branch[1].token_ids), reverse=True)
            # A cache that gets no further columns later has room for all branches.
            longest = max((len(row.token_ids) for _, row in branches), default=0)
            length = width if self._passes.can_move else width + longest
            prefix = self._run_prefix(pool)
            caches, size = [], self._num_rows(width)
            for first in range(0, len(pool), size):
                part = pool[first : first + size]
                caches.append((yield from self._run_trunks(part, prefix, width, length)))
            if branches:
                cache = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *caches)
                del caches
                for batch in self._branch_batches(pool, branches):
                    yield from self._run_branches(pool, batch, cache, width)

    def _num_rows(self, length):
        """Return the number of rows in a batch of rows of this length."""
        return max(self._batch_size, self._batch_size * _ROW_TOKENS // length)

    def _pools(self, trees):
        """Yield lists of trees whose caches fit into memory together."""
        heads = collections.Counter(tree.trunk.token_ids[:_FAMILY_TOKENS] for tree in trees)

        def family(tree):
            head = tree.trunk.token_ids[:_FAMILY_TOKENS]
            is_shared = len(head) == _FAMILY_TOKENS and heads[head] >= self._batch_size
            return head if is_shared else ()

        trees = sorted(trees, key=lambda tree: (family(tree), len(tree.trunk.token_ids)))
        pool: list[_Tree] = []
        for tree in trees:
            length = len(tree.trunk.token_ids)
            most = _POOL_BATCHES * self._num_rows(length)
            fits = _POOL_BYTES // (length * self._passes.bytes_per_column)
            most = max(self._batch_size, min(most, fits))
            if pool and (len(pool) >= most or family(pool[0]) != family(tree)):
                yield pool
                pool = []
            pool.append(tree)
        if pool:
            yield pool

    def _run_prefix(self, pool):
        """Run the prefix of all trunks, and return its length; 0 if it is short."""
        if not self._passes.can_move:
            return 0
        shared = _common_prefix([tree.trunk.token_ids for tree in pool])
        shared = shared[: min(tree.first_scored for tree in pool)]
        if len(shared) * (len(pool) - 1) < _LEAST_SAVED:
            return 0
        if self._prefix[: len(shared)] != shared:
            cache = self._passes.empty(1, len(shared))
            token_ids, start = np.array([shared], np.int32), np.zeros(1, np.int32)
            self._prefix_cache = self._passes.fill(token_ids, cache, 0, start)
            self._prefix = shared
        return len(shared)

    def _run_trunks(self, trees, prefix, width, length):
        """Yield the scores of trunks, and return their cache.

        Trunks are padded on the left, so that all of them end in the last column.

        Args:
            trees: The trees.
            prefix: Number of tokens of the shared prefix, which are not run again.
            width: Number of columns.
            length: Number of columns of the cache.
        """
        rows = [tree.trunk for tree in trees]
        starts = np.array([width - len(row.token_ids) for row in rows], np.int32)
        token_ids = _padded(rows, width, on_the_left=True)
        rows = [
            _Row(row.token_ids, [t._replace(column=t.column + start) for t in row.targets])
            for row, start in zip(rows, starts.tolist(), strict=True)
        ]
        if prefix:
            same = np.zeros(len(rows), np.int32)
            cache = self._passes.take(self._prefix_cache, same, length, starts)
        else:
            cache = self._passes.empty(len(rows), length)
        scored = min(target.column for row in rows for target in row.targets)
        if scored > prefix:
            cache = self._passes.fill(token_ids[:, prefix:scored], cache, prefix, starts)
        return (yield from self._score(rows, token_ids, scored, cache, 0, starts))

    def _run_branches(self, pool, batch, cache, width):
        """Yield the scores of branches, which follow the trunks of a pool.

        Args:
            pool: The trees of the pool.
            batch: `(number of the tree, row)` of each branch.
            cache: The cache of all trunks.
            width: Number of its filled columns.
        """
        numbers, rows = zip(*batch, strict=True)
        starts = [width - len(pool[i].trunk.token_ids) for i in numbers]
        token_ids = _padded(rows)
        none = np.zeros(len(rows), np.int32)
        length = width + token_ids.shape[1]
        cache = self._passes.take(cache, np.array(numbers, np.int32), length, none)
        yield from self._score(rows, token_ids, 0, cache, width, np.array(starts, np.int32))

    def _score(self, rows, token_ids, first, cache, index, starts):
        """Run the columns from `first` on, yield scores, and return the cache.

        Long rows run in several steps, which limits the memory for the logits.
        """
        step = max(1, _LOGITS_BYTES // (4 * self._vocabulary_size * len(rows)))
        for begin in range(first, token_ids.shape[1], step):
            end = min(begin + step, token_ids.shape[1])
            chosen, targets = _targets(rows, begin, end)
            *found, cache = self._passes.score(
                token_ids[:, begin:end], cache, index + begin, starts, targets
            )
            yield chosen, *(part.numpy() for part in found)
        return cache

    def _branch_batches(self, pool, branches):
        """Yield lists of branches; their padding ends before the last position."""
        batch, longest = [], 0
        for branch in branches:
            longest = max(longest, len(pool[branch[0]].trunk.token_ids))
            if batch:
                width = len(batch[0][1].token_ids)
                is_too_long = self._limit is not None and longest + width > self._limit
                if len(batch) >= self._num_rows(width) or is_too_long:
                    yield batch
                    batch, longest = [], len(pool[branch[0]].trunk.token_ids)
            batch.append(branch)
        yield batch


def _targets(rows, first, end):
    """Return the targets in a range of columns, in a list and as `Targets`."""
    chosen, cells = [], []
    for i, row in enumerate(rows):
        for target in row.targets:
            if first <= target.column < end:
                chosen.append(target)
                cells.append((i, target.column - first, target.token_id))
    columns = np.array(cells, np.int32).reshape(-1, 3).T
    return chosen, Targets(*map(tf.constant, columns))


def _padded(rows, width=None, on_the_left=False):
    """Return the tokens of rows as an int32 matrix, padded with 0."""
    rows = [row.token_ids for row in rows]
    padded = np.zeros((len(rows), max(map(len, rows)) if width is None else width), np.int32)
    for line, row in zip(padded, rows, strict=True):
        if on_the_left:
            line[len(line) - len(row) :] = row
        else:
            line[: len(row)] = row
    return padded
