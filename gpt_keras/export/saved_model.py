"""A SavedModel that takes strings and returns strings, with nothing but TensorFlow to run it."""

import contextlib

import tensorflow as tf

from gpt_keras.atomic import atomic_directory, check_empty_directory
from gpt_keras.backend import require_tensorflow
from gpt_keras.generation import row_seeds
from gpt_keras.models.backbone import make_generator
from gpt_keras.models.causal_lm import CausalLM


def saved_model(model: CausalLM, directory, jit_compile: bool = True) -> None:
    """Write a model as a SavedModel with its tokenizer, KV cache and sampling inside.

    What it holds needs TensorFlow alone, no gpt_keras and no keras (with a
    `SentencePieceTokenizer` inside, tensorflow-text, too). Its functions, which are its signatures:

    - `generate(text, max_new_tokens, temperature, top_k, top_p, seed)`, also `serving_default`:
      `text` is a `(batch,)` string tensor, the others are scalars (`int32`, `float32`, `int32`,
      `float32`, `int64`); `temperature=0` is greedy, `top_k=0` and `top_p=1` are off. Returns
      `{"text": (batch,) strings}`, prompts included. The text is that of `model.generate` with the
      same settings and seed.
    - `logits(token_ids)`: `(batch, length)` int32 to `(batch, length, vocabulary_size)` float32.

    A model without a tokenizer gets `logits` alone.

    Args:
        model: a `CausalLM`.
        directory: a new or empty directory; it appears whole or not at all.
        jit_compile: whether the step for one token is compiled by XLA. With it generation is
            several times faster in Python and in any server that runs XLA functions on its device;
            TensorFlow Serving on a CPU does so only when told to by a flag, so export with False
            for a server that refuses.

    Raises:
        ValueError: the directory is not empty, or the model cannot generate.

    Example:
        >>> import gpt_keras as gk
        >>> import tempfile, tensorflow as tf
        >>> config = gk.GPTConfig(vocabulary_size=4, max_sequence_length=16, num_layers=1,
        ...                       num_heads=2, hidden_dim=8)
        >>> model = gk.GPTCausalLM(config, tokenizer=gk.tokenizers.CharacterTokenizer("abc "))
        >>> directory = tempfile.mkdtemp()
        >>> gk.export.saved_model(model, directory)
        >>> loaded = tf.saved_model.load(directory)
        >>> loaded.generate(text=tf.constant(["abc"]), max_new_tokens=2, temperature=0.0, top_k=0,
        ...                 top_p=1.0, seed=0)["text"].shape
        TensorShape([1])
    """
    require_tensorflow("Export as a SavedModel")
    check_empty_directory(directory)
    module = _Servable(model, jit_compile)
    signatures = {"logits": module.logits}
    if model.tokenizer is not None:
        signatures |= {"generate": module.generate, "serving_default": module.generate}
    else:
        signatures["serving_default"] = module.logits
    with atomic_directory(directory) as folder, _quiet_tensorflow():
        tf.saved_model.save(module, str(folder), signatures=signatures)


@contextlib.contextmanager
def _quiet_tensorflow():
    """Keep TensorFlow from reporting the temporary directory as the one that was written."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


class _Servable(tf.Module):
    """What the SavedModel holds: variables, the tokenizer's tables, and the functions."""

    def __init__(self, model, jit_compile):
        super().__init__(name="gpt_keras")
        self._variables = [variable.value for variable in model.variables]
        self._context = model.max_sequence_length
        self.logits = tf.function(
            lambda token_ids: {"logits": model(token_ids, training=False)},
            input_signature=[tf.TensorSpec([None, None], tf.int32, name="token_ids")],
            autograph=False,
        )
        if model.tokenizer is None:
            return
        self._tokenizer = model.tokenizer.in_graph()
        self._generator = make_generator(model, jit_compile=jit_compile)
        self.generate = tf.function(
            self._generate,
            input_signature=[
                tf.TensorSpec([None], tf.string, name="text"),
                tf.TensorSpec([], tf.int32, name="max_new_tokens"),
                tf.TensorSpec([], tf.float32, name="temperature"),
                tf.TensorSpec([], tf.int32, name="top_k"),
                tf.TensorSpec([], tf.float32, name="top_p"),
                tf.TensorSpec([], tf.int64, name="seed"),
            ],
            autograph=False,
        )

    def _generate(self, text, max_new_tokens, temperature, top_k, top_p, seed):
        token_ids = tf.cast(self._tokenizer(text), tf.int32)
        lengths = tf.cast(token_ids.row_lengths(), tf.int32)
        room = max_new_tokens if self._context is None else self._context - lengths
        limits = tf.minimum(tf.fill(tf.shape(lengths), max_new_tokens), room)
        checks = [
            tf.debugging.assert_positive(lengths, "text must not be empty"),
            tf.debugging.assert_positive(
                limits, "max_new_tokens is below 1, or text leaves no room"
            ),
            tf.debugging.assert_non_negative(temperature, "temperature must be at least 0"),
            tf.debugging.assert_non_negative(top_k, "top_k must be at least 0; 0 is off"),
            tf.debugging.Assert((top_p > 0) & (top_p <= 1), ["top_p must be in (0, 1]", top_p]),
        ]
        with tf.control_dependencies(checks):  # nothing runs before all of them have passed
            lengths, limits = tf.identity(lengths), tf.identity(limits)
            token_ids = token_ids.with_values(tf.identity(token_ids.values)).to_tensor()
            seeds = row_seeds(seed, tf.shape(lengths)[0])
        rows, lengths = self._generator.generate(
            token_ids, lengths, limits, seeds, tf.constant(0), temperature, top_k, top_p
        )
        rows = tf.RaggedTensor.from_tensor(rows, lengths=lengths)
        return {"text": self._tokenizer.detokenize(rows)}
