"""The generation loop: written once, used by `generate`, `stream` and the SavedModel."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from gpt_keras.generation.kv_cache import bucket_length
from gpt_keras.generation.logits_processors import process
from gpt_keras.generation.sampling import sample, uniforms

# How many tokens of a prompt are run at once: short prompts need not pay for a long chunk.
_SHORT_CHUNK, _CHUNK = 32, 64


class State(NamedTuple):
    """What one step of generation hands to the next.

    Attributes:
        cache: the backbone's cache, filled up to `index`.
        token_ids: `(batch, columns)` int32, prompts padded on the left, then what was generated.
        index: scalar, column of the newest token, whose successor comes next.
        step: scalar, how many steps have been taken.
        starts: `(batch,)`, column of each row's first token.
        lengths: `(batch,)`, tokens of each row so far, those of the prompt included.
        max_lengths: `(batch,)`, how many each row may have.
        finished: `(batch,)` bool.
        uniforms: `(batch, steps)`, the random number of each row at each step.
    """

    cache: Any
    token_ids: tf.Tensor
    index: tf.Tensor
    step: tf.Tensor
    starts: tf.Tensor
    lengths: tf.Tensor
    max_lengths: tf.Tensor
    finished: tf.Tensor
    uniforms: tf.Tensor


class Generator(tf.Module):
    """Generates token ids with any backbone that has `initial_cache`, `extend` and `write`.

    The step for one token is compiled by XLA and returns only logits and what is new in the cache;
    the loop around it, sampling and the writing of the cache are an ordinary TensorFlow graph, in
    which the cache is updated in place. Compiling the whole loop is several times slower on a CPU,
    and random numbers differ inside XLA and outside.

    Args:
        backbone: a model with the cache protocol.
        end_token_ids: ids that end a row, each.
        vocabulary_size: ids from here on are never drawn: a model may have more rows than its
            tokenizer has tokens. None: all may be.
        jit_compile: whether XLA compiles the step.
    """

    def __init__(
        self,
        backbone,
        end_token_ids: Sequence[int] = (),
        vocabulary_size: int | None = None,
        jit_compile: bool = True,
    ):
        super().__init__(name="generator")
        self.backbone = backbone
        self.vocabulary_size = vocabulary_size
        self.end_token_ids = tuple(end_token_ids)
        self._prefill = tf.function(
            self._prefill_step, jit_compile=jit_compile, autograph=False, reduce_retracing=True
        )
        self._decode = tf.function(
            self._decode_step, jit_compile=jit_compile, autograph=False, reduce_retracing=True
        )
        int32, float32 = tf.int32, tf.float32
        prompts = (
            tf.TensorSpec([None, None], int32, "token_ids"),
            tf.TensorSpec([None], int32, "lengths"),
            tf.TensorSpec([None], int32, "limits"),
            tf.TensorSpec([None], tf.int64, "seeds"),
            tf.TensorSpec([], int32, "cache_length"),
        )
        settings = (
            tf.TensorSpec([], float32, "temperature"),
            tf.TensorSpec([], int32, "top_k"),
            tf.TensorSpec([], float32, "top_p"),
        )
        self.generate = tf.function(
            self._generate, input_signature=(*prompts, *settings), autograph=False
        )
        self.start = tf.function(self._start, input_signature=prompts, autograph=False)
        self.advance = tf.function(self._advance, autograph=False, reduce_retracing=True)

    def _generate(self, token_ids, lengths, limits, seeds, cache_length, temperature, top_k, top_p):
        """Continue each prompt.

        Args:
            token_ids: `(batch, longest)` int32, prompts padded on the right.
            lengths: `(batch,)` int32, tokens of each prompt, at least 1.
            limits: `(batch,)` int32, how many tokens each row may get.
            seeds: `(batch,)` int64, one for each row.
            cache_length: scalar int32, for how many tokens there is to be room at least.
            temperature: scalar; 0 takes the most likely token.
            top_k: scalar; 0 is off.
            top_p: scalar in (0, 1]; 1 is off.

        Returns:
            `(token_ids, lengths)`: prompts and continuations padded on the right, without the
            token that ended them.
        """
        state = self._start(token_ids, lengths, limits, seeds, cache_length)
        steps = tf.reduce_max(limits, axis=0)
        state = self._advance(state, steps, temperature, top_k, top_p)
        return self.sequences(state)

    def _start(self, token_ids, lengths, limits, seeds, cache_length):
        """Run all tokens of the prompts but the last, whose successor is the first to be drawn.

        The loop then treats the last token of a prompt like any other, and no logits are computed
        here: XLA drops the output projection of a step that returns only its cache.

        They are run in chunks of one size, so that a longer prompt brings no new shape to compile.
        """
        num_before = tf.shape(token_ids)[1] - 1
        chunk = tf.where(num_before <= _SHORT_CHUNK, _SHORT_CHUNK, _CHUNK)
        num_chunks = -(-num_before // chunk)
        # Left padding makes all rows end at the same column, so that one scalar index serves.
        width = num_chunks * chunk + 1
        starts = width - lengths
        columns = tf.range(width)[None, :] - starts[:, None]
        last = tf.shape(token_ids)[1] - 1
        padded = tf.gather(token_ids, tf.clip_by_value(columns, 0, last), batch_dims=1)
        padded = tf.where(columns >= 0, padded, 0)

        batch_size, steps = tf.shape(token_ids)[0], tf.maximum(tf.reduce_max(limits), 0)
        length = bucket_length(tf.maximum(width - 1 + steps, cache_length))
        cache = self.backbone.initial_cache(batch_size, length)

        def run_chunk(number, cache):
            index = number * chunk
            update = self._prefill(padded[:, index : index + chunk], cache, index, starts)
            return number + 1, self.backbone.write(cache, update, index)

        _, cache = tf.while_loop(lambda number, _: number < num_chunks, run_chunk, (0, cache))
        return State(
            cache=cache,
            token_ids=tf.pad(padded, [[0, 0], [0, steps]]),
            index=width - 1,
            step=tf.constant(0),
            starts=starts,
            lengths=lengths,
            max_lengths=lengths + limits,
            finished=limits <= 0,
            uniforms=uniforms(seeds, steps),
        )

    def _advance(self, state, steps, temperature, top_k, top_p):
        """Draw up to `steps` tokens for each row that is not finished."""
        last = state.index + steps

        def body(state):
            token = state.token_ids[:, state.index, None]  # (batch, 1)
            # A finished row goes on in its batch unread; as if it began here, so that its position
            # does not run past the last one that the model has.
            starts = tf.where(state.finished, state.index, state.starts)
            logits, update = self._decode(token, state.cache, state.index, starts)
            drawn = tf.cond(
                temperature > 0,
                lambda: sample(
                    process(logits, temperature, top_k, top_p), state.uniforms[:, state.step]
                ),
                lambda: tf.argmax(logits, axis=-1, output_type=tf.int32),
            )
            ends = [tf.equal(drawn, token_id) for token_id in self.end_token_ids]
            finished = functools.reduce(tf.logical_or, ends, state.finished)
            lengths = state.lengths + tf.cast(~finished, tf.int32)
            new_state = State(
                cache=self.backbone.write(state.cache, update, state.index),
                token_ids=_write_column(
                    state.token_ids, tf.where(finished, 0, drawn), state.index + 1
                ),
                index=state.index + 1,
                step=state.step + 1,
                starts=state.starts,
                lengths=lengths,
                max_lengths=state.max_lengths,
                finished=finished | (lengths >= state.max_lengths),
                uniforms=state.uniforms,
            )
            return [new_state]  # as many as the loop variables: one

        return tf.while_loop(
            lambda state: (state.index < last) & ~tf.reduce_all(state.finished), body, [state]
        )[0]

    def sequences(self, state):
        """Return `(token_ids, lengths)` of a state: rows moved to column 0."""
        width = tf.shape(state.token_ids)[1]
        columns = tf.minimum(tf.range(width)[None, :] + state.starts[:, None], width - 1)
        return tf.gather(state.token_ids, columns, batch_dims=1), state.lengths

    def _prefill_step(self, token_ids, cache, index, starts):
        return self.backbone.extend(token_ids, cache, index, starts)[1]

    def _decode_step(self, token, cache, index, starts):
        logits, update = self.backbone.extend(token, cache, index, starts)
        return tf.cast(logits[:, -1, : self.vocabulary_size], tf.float32), update


def _write_column(token_ids, column, index):
    written = tf.raw_ops.TensorStridedSliceUpdate(
        input=token_ids,
        begin=tf.stack([0, index]),
        end=tf.stack([0, index + 1]),
        strides=[1, 1],
        value=column[:, None],
        begin_mask=0b01,  # every row
        end_mask=0b01,
    )
    written.set_shape(token_ids.shape)
    return written
