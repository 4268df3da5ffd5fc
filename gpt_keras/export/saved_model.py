"""A SavedModel that takes strings and returns strings, with nothing but TensorFlow to run it."""

import contextlib
import inspect

import tensorflow as tf

from gpt_keras.atomic import atomic_directory, check_empty_directory
from gpt_keras.backend import require_tensorflow
from gpt_keras.export.served_settings import processor_inputs, read_in_graph
from gpt_keras.generation import Request, Sampling, row_seeds
from gpt_keras.generation.processors import graph_checks
from gpt_keras.generation.stopping import NO_DEADLINE
from gpt_keras.models.backbone import Generators
from gpt_keras.models.causal_lm import CausalLM


def saved_model(model: CausalLM, directory, jit_compile: bool = True) -> None:
    """Write a model as a SavedModel with its tokenizer, KV cache and sampling inside.

    What it holds needs TensorFlow alone, no gpt_keras and no keras (with a
    `SentencePieceTokenizer` inside, tensorflow-text, too). Its functions, which are its signatures:

    - `generate(text, max_new_tokens=100, seed=0, stop=[], time_limit=0, ...)`, where `...` are the
      logits processors of `model.generate` (`gk.generation.PROCESSORS`): `temperature=1.0`,
      `top_k=0` and so on; their values for off, which a call from Python may leave out, are 0 for
      `top_k`, the penalties and the counts, 1 for `top_p` and `typical_p`, and no strings for
      `bad_words` and `choices`. `text` is a `(batch,)` string tensor. Returns
      `{"text": (batch,) strings}`, prompts included: the texts of `model.generate` with the same
      settings and seed.
    - `serving_default(text, max_new_tokens, temperature, top_k, top_p, seed)`: the same with those
      settings alone, since a server asks for every input of a signature.
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
        >>> loaded.generate(text=["abc"], max_new_tokens=2, temperature=0.0)["text"].shape
        TensorShape([1])
    """
    require_tensorflow("Export as a SavedModel")
    check_empty_directory(directory)
    module = _Servable(model, jit_compile)
    signatures = {"logits": module.logits}
    if model.tokenizer is not None:
        signatures |= {"generate": module.generate, "serving_default": module.serve}
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


# The inputs of `serving_default`: a server wants all inputs of a signature in every request.
_SERVED = ("text", "max_new_tokens", "temperature", "top_k", "top_p", "seed")


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
        # The start of text, where the tokenizer adds it, is no part of what is returned.
        self._num_added = len(model.tokenizer.prompt_start)
        self._generator = Generators(model, jit_compile).get(Sampling())
        inputs = _inputs()
        self.generate = _function(self._generate, inputs)
        self.serve = _function(self._generate, {name: inputs[name] for name in _SERVED})

    def _generate(self, given):
        text, max_new_tokens = given["text"], given["max_new_tokens"]
        token_ids = tf.cast(self._tokenizer(text, add_start_of_text=True), tf.int32)
        lengths = tf.cast(token_ids.row_lengths(), tf.int32)
        room = max_new_tokens if self._context is None else self._context - lengths
        limits = tf.minimum(tf.fill(tf.shape(lengths), max_new_tokens), room)
        settings = read_in_graph(given, self._tokenizer)
        time_limit = given["time_limit"]
        checks = [
            *graph_checks(settings),
            tf.debugging.assert_positive(lengths, "text must not be empty"),
            tf.debugging.assert_positive(
                limits, "max_new_tokens is below 1, or text leaves no room"
            ),
            tf.debugging.assert_positive(
                tf.strings.length(given["stop"]), "stop must not hold an empty string"
            ),
            tf.debugging.assert_non_negative(time_limit, "time_limit must be at least 0; 0 is off"),
        ]
        with tf.control_dependencies(checks):  # nothing runs before all of them have passed,
            now = tf.timestamp()
        with tf.control_dependencies([now]):  # nor before the clock has been read
            lengths, limits = tf.identity(lengths), tf.identity(limits)
            token_ids = token_ids.with_values(tf.identity(token_ids.values)).to_tensor()
            seeds = row_seeds(given["seed"], tf.shape(lengths)[0])
        seconds = tf.where(time_limit > 0, tf.cast(time_limit, tf.float64), NO_DEADLINE)
        settings |= {"stop": given["stop"], "deadline": now + seconds}

        request = Request(token_ids, lengths, limits, seeds, cache_length=tf.constant(0))
        state = self._generator.start_in_graph(request)
        state = self._generator.advance_in_graph(state, tf.int32.max, settings)
        found = self._generator.finish_in_graph(state)
        rows = tf.RaggedTensor.from_tensor(found.token_ids[:, 0], lengths=found.lengths[:, 0])
        text = self._tokenizer.detokenize(rows[:, self._num_added :])
        prompts = tf.RaggedTensor.from_tensor(token_ids, lengths)[:, self._num_added :]
        prompts = self._tokenizer.detokenize(prompts)
        text = _cut_at_stop(text, tf.strings.length(prompts), given["stop"])
        # Half a character, where a text ends in one, would be no UTF-8.
        return {"text": tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")}


def _inputs():
    """The inputs of `generate` and their values where they are left out."""
    return {
        "text": (tf.TensorSpec([None], tf.string, "text"), inspect.Parameter.empty),
        "max_new_tokens": (tf.TensorSpec([], tf.int32, "max_new_tokens"), tf.constant(100)),
        "seed": (tf.TensorSpec([], tf.int64, "seed"), tf.constant(0, tf.int64)),
        "stop": (tf.TensorSpec([None], tf.string, "stop"), tf.constant([], tf.string)),
        "time_limit": (tf.TensorSpec([], tf.float32, "time_limit"), tf.constant(0.0)),
        **processor_inputs(),
    }


def _function(run, inputs):
    """A `tf.function` with these inputs, in this order; those that it lacks are off."""
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for name, (_, default) in inputs.items()
    ]
    signature = inspect.Signature(parameters)
    off = {name: default for name, (_, default) in _inputs().items() if name not in inputs}

    def function(*args, **kwargs):
        return run({**off, **signature.bind(*args, **kwargs).arguments})

    function.__signature__ = signature
    specs = [spec for spec, _ in inputs.values()]
    return tf.function(function, input_signature=specs, autograph=False)


def _cut_at_stop(texts, prompt_sizes, stop):
    """The texts without what comes from the first stop string after the prompt on."""
    prompts = tf.strings.substr(texts, tf.zeros_like(prompt_sizes), prompt_sizes)
    rest = tf.strings.substr(texts, prompt_sizes, tf.strings.length(texts) - prompt_sizes)

    def cut(sizes, string):
        first = tf.strings.split(rest, string).to_tensor(shape=[None, None])[:, 0]
        return tf.minimum(sizes, tf.strings.length(first))

    sizes = tf.foldl(cut, stop, initializer=tf.strings.length(rest))
    return tf.strings.join([prompts, tf.strings.substr(rest, tf.zeros_like(sizes), sizes)])
