"""Registry of the logits processors: penalties, bans, and warpers for sampling.

`CausalLM.generate`, the command line and the SavedModel all read their settings from this registry.
The settings are tensors, so one compiled graph serves every request. A processor that is off costs
one comparison.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from gpt_keras.generation import choices, penalties, warpers
from gpt_keras.generation.context import CONTEXT_SPECS, Context
from gpt_keras.generation.other_names import hint
from gpt_keras.generation.processor_help import SETTINGS
from gpt_keras.generation.settings import (
    LARGEST,
    Choices,
    Number,
    SequenceBiases,
    TokenSequences,
    Vocabulary,
)

__all__ = [
    "PROCESSORS",
    "Context",
    "Processor",
    "choices_complete",
    "graph_checks",
    "keep_any_token",
    "process",
    "read_settings",
    "tensor_specs",
    "warp",
]


@dataclasses.dataclass(frozen=True)
class Processor:
    """Logits processor and its setting.

    Attributes:
        name: Name of the setting: a keyword of `CausalLM.generate`, an option of the command line,
            and an input of the SavedModel.
        setting: The setting's allowed values and their conversion to tensors.
        apply: A function `(logits, *tensors of the setting, context) -> logits`; a warper has no
            `context`. It runs only if the setting is on.
        is_warper: Whether the processor is used for sampling only.
    """

    name: str
    setting: Number | TokenSequences
    apply: Callable[..., tf.Tensor]
    is_warper: bool = False

    @property
    def help(self) -> str:
        """Help text of the setting."""
        return SETTINGS[self.name][1]


def _is_not(off):
    return lambda value: tf.not_equal(value, off)


def _is_positive(value):
    return value > 0


def _is_below_1(value):
    return value < 1


def _in_range(lowest, highest):
    return lambda value: (value >= lowest) & (value <= highest)


def _above(bound, highest):
    return lambda value: (value > bound) & (value <= highest)


_COUNT = Number(0, "an integer of at least 1", lambda value: value >= 1, _is_positive)
_PENALTY = Number(0.0, "a number in [-2, 2]", _in_range(-2, 2), _is_not(0.0))
_SHARE = Number(1.0, "a number in (0, 1]", _above(0, 1), _is_below_1)

_LIST = (
    Processor(
        "logit_bias",
        SequenceBiases(pads_left=True, may_be_empty=True),
        penalties.bias_sequences,
    ),
    Processor(
        "repetition_penalty",
        Number(1.0, "a number above 0", _above(0, LARGEST), _is_not(1.0)),
        penalties.penalize_repetition,
    ),
    Processor(
        "presence_penalty",
        _PENALTY,
        penalties.penalize_presence,
    ),
    Processor(
        "frequency_penalty",
        _PENALTY,
        penalties.penalize_frequency,
    ),
    Processor(
        "choices",
        Choices(pads_left=False, may_be_empty=False),
        choices.keep_choices,
    ),
    Processor(
        "bad_words",
        TokenSequences(pads_left=True, may_be_empty=True, with_space=True),
        penalties.ban_sequences,
    ),
    Processor(
        "min_new_tokens",
        Number(0, "an integer of at least 0", lambda value: value >= 0, _is_positive),
        penalties.ban_early_end,
    ),
    Processor(
        "no_repeat_ngram_size",
        _COUNT,
        penalties.ban_repeated_ngrams,
    ),
    Processor(
        "temperature",
        Number(1.0, "a number of at least 0", _in_range(0, LARGEST), _is_not(1.0)),
        warpers.apply_temperature,
        is_warper=True,
    ),
    Processor(
        "top_k",
        _COUNT,
        warpers.apply_top_k,
        is_warper=True,
    ),
    Processor(
        "top_p",
        _SHARE,
        warpers.apply_top_p,
        is_warper=True,
    ),
    Processor(
        "min_p",
        Number(0.0, "a number in [0, 1]", _in_range(0, 1), _is_positive),
        warpers.apply_min_p,
        is_warper=True,
    ),
    Processor(
        "typical_p",
        _SHARE,
        warpers.apply_typical_p,
        is_warper=True,
    ),
)

# The other arguments of `CausalLM.generate`, for the hint at a misspelled name.
ARGUMENTS = (
    "max_new_tokens",
    "max_length",
    "seed",
    "stop",
    "time_limit",
    "strategy",
    "callback",
    "logits_processors",
    "prompt_cache",
    "sliding_window",
    "cache_length",
)

# In order of application, which is the order of transformers' `generate`, except for the bans. The
# order of the bans matters only if they would together forbid every token: then the later bans are
# skipped.
PROCESSORS: dict[str, Processor] = {processor.name: processor for processor in _LIST}


def read_settings(
    given: Mapping[str, Any],
    tokenizer,
    vocabulary_size: int,
    end_token_ids: Sequence[int] = (),
) -> dict[str, tf.Tensor]:
    """Check the user's settings and return the tensors of all processors.

    A text in `bad_words` is encoded twice, without and with a space before it. Both token sequences
    are banned, but other tokenizations of the text are not. A text in `choices` is encoded without
    an added space. Special tokens can be given as ids only.

    Args:
        given: Settings by name. A setting that is None or missing is off.
        tokenizer: The tokenizer for texts. None: only token ids are allowed.
        vocabulary_size: Number of token ids; every id must be below it.
        end_token_ids: Ids that end a row.

    Returns:
        A tensor for each name in `tensor_specs`.

    Raises:
        ValueError: A value is not allowed, a text is given without a tokenizer, or a choice is a
            prefix of another and there are no end tokens.
        TypeError: There is no processor of that name.

    Example:
        >>> from gpt_keras.generation.processors import read_settings
        >>> settings = read_settings({"top_k": 5, "bad_words": [[1, 2], [3]]}, None, 10)
        >>> int(settings["top_k"]), float(settings["top_p"])
        (5, 1.0)
        >>> settings["bad_words"].numpy().tolist()
        [[1, 2], [-1, 3]]
    """
    for name in given:
        if name not in PROCESSORS:
            ours = hint(name, [*PROCESSORS, *ARGUMENTS])
            raise TypeError(
                f"There is no setting `{name}`.{ours} Settings that change probabilities are "
                f"{', '.join(PROCESSORS)}."
            )
    vocabulary = Vocabulary(tokenizer, vocabulary_size, end_token_ids)
    tensors = {}
    for name, processor in PROCESSORS.items():
        tensors |= processor.setting.read(name, given.get(name), vocabulary)
    return tensors


def tensor_specs() -> dict[str, tf.TensorSpec]:
    """Return the `tf.TensorSpec`s of all settings by name, for a `tf.function`.

    Example:
        >>> from gpt_keras.generation.processors import tensor_specs
        >>> tensor_specs()["bad_words"].shape
        TensorShape([None, None])
    """
    specs = {}
    for name, processor in PROCESSORS.items():
        specs |= processor.setting.specs(name)
    return specs


def graph_checks(settings: Mapping[str, tf.Tensor]) -> list[tf.Operation]:
    """Return ops that fail if a setting has a value that is not allowed.

    They check tensors that `read_settings` did not make, such as the inputs of a SavedModel.

    Args:
        settings: Dict of tensors, as `read_settings` returns.

    Raises:
        tf.errors.InvalidArgumentError: An op runs and a value is not allowed. The message names
            the setting.
    """
    checks = []
    for name, processor in PROCESSORS.items():
        checks += processor.setting.graph_check(name, *_tensors(processor, settings))
    return checks


def process(logits, settings: Mapping[str, tf.Tensor], context: Context):
    """Apply biases, penalties and bans: all processors except the warpers.

    Greedy decoding needs them as well as sampling. A ban that would forbid every token of a row is
    skipped for that row. If several bans would together forbid every token, the last of them is
    skipped. Their order is `choices`, `bad_words`, `min_new_tokens`, `no_repeat_ngram_size`.

    Args:
        logits: `(rows, vocabulary_size)` float32.
        settings: Dict of tensors, as `read_settings` returns.
        context: The tokens so far.

    Returns:
        Logits of the same shape. A row with a finite logit still has one.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.processors import Context, process, read_settings
        >>> context = Context.of_rows([[0, 1]], num_new=1, end_token_ids=[0])
        >>> settings = read_settings({"presence_penalty": 0.5, "min_new_tokens": 2}, None, 3)
        >>> process(tf.constant([[1.0, 1.0, 1.0]]), settings, context).numpy()
        array([[-inf,  0.5,  1. ]], dtype=float32)
    """
    return _with_shape_of(logits, _process(logits, _own(settings), context))


def warp(logits, settings: Mapping[str, tf.Tensor]):
    """Apply the warpers: temperature, top-k, top-p, min-p and typical-p, for sampling.

    Args:
        logits: `(rows, vocabulary_size)` float32.
        settings: Dict of tensors, as `read_settings` returns. For a temperature of 0 (greedy
            decoding) the caller takes the arg max instead.

    Returns:
        Logits of the same shape.

    Example:
        >>> import tensorflow as tf
        >>> from gpt_keras.generation.processors import read_settings, warp
        >>> settings = read_settings({"temperature": 0.5, "top_k": 2}, None, 3)
        >>> warp(tf.constant([[1.0, 2.0, 3.0]]), settings).numpy()
        array([[-inf,   4.,   6.]], dtype=float32)
    """
    return _with_shape_of(logits, _warp(logits, _own(settings)))


def choices_complete(settings: Mapping[str, tf.Tensor], context: Context):
    """Return `(rows,)` bool: the new text is a choice, and none extends it.

    No token can follow in this row, so it ends. Without `choices` all rows are False.

    Args:
        settings: Dict of tensors, as `read_settings` returns.
        context: The tokens so far.

    Example:
        >>> from gpt_keras.generation.processors import Context, choices_complete, read_settings
        >>> settings = read_settings({"choices": [[1], [2, 3]]}, None, 4)
        >>> choices_complete(settings, Context.of_rows([[0, 1], [0, 2]], num_new=1)).numpy()
        array([ True, False])
    """
    return _choices_complete(settings["choices"], context)


# The functions below are traced once, even if the loops of many generators call them.
_LOGITS_SPEC = tf.TensorSpec([None, None], tf.float32)


@functools.partial(
    tf.function,
    input_signature=[_LOGITS_SPEC, tensor_specs(), CONTEXT_SPECS],
    autograph=False,
)
def _process(logits, settings, context):
    for processor in PROCESSORS.values():
        if not processor.is_warper:
            logits = _apply_if_on(processor, logits, settings, context)
    return logits


@functools.partial(tf.function, input_signature=[_LOGITS_SPEC, tensor_specs()], autograph=False)
def _warp(logits, settings):
    for processor in PROCESSORS.values():
        if processor.is_warper:
            logits = _apply_if_on(processor, logits, settings)
    return logits


@functools.partial(
    tf.function,
    input_signature=[tensor_specs()["choices"], CONTEXT_SPECS],
    autograph=False,
)
def _choices_complete(sequences, context):
    return tf.cond(
        PROCESSORS["choices"].setting.is_on(sequences),
        lambda: choices.are_choices_complete(sequences, context),
        lambda: tf.zeros_like(context.starts, tf.bool),
    )


def _own(settings):
    return {name: settings[name] for name in tensor_specs()}


def _with_shape_of(logits, changed):
    changed.set_shape(logits.shape)
    return changed


def _tensors(processor, settings):
    return [settings[name] for name in processor.setting.specs(processor.name)]


def _apply_if_on(processor, logits, settings, *context):
    tensors = _tensors(processor, settings)

    def apply():
        changed = processor.apply(logits, *tensors, *context)
        return changed if processor.is_warper else keep_any_token(changed, logits)

    return tf.cond(processor.setting.is_on(*tensors), apply, lambda: logits)


def keep_any_token(changed, logits):
    """Return `changed`; a row in which it forbids every token keeps its `logits`.

    Args:
        changed: `(rows, vocabulary_size)`, the logits after a processor.
        logits: `(rows, vocabulary_size)`, the logits before it.
    """
    changed = tf.minimum(changed, logits.dtype.max)  # a penalty near 0 divides to infinity
    has_any = tf.reduce_any(changed > -float("inf"), axis=-1, keepdims=True)
    return tf.where(has_any, changed, logits)
