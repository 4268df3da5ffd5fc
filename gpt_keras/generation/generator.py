"""The generation loop: written once, for every strategy, `stream` and the SavedModel."""

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

# A sliding window has room for so many tokens more, and moves when they are used up.
_SLIDE = 64


class Generator:
    """The generation loop of a backbone, with one strategy.

    The step is compiled (see `Runner`); drawing tokens is an ordinary TensorFlow graph around it,
    since random numbers differ inside XLA and outside.

    Args:
        runner: The backbone's `Runner`.
        strategy: How tokens are chosen: a `Strategy`, such as `Sampling()`.
        rules: Which tokens may come and where a text ends.
        keep_log_probs: Whether the log-probabilities of the tokens are kept.
        window: With a number, a token sees so many tokens at most, itself among them, and the
            cache holds little more than those; the backbone must take `window` in `extend`. None:
            a token sees all before it.
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

    # Compiled functions for calls from Python, each traced once whatever the shapes

    @functools.cached_property
    def run(self):
        """`run(request, settings) -> state`, compiled: `start` and all steps in one graph.

        A call of `advance` copies the cache once, since its caller still has the state from before.
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

    # The same for use inside another graph

    def start_in_graph(self, request, prefix=None):
        """Run all tokens of the prompts but the last, whose successor is the first to be drawn.

        The loop then treats the last token of a prompt like any other.

        Args:
            request: A `Request`.
            prefix: A `Prefix` of all prompts, which then is not run again.

        Returns:
            A `State`.
        """
        known = 0 if prefix is None else prefix.length
        num_rows, longest = tf.unstack(tf.shape(request.token_ids))
        chunk = self.runner.chunk_size(num_rows, longest - 1 - known)
        num_chunks = -(-(longest - 1 - known) // chunk)
        # Left padding makes all rows end in the same column.
        width = known + num_chunks * chunk + 1
        starts = width - request.lengths
        padded = _to_the_right(request.token_ids, starts, width)
        steps = tf.maximum(tf.reduce_max(request.limits), 0)
        cache_length = self.cache_length(width, steps, request.cache_length)
        steps += self.strategy.block - 1  # guesses may run past the limit

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
        """Take up to `steps` steps for the rows that are not finished."""

        def is_open(step, state):
            return (step < steps) & ~tf.reduce_all(state.finished)

        def body(step, state):
            state, proposals = self.strategy.propose(state, self.rules, settings)
            token_ids = state.token_ids[:, state.index, None]  # (rows, 1)
            if proposals is not None:
                token_ids = tf.concat([token_ids, proposals.token_ids], axis=1)
            if self.window is not None:
                state = self._slide(state)
            # A finished row goes on in its batch unread; as if it began here, so that its position
            # does not run past the last one that the model has.
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
        """Return for how many columns a cache is made, a scalar tensor.

        Args:
            width: How many columns the prompts take, padding and all.
            steps: How many tokens are to be generated at most.
            least: How many columns it must have.
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
        """Make room where the cache is full, by dropping the columns on its left."""
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
    """Return the settings that `advance` takes: logits processors, stop strings, deadline."""
    return tensor_specs() | STOP_SPECS


# A model that diverged in training would generate token 0 for ever.
NAN_MESSAGE = (
    "The logits are NaN: weights of the model are not finite, or its dtype overflows. Load weights "
    "from before the loss became NaN."
)


def _without_nan(logits, finished):
    """The logits, in a graph that fails where those of a row that is not finished are NaN."""
    is_nan = tf.reduce_any(tf.math.is_nan(logits), axis=[1, 2]) & ~finished
    check = tf.debugging.Assert(~tf.reduce_any(is_nan), [NAN_MESSAGE])
    with tf.control_dependencies([check]):
        return tf.identity(logits)


def _compiled(method, *specs):
    # TensorFlow warns where one piece of code is traced often, as a method of several generators
    # would be; a `partial` counts by itself.
    return tf.function(functools.partial(method), input_signature=specs, autograph=False)


def _specs(tensors):
    return tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), tensors)


def _to_the_right(token_ids, starts, width):
    """Move rows padded on the right so that they begin at `starts` and end at `width`."""
    columns = tf.range(width)[None, :] - starts[:, None]
    padded = tf.gather(
        token_ids, tf.clip_by_value(columns, 0, tf.shape(token_ids)[1] - 1), batch_dims=1
    )
    return tf.where(columns >= 0, padded, 0)
