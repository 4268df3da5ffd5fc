"""Generation loop, shared by all strategies, `stream` and the SavedModel."""

import functools

import tensorflow as tf

from gpt_keras.generation.lengths import bucket_length
from gpt_keras.generation.processors import tensor_specs
from gpt_keras.generation.runner import Runner
from gpt_keras.generation.sampling import uniforms
from gpt_keras.generation.state import REQUEST_SPEC, Prefix, State
from gpt_keras.generation.stopping import STOP_SPECS, Rules
from gpt_keras.generation.strategies import Strategy
from gpt_keras.layers.kv_cache import num_columns

# The cache of a sliding window has this many extra columns. When they are full, it is moved to the
# left by as many columns, so that it is not moved at every step.
_SLIDE = 64


class Generator:
    """Generation loop of a backbone with one strategy.

    XLA compiles the backbone's step (see `Runner`). Tokens are sampled outside XLA, in an ordinary
    TensorFlow graph, because XLA generates other random numbers.

    Args:
        runner: The backbone's `Runner`.
        strategy: The decoding strategy, such as `Sampling()`.
        rules: The `Rules` for the next token and for the end of a text.
        keep_log_probs: Whether the log-probabilities of the tokens are kept.
        window: Number of tokens that a token attends to at most, itself included. The cache then
            holds little more than `window` tokens, and the backbone's `extend` must accept
            `window`. None: a token attends to all earlier tokens.
    """

    def __init__(
        self,
        runner: Runner,
        strategy: Strategy,
        rules: Rules,
        keep_log_probs: bool = False,
        window: int | None = None,
    ):
        self.runner = runner
        self.strategy = strategy
        self.rules = rules
        self.keep_log_probs = keep_log_probs or strategy.needs_log_probs
        self.window = window

    # Compiled functions for calls from Python. Each has an input signature and is traced once.

    @functools.cached_property
    def run(self):
        """`run(request, settings) -> state`, compiled: `start` and all steps in one graph.

        It is faster than `start` and `advance`: each call of `advance` copies the cache, because
        its caller still holds the earlier state.
        """
        return _compiled(self._run_in_graph, REQUEST_SPEC, settings_specs())

    @functools.cached_property
    def run_from(self):
        """`run_from(request, settings, prefix) -> state`, compiled; see `run`."""
        return _compiled(self._run_in_graph, REQUEST_SPEC, settings_specs(), self._prefix_spec)

    @functools.cached_property
    def start(self):
        """`start(request) -> state`, compiled; see `start_in_graph`."""
        return _compiled(self.start_in_graph, REQUEST_SPEC)

    @functools.cached_property
    def start_from(self):
        """`start_from(request, prefix) -> state`, compiled; see `start_in_graph`."""
        return _compiled(self.start_in_graph, REQUEST_SPEC, self._prefix_spec)

    @functools.cached_property
    def advance(self):
        """`advance(state, steps, settings) -> state`, compiled; see `advance_in_graph`."""
        steps = tf.TensorSpec([], tf.int32, "steps")
        return _compiled(self.advance_in_graph, self._state_spec, steps, settings_specs())

    @functools.cached_property
    def finish(self):
        """`finish(state) -> sequences`, compiled."""
        return _compiled(self.finish_in_graph, self._state_spec)

    @property
    def _state_spec(self):
        return _specs(self.start.get_concrete_function().structured_outputs)

    @property
    def _prefix_spec(self):
        scalar = tf.TensorSpec([], tf.int32)
        empty = tf.function(self.runner.backbone.initial_cache, input_signature=[scalar, scalar])
        cache = _specs(empty.get_concrete_function().structured_outputs)
        return Prefix(cache=cache, start=scalar, length=scalar)

    def _run_in_graph(self, request, settings, prefix=None):
        state = self.start_in_graph(request, prefix)
        return self.advance_in_graph(state, tf.int32.max, settings)

    # The same functions, for use inside another graph

    def start_in_graph(self, request, prefix=None):
        """Run the prompts, except for the last token of each, and return the first state.

        The last token of a prompt is the input of the first step of the loop.

        Args:
            request: A `Request`.
            prefix: A `Prefix` with which all prompts begin; it is not run again. None: no prefix.

        Returns:
            A `State`.
        """
        known = 0 if prefix is None else prefix.length
        num_rows, longest = tf.unstack(tf.shape(request.token_ids))
        chunk = self.runner.chunk_size(num_rows, longest - 1 - known)
        num_chunks = -(-(longest - 1 - known) // chunk)
        # With left padding all rows end in the same column, and one scalar index is enough.
        width = known + num_chunks * chunk + 1
        starts = width - request.lengths
        padded = _to_the_right(request.token_ids, starts, width)
        steps = tf.maximum(tf.reduce_max(request.limits), 0)
        cache_length = self.cache_length(width, steps, request.cache_length)
        steps += self.strategy.block - 1  # proposed tokens may exceed the limit

        backbone = self.runner.backbone
        if prefix is None:
            cache = backbone.initial_cache(num_rows, cache_length)
        else:
            cache = backbone.move(prefix.cache, cache_length, starts - prefix.start)
        cache = self.runner.fill(padded, cache, known, starts, self._options())

        copies = self.strategy.copies
        cache, token_ids, starts, lengths, limits = tf.nest.map_structure(
            lambda part: part if copies == 1 else tf.repeat(part, copies, axis=0),
            (cache, padded, starts, request.lengths, request.limits),
        )
        token_ids = tf.pad(token_ids, [[0, 0], [0, steps]])
        state = State(
            cache=cache,
            token_ids=token_ids,
            log_probs=tf.zeros(tf.shape(token_ids)) if self.keep_log_probs else (),
            index=width - 1,
            first=width,
            dropped=tf.constant(0),
            starts=starts,
            lengths=lengths,
            max_lengths=lengths + limits,
            finished=limits <= 0,
            ended=tf.zeros_like(limits, tf.bool),
            uniforms=uniforms(request.seeds, steps),
            memory=(),
        )
        return self.strategy.begin(state, request.seeds)

    def advance_in_graph(self, state, steps, settings):
        """Run up to `steps` steps, or until all rows are finished.

        Args:
            state: The `State`.
            steps: Scalar int32, the largest number of steps.
            settings: Dict of tensors; see `settings_specs`.

        Returns:
            The new `State`.
        """

        def is_open(step, state):
            return (step < steps) & ~tf.reduce_all(state.finished)

        def body(step, state):
            state, proposals = self.strategy.propose(state, self.rules, settings)
            token_ids = state.token_ids[:, state.index, None]  # (rows, 1)
            if proposals is not None:
                token_ids = tf.concat([token_ids, proposals.token_ids], axis=1)
            if self.window is not None:
                state = self._slide(state)
            # A finished row still runs with its batch, and its results are not used. It gets
            # position 0, because its true position may be beyond the model's last one.
            starts = tf.where(state.finished, state.index, state.starts)
            index = state.index - state.dropped
            logits, update = self.runner.extend(
                token_ids, state.cache, index, starts - state.dropped, self._options()
            )
            logits = _without_nan(logits, state.finished)
            cache = self.runner.backbone.write(state.cache, update, index)
            state = self.strategy.take(
                logits, proposals, state._replace(cache=cache), self.rules, settings
            )
            return step + 1, state

        return tf.while_loop(is_open, body, (0, state))[1]

    def finish_in_graph(self, state):
        """Return the `Sequences` of a state."""
        return self.strategy.finish(state)

    def _options(self):
        return {} if self.window is None else {"window": tf.constant(self.window)}

    def cache_length(self, width, steps, least):
        """Return the number of columns of the cache, a scalar tensor.

        Args:
            width: Number of columns of the prompts, padding included.
            steps: Largest number of tokens to generate.
            least: Smallest number of columns that the caller accepts.
        """
        needed = width - 1 + steps + self.strategy.block - 1
        if self.window is not None:
            window = self.window + self.strategy.block - 1
            needed = tf.minimum(needed, tf.maximum(width, window) + self._slide_columns)
        return bucket_length(tf.maximum(needed, least))

    @property
    def _slide_columns(self):
        return max(_SLIDE, self.strategy.block)

    def _slide(self, state):
        """If the cache is full, move it to the left and so drop its oldest columns."""
        length, columns = num_columns(state.cache), self._slide_columns
        offsets = tf.fill(tf.shape(state.starts), -columns)
        cache, dropped = tf.cond(
            state.index - state.dropped + self.strategy.block > length,
            lambda: (
                self.runner.backbone.move(state.cache, length, offsets),
                state.dropped + columns,
            ),
            lambda: (state.cache, state.dropped),
        )
        return state._replace(cache=cache, dropped=dropped)


def settings_specs() -> dict[str, tf.TensorSpec]:
    """Return the specs of the settings of `advance`, by name.

    They are the settings of the logits processors, the stop strings and the deadline.
    """
    return tensor_specs() | STOP_SPECS


# Without this check, a model that diverged in training would generate token 0 until the limit.
NAN_MESSAGE = (
    "The logits are NaN: weights of the model are not finite, or its dtype overflows. Load weights "
    "from before the loss became NaN."
)


def _without_nan(logits, finished):
    """Return the logits; the graph fails if an unfinished row has NaN logits."""
    is_nan = tf.reduce_any(tf.math.is_nan(logits), axis=[1, 2]) & ~finished
    check = tf.debugging.Assert(~tf.reduce_any(is_nan), [NAN_MESSAGE])
    with tf.control_dependencies([check]):
        return tf.identity(logits)


def _compiled(method, *specs):
    # TensorFlow warns if one function is traced often. The methods of several generators would
    # count as one function, but each `partial` counts as its own.
    return tf.function(functools.partial(method), input_signature=specs, autograph=False)


def _specs(tensors):
    return tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), tensors)


def _to_the_right(token_ids, starts, width):
    """Convert right padding to left padding, so that rows begin at `starts`."""
    columns = tf.range(width)[None, :] - starts[:, None]
    padded = tf.gather(
        token_ids, tf.clip_by_value(columns, 0, tf.shape(token_ids)[1] - 1), batch_dims=1
    )
    return tf.where(columns >= 0, padded, 0)
