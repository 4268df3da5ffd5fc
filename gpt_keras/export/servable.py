"""Export as a SavedModel from strings that needs only TensorFlow."""

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from gpt_keras.atomic import atomic_directory, check_empty_directory
from gpt_keras.backend import require_tensorflow
from gpt_keras.export.servable_task import ServableTask
from gpt_keras.export.served_settings import processor_inputs, read_in_graph
from gpt_keras.generation.arguments import check_logits_processors
from gpt_keras.generation.compiled import Generators
from gpt_keras.generation.processors import graph_checks
from gpt_keras.generation.sampling import row_seeds
from gpt_keras.generation.state import Request
from gpt_keras.generation.stopping import NO_DEADLINE
from gpt_keras.generation.strategies import Sampling
from gpt_keras.models.causal_lm import CausalLM
from gpt_keras.models.task_model import TaskModel


def saved_model(
    model: CausalLM | TaskModel,
    directory,
    jit_compile: bool = True,
    logits_processors: Sequence[Callable] = (),
) -> None:
    """Write a model as a SavedModel with its tokenizer, KV cache and sampling.

    The SavedModel runs with TensorFlow alone, without gpt_keras and Keras. With a
    `SentencePieceTokenizer` it also needs tensorflow-text.

    That of a `GPTClassifier` or `GPTMultipleChoice` has the function `classify`, which is also the
    signature `serving_default`. Its inputs are strings: `text`, `(batch,)`, for single texts;
    `text` and `text_pair`, `(batch,)` each, for the layouts `"entailment"` and `"similarity"`;
    `context`, `(batch,)`, and `answers`, `(batch, choices)`, for multiple choice. Its outputs have
    the values of `model.classify`: `label`, `(batch,)`, the name or the number of the most
    probable class or choice, and `probabilities`, `(batch, classes)` or `(batch, choices)` float32.
    A model with `class_names` also has the function `class_names()`, which returns the names in
    the order of the probabilities.

    That of a `CausalLM` has these functions:

    - `generate(text, max_new_tokens=100, seed=0, stop=[], time_limit=0, ...)` generates text.
      `text` is one string or a vector of strings, which may be empty. The result is
      `{"text": ...}`, `(batch,)` strings with prompt and continuation. They are equal to the texts
      of `model.generate` with the same settings and seed.

      The remaining arguments are the logits processors in `gk.generation.PROCESSORS`. By default
      all are off: `temperature`, `top_p`, `typical_p` and `repetition_penalty` are 1, `bad_words`
      and `choices` hold no strings, and the others are 0.
    - `serving_default(text)` generates text with all defaults.
      `keras.layers.TFSMLayer(path, "serving_default")` calls it.
    - `logits(token_ids)` maps `(batch, length)` int32 to `(batch, length, vocabulary_size)`
      float32.

    A model without a tokenizer gets only `logits`, which is then also the signature
    `serving_default`.

    For servers, the SavedModel has the signatures `generate`, `serving_default`, `text_only` and
    `logits`. A request must contain every input of its signature. The inputs of `serving_default`
    are `text`, `max_new_tokens`, `temperature`, `top_k`, `top_p` and `seed`; the input of
    `text_only` is `text`.

    Numbers may be Python numbers or NumPy numbers of any width. A tensor must have the dtype of the
    input: int32, float32, or int64 for `seed`.

    If several threads send requests, call signatures instead of functions. When an argument of a
    restored `tf.function` has a wrong dtype or name, TensorFlow 2.21 raises a TypeError but keeps
    the function's lock, and all other threads wait forever. Signatures do not use this lock.

    Args:
        model: A `CausalLM`, `GPTClassifier` or `GPTMultipleChoice`.
        directory: A new or empty directory. The write is atomic: after an error, nothing is left
            there.
        jit_compile: Whether XLA compiles the step for one token, which makes generation several
            times faster. The server must support XLA on its device; TensorFlow Serving on a CPU
            does so only with a flag. Use False for other servers. Task models are not compiled.
        logits_processors: Functions `(logits, context) -> logits` in TensorFlow ops, applied to
            every request, as in `model.generate`. Variables that they read are also saved.

    Raises:
        ValueError: The directory is not empty, `model` is no `CausalLM` or task model,
            `logits_processors` contains something other than functions, or `logits_processors` are
            given for a task model or a model without a tokenizer. Or a task model has no tokenizer.

    Example:
        >>> import gpt_keras as gk
        >>> import tempfile, tensorflow as tf
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=4)
        >>> model = gk.GPTCausalLM(config, tokenizer=gk.tokenizers.CharacterTokenizer("abc "))
        >>> directory = tempfile.mkdtemp()
        >>> gk.export.saved_model(model, directory)
        >>> loaded = tf.saved_model.load(directory)
        >>> loaded.generate(text=["abc"], max_new_tokens=2, temperature=0.0)["text"].shape
        TensorShape([1])
    """
    require_tensorflow("Export as a SavedModel")
    check_empty_directory(directory)
    logits_processors = check_logits_processors(logits_processors)
    if not isinstance(model, CausalLM | TaskModel):
        raise ValueError(
            f"`model` must be a CausalLM, GPTClassifier or GPTMultipleChoice, got {model!r}."
        )
    if logits_processors and isinstance(model, TaskModel):
        raise ValueError(
            "`logits_processors` must be empty for a task model, which generates nothing; got "
            f"{logits_processors!r}."
        )
    if logits_processors and model.tokenizer is None:
        raise ValueError(
            "`logits_processors` must be empty for a model without a tokenizer, which exports "
            f"`logits` alone; got {logits_processors!r}."
        )
    if isinstance(model, TaskModel):
        module = ServableTask(model)
    else:
        module = _Servable(model, jit_compile, logits_processors)
    signatures = module.add_functions()
    with atomic_directory(directory) as folder, _quiet_tensorflow():
        tf.saved_model.save(module, str(folder), signatures=signatures)


@contextlib.contextmanager
def _quiet_tensorflow():
    """Silence TensorFlow's message that it wrote the temporary directory."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


# Inputs of the signature `serving_default`. They are few, since a server requires all of them in
# every request.
_SERVED = ("text", "max_new_tokens", "temperature", "top_k", "top_p", "seed")


class _Servable(tf.Module):
    """Contents of the SavedModel: variables, the tokenizer's tables and functions."""

    def __init__(self, model, jit_compile, logits_processors):
        super().__init__(name="gpt_keras")
        self._variables = [variable.value for variable in model.variables]
        self._context = model.max_sequence_length
        self._vocabulary_size = model.vocabulary_size
        # A method, so that `tf.Module` does not track the model and save its Keras objects.
        self._call = model.call
        self._generator = None
        self.logits = tf.function(
            self._logits,
            input_signature=[tf.TensorSpec([None, None], tf.int32, name="token_ids")],
            autograph=False,
        )
        if model.tokenizer is not None:
            self._tokenizer = model.tokenizer.in_graph()
            # The returned text must not contain the start-of-text token.
            self._num_added = len(model.tokenizer.prompt_start)
            self._generator = Generators(model, jit_compile).get(
                Sampling(), logits_processors=logits_processors
            )

    def add_functions(self) -> dict[str, Any]:
        """Add `generate` and `serving_default`, and return the signatures."""
        if self._generator is None:
            return {"logits": self.logits, "serving_default": self.logits}
        inputs = _inputs()
        specs = {name: spec for name, (spec, _) in inputs.items()}
        # All functions call this one, so that the generation loop is saved only once.
        run = tf.function(self._generate, input_signature=[specs], autograph=False)
        # Variables of the user's logits processors must be tracked to be saved.
        self._variables_read = run.get_concrete_function().graph.variables
        any_text = tf.TensorSpec(None, tf.string, "text"), inspect.Parameter.empty
        self.generate = _function(run, {**inputs, "text": any_text})
        self.serving_default = _function(run, {"text": any_text})
        return {
            "logits": self.logits,
            "generate": _function(run, inputs),
            "serving_default": _function(run, {name: inputs[name] for name in _SERVED}),
            "text_only": _function(run, {"text": inputs["text"]}),
        }

    def _logits(self, token_ids):
        message = f"token_ids must be in [0, {self._vocabulary_size}), the vocabulary"
        is_known = (token_ids >= 0) & (token_ids < self._vocabulary_size)
        checks = [tf.debugging.Assert(tf.reduce_all(is_known), [message])]
        if self._context is not None:
            message = f"token_ids must have at most {self._context} columns, the model's context"
            checks.append(
                tf.debugging.assert_less_equal(tf.shape(token_ids)[1], self._context, message)
            )
        with tf.control_dependencies(checks):
            token_ids = tf.identity(token_ids)
        return {"logits": self._call(token_ids, training=False)}

    def _generate(self, given):
        text = tf.cond(
            tf.size(given["text"]) > 0,
            lambda: self._continue(given),
            lambda: tf.zeros([0], tf.string),
        )
        return {"text": text}

    def _continue(self, given):
        text, max_new_tokens = given["text"], given["max_new_tokens"]
        token_ids = tf.cast(self._tokenizer(text, add_start_of_text=True), tf.int32)
        lengths = tf.cast(token_ids.row_lengths(), tf.int32)
        limits = tf.fill(tf.shape(lengths), max_new_tokens)
        settings = read_in_graph(given, self._tokenizer)
        time_limit = given["time_limit"]
        checks = [
            *graph_checks(settings),
            tf.debugging.assert_positive(max_new_tokens, "max_new_tokens must be at least 1"),
            tf.debugging.assert_positive(lengths, "text must not be empty"),
            tf.debugging.assert_positive(
                tf.strings.length(given["stop"]), "stop must not hold an empty string"
            ),
            tf.debugging.assert_non_negative(time_limit, "time_limit must be at least 0; 0 is off"),
        ]
        if self._context is not None:
            message = f"text is too long: it must have fewer than {self._context} tokens, but has"
            longest = tf.reduce_max(lengths)
            checks.append(tf.debugging.Assert(longest < self._context, [message, longest]))
            limits = tf.minimum(limits, self._context - lengths)
        # Assertions in a graph guard only the ops that depend on them. Here the checks come
        # before the clock, and the clock before everything else.
        with tf.control_dependencies(checks):
            now = tf.cond(time_limit > 0, tf.timestamp, lambda: tf.zeros([], tf.float64))
        with tf.control_dependencies([now]):
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
        # A text may end inside a character, whose bytes alone are not valid UTF-8.
        return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")


def _inputs():
    """Return the spec and the default value of each input of `generate`."""
    return {
        "text": (tf.TensorSpec([None], tf.string, "text"), inspect.Parameter.empty),
        "max_new_tokens": (tf.TensorSpec([], tf.int32, "max_new_tokens"), tf.constant(100)),
        "seed": (tf.TensorSpec([], tf.int64, "seed"), tf.constant(0, tf.int64)),
        "stop": (tf.TensorSpec([None], tf.string, "stop"), tf.constant([], tf.string)),
        "time_limit": (tf.TensorSpec([], tf.float32, "time_limit"), tf.constant(0.0)),
        **processor_inputs(),
    }


def _function(run, inputs):
    """Return a `tf.function` with these inputs, in this order.

    All other settings of `generate` are off.

    Args:
        run: The function to call, with a dict of all inputs.
        inputs: Spec and default value of each input, by name.
    """
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for name, (_, default) in inputs.items()
    ]
    signature = inspect.Signature(parameters)
    off = {name: default for name, (_, default) in _inputs().items() if name not in inputs}

    def function(*args, **kwargs):
        given = {**off, **signature.bind(*args, **kwargs).arguments}
        given["text"] = tf.reshape(given["text"], [-1])  # one string is a batch of one
        return run(given)

    function.__signature__ = signature
    specs = [spec for spec, _ in inputs.values()]
    return tf.function(function, input_signature=specs, autograph=False)


def _cut_at_stop(texts, prompt_sizes, stop):
    """Cut each text at the first stop string after its prompt.

    Args:
        texts: `(batch,)` strings, each with its prompt at the beginning.
        prompt_sizes: `(batch,)`, bytes in each prompt.
        stop: `(number,)` strings.
    """
    prompts = tf.strings.substr(texts, tf.zeros_like(prompt_sizes), prompt_sizes)
    rest = tf.strings.substr(texts, prompt_sizes, tf.strings.length(texts) - prompt_sizes)

    def cut(sizes, string):
        first = tf.strings.split(rest, string).to_tensor(shape=[None, None])[:, 0]
        return tf.minimum(sizes, tf.strings.length(first))

    sizes = tf.foldl(cut, stop, initializer=tf.strings.length(rest))
    return tf.strings.join([prompts, tf.strings.substr(rest, tf.zeros_like(sizes), sizes)])
