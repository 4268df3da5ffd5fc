"""The compiled step of a backbone, and prompts run in chunks of few sizes."""

import tensorflow as tf

# How many tokens of a prompt are run at once. Each size is compiled once; a short prompt need not
# pay for a long chunk, and a long chunk uses the weights that it reads for more tokens. So do
# several rows, for which the short one is enough.
CHUNKS = (32, 128)


class Runner:
    """The compiled step of a backbone: new tokens run against its cache.

    XLA compiles the step, which returns only logits and what is new in the cache. The loop around
    it and the writing of the cache are an ordinary TensorFlow graph, in which the cache is updated
    in place: compiling the whole loop is several times slower on a CPU.

    Args:
        backbone: A model with the cache protocol: `initial_cache`, `extend`, `write`.
        vocabulary_size: Logits of ids from here on are left out: a model may have more rows than
            its tokenizer has tokens. None: all are given.
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
        # In here, where XLA alone optimizes the graph: TensorFlow's optimizer would take a shape
        # that is known in one branch for that of the tensor in the other branch, too.
        for part in tf.nest.flatten((token_ids, cache, starts)):
            part.set_shape([1, *part.shape[1:]])
        return self._extend_step(token_ids, cache, index, starts, options)

    def extend(self, token_ids, cache, index, starts, options):
        """Run new tokens.

        One token of one row is a step of its own: layers that know it when they are traced have
        faster ways for it, see `layers.xla_cpu`.

        Args:
            token_ids: `(rows, new)`.
            cache: The backbone's cache.
            index: Scalar, column in the cache of the first new token.
            starts: `(rows,)`, column of each row's first token.
            options: Further arguments of the backbone's `extend`.

        Returns:
            `(logits, update)`: float32 `(rows, new, vocabulary_size)`, and what is new in the
            cache.
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
        """Return the size of the chunks for `num_tokens` tokens of each row, a scalar."""
        short, long = CHUNKS
        return tf.where((num_tokens <= short) | (num_rows * short >= long), short, long)

    def fill(self, token_ids, cache, index, starts, options):
        """Run tokens whose logits are not needed, in chunks.

        No logits are computed: XLA drops the output projection of a step that returns only its
        cache.

        Args:
            token_ids: `(rows, columns)`; its columns from `index` on are run but for the last, and
                are a multiple of `chunk_size` without it.
            cache: The backbone's cache, filled up to `index`.
            index: Scalar.
            starts: `(rows,)`, column of each row's first token.
            options: Further arguments of the backbone's `extend`.

        Returns:
            The filled cache.
        """
        end = tf.shape(token_ids)[1] - 1
        chunk = self.chunk_size(tf.shape(token_ids)[0], end - index)

        def run_chunk(index, cache):
            update = self._fill(token_ids[:, index : index + chunk], cache, index, starts, options)
            return index + chunk, self.backbone.write(cache, update, index)

        return tf.while_loop(lambda index, _: index < end, run_chunk, (index, cache))[1]
