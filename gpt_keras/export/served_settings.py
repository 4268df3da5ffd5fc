"""Inputs of the SavedModel's `generate` for the settings of logits processors.

A SavedModel takes texts where `CausalLM.generate` turns texts into token ids in Python.
"""

from collections.abc import Mapping

import tensorflow as tf

from gpt_keras.generation import PROCESSORS
from gpt_keras.generation.settings import Number, SequenceBiases, TokenSequences


def processor_inputs() -> dict[str, tuple[tf.TensorSpec, tf.Tensor]]:
    """Return the `TensorSpec` of each input and the value that turns it off."""
    inputs = {}
    for name, processor in PROCESSORS.items():
        setting = processor.setting
        if _takes_texts(setting):
            inputs[name] = tf.TensorSpec([None], tf.string, name), tf.constant([], tf.string)
            continue
        for part, spec in setting.specs(name).items():
            off = setting.off if isinstance(setting, Number) else 0
            shape = [0 if size is None else size for size in spec.shape]
            inputs[part] = spec, tf.fill(shape, tf.constant(off, spec.dtype))
    return inputs


def read_in_graph(given: Mapping[str, tf.Tensor], tokenizer) -> dict[str, tf.Tensor]:
    """Return the tensors that the logits processors take.

    Args:
        given: A tensor for each name in `processor_inputs()`.
        tokenizer: In-graph tokenizer, which encodes the inputs that are texts.
    """
    settings = {}
    for name, processor in PROCESSORS.items():
        setting = processor.setting
        if _takes_texts(setting):
            settings[name] = _token_ids(given[name], setting, tokenizer)
        else:
            settings |= {part: given[part] for part in setting.specs(name)}
    return settings


def _takes_texts(setting):
    return isinstance(setting, TokenSequences) and not isinstance(setting, SequenceBiases)


def _token_ids(texts, setting, tokenizer):
    if setting.with_space:
        begins_with_space = tf.strings.regex_full_match(texts, r"(?s)\s.*")
        spaced = tf.strings.join([" ", tf.boolean_mask(texts, ~begins_with_space)])
        texts = tf.concat([texts, spaced], axis=0)
    ids = tf.cast(tokenizer(texts), tf.int32)
    if not setting.pads_left:
        return ids.to_tensor(-1)
    return tf.reverse(ids[:, ::-1].to_tensor(-1), axis=[1])
