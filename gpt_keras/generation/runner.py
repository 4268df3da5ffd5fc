"""Compiled step of a backbone, for single tokens and for prompts in chunks."""

import tensorflow as tf

# Sizes of the chunks in which a prompt is run. XLA compiles each size once. The short size saves
# time for short prompts. The long size saves time for long prompts, because each chunk reads all
# weights once. A batch of several rows amortizes the weights too, so it uses the short size.
CHUNKS = (32, 128)


class Runner:
    """Compiled step of a backbone: it runs new tokens against the KV cache.

    XLA compiles the step, which returns the logits and only the new part of the cache. The loop
    around the step is an ordinary TensorFlow graph that updates the cache in place. On a CPU,
    compiling the whole loop with XLA makes it several times slower.

    Args:
        backbone: A model with the cache protocol: `initial_cache`, `extend`, `write`.
        vocabulary_size: Number of logits to return. A model may have more logits than its tokenizer
            has tokens. None: all logits.
        jit_compile: Whether XLA compiles the step.
    """

    def __init__(self, backbone, vocabulary_size: int | None = None, jit_compile: bool = True):
        self.backbone = backbone
        self.vocabulary_size = vocabulary_size
        self.jit_compile = jit_compile
        self._fill = self._compiled(self._fill_step)
        self._extend = self._compiled(self._extend_step)
        self._extend_one_row = self._compiled(self._extend_one_row_step)

    def _compiled(self, step):
        return tf.function(
            step, jit_compile=self.jit_compile, autograph=False, reduce_retracing=True
        )

    def _fill_step(self, token_ids, cache, index, starts, options):
        return self.backbone.extend(token_ids, cache, index, starts, **options)[1]

    def _extend_step(self, token_ids, cache, index, starts, options):
        logits, update = self.backbone.extend(token_ids, cache, index, starts, **options)
        return tf.cast(logits[:, :, : self.vocabulary_size], tf.float32), update

    def _extend_one_row_step(self, token_ids, cache, index, starts, options):
        # The static shapes are set inside the XLA function. If a branch of `tf.cond` set them,
        # TensorFlow's graph optimizer would apply them to the other branch too.
        for part in tf.nest.flatten((token_ids, cache, starts)):
            part.set_shape([1, *part.shape[1:]])
        return self._extend_step(token_ids, cache, index, starts, options)

    def extend(self, token_ids, cache, index, starts, options):
        """Run new tokens against the cache.

        The step for one token of one row is traced separately with a static shape, because layers
        have faster code for it; see `layers.xla_cpu`.

        Args:
            token_ids: `(rows, new)` int32.
            cache: The backbone's cache.
            index: Scalar, column in the cache of the first new token.
            starts: `(rows,)`, column of each row's first token.
            options: Dict of further arguments of the backbone's `extend`.

        Returns:
            `(logits, update)`: float32 `(rows, new, vocabulary_size)`, and the new tokens' part of
            the cache.
        """
        inputs = token_ids, cache, index, starts, options
        num_rows, num_new = token_ids.shape
        if num_rows is not None or num_new != 1 or not self.jit_compile:
            return self._extend(*inputs)
        return tf.cond(
            tf.shape(token_ids)[0] == 1,
            lambda: self._extend_one_row(*inputs),
            lambda: self._extend(*inputs),
        )

    def chunk_size(self, num_rows, num_tokens):
        """Return the size of the chunks in which `fill` runs tokens, a scalar.

        Args:
            num_rows: Scalar, number of rows.
            num_tokens: Scalar, number of tokens of each row.
        """
        short, long = CHUNKS
        return tf.where((num_tokens <= short) | (num_rows * short >= long), short, long)

    def fill(self, token_ids, cache, index, starts, options):
        """Fill the cache with the tokens of prompts, in chunks, without their logits.

        XLA removes the output projection from this step, because the step returns only the cache.

        Args:
            token_ids: `(rows, columns)` int32. The columns from `index` to the last but one are
                run; their number must be a multiple of `chunk_size`.
            cache: The backbone's cache, filled up to `index`.
            index: Scalar, column of the first token to run.
            starts: `(rows,)`, column of each row's first token.
            options: Dict of further arguments of the backbone's `extend`.

        Returns:
            The filled cache.
        """
        end = tf.shape(token_ids)[1] - 1
        chunk = self.chunk_size(tf.shape(token_ids)[0], end - index)

        def run_chunk(index, cache):
            update = self._fill(token_ids[:, index : index + chunk], cache, index, starts, options)
            return index + chunk, self.backbone.write(cache, update, index)

        return tf.while_loop(lambda index, _: index < end, run_chunk, (index, cache))[1]
