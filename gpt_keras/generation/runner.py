"""A backbone's step, compiled, and the running of prompts in pieces of few sizes."""

import tensorflow as tf

# How many tokens of a prompt are run at once. Each size is compiled once; a short prompt need not
# pay for a long chunk, and a long chunk uses the weights that it reads for more tokens.
CHUNKS = (32, 128)


class Runner:
    """Runs new tokens of a backbone against its cache.

    XLA compiles the step, which returns only logits and what is new in the cache. The loop around
    it and the writing of the cache are an ordinary TensorFlow graph, in which the cache is updated
    in place: compiling the whole loop is several times slower on a CPU.

    Args:
        backbone: a model with the cache protocol: `initial_cache`, `extend`, `write`.
        vocabulary_size: logits of ids from here on are left out: a model may have more rows than
            its tokenizer has tokens. None: all are given.
        jit_compile: whether XLA compiles the step.
    """

    def __init__(self, backbone, vocabulary_size: int | None = None, jit_compile: bool = True):
        self.backbone = backbone
        self.vocabulary_size = vocabulary_size
        options = dict(jit_compile=jit_compile, autograph=False, reduce_retracing=True)
        self._fill = tf.function(self._fill_step, **options)
        self.extend = tf.function(self._extend_step, **options)

    def _fill_step(self, token_ids, cache, index, starts, options):
        return self.backbone.extend(token_ids, cache, index, starts, **options)[1]

    def _extend_step(self, token_ids, cache, index, starts, options):
        """Run new tokens.

        Args:
            token_ids: `(rows, new)`.
            cache: the backbone's cache.
            index: scalar, column in the cache of the first new token.
            starts: `(rows,)`, column of each row's first token.
            options: further arguments of the backbone's `extend`.

        Returns:
            `(logits, update)`: float32 `(rows, new, vocabulary_size)`, and what is new in the
            cache.
        """
        logits, update = self.backbone.extend(token_ids, cache, index, starts, **options)
        return tf.cast(logits[:, :, : self.vocabulary_size], tf.float32), update

    def chunk_size(self, num_tokens):
        """Return the size of the chunks in which so many tokens are run, a scalar tensor."""
        short, long = CHUNKS
        return tf.where(num_tokens <= short, short, long)

    def fill(self, token_ids, cache, index, starts, options):
        """Run tokens whose logits are not needed, in chunks.

        No logits are computed: XLA drops the output projection of a step that returns only its
        cache.

        Args:
            token_ids: `(rows, columns)`; its columns from `index` on are run but for the last, and
                are a multiple of `chunk_size` without it.
            cache: the backbone's cache, filled up to `index`.
            index: scalar.
            starts: `(rows,)`, column of each row's first token.
            options: further arguments of the backbone's `extend`.

        Returns:
            The filled cache.
        """
        end = tf.shape(token_ids)[1] - 1
        chunk = self.chunk_size(end - index)

        def run_chunk(index, cache):
            update = self._fill(token_ids[:, index : index + chunk], cache, index, starts, options)
            return index + chunk, self.backbone.write(cache, update, index)

        return tf.while_loop(lambda index, _: index < end, run_chunk, (index, cache))[1]
