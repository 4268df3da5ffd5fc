"""Task models as a `tf.Module` from strings to labels and probabilities."""

import inspect
from typing import Any

import tensorflow as tf

from gpt_keras.export.task_layout import TaskLayout
from gpt_keras.models.task_model import TaskModel


class ServableTask(tf.Module):
    """Contents of a task model's SavedModel: variables, tables and functions.

    Args:
        model: A task model.

    Raises:
        ValueError: The model has no tokenizer, or as in `TaskLayout`.
    """

    def __init__(self, model: TaskModel):
        super().__init__(name="gpt_keras")
        if model.tokenizer is None:
            raise ValueError(
                "`model` must have a tokenizer to classify texts: set `model.tokenizer`, or call "
                "`model.export`, which writes a SavedModel that takes token ids."
            )
        self._variables = [variable.value for variable in model.variables]
        # A method, so that `tf.Module` does not track the model and save its Keras objects.
        self._call = model.call
        self._layout = TaskLayout(model)
        self._names = getattr(model, "class_names", None)

    def add_functions(self) -> dict[str, Any]:
        """Add `classify`, `serving_default` and `class_names`, and return the signatures."""
        ranks = self._layout.ranks
        specs = [tf.TensorSpec([None] * rank, tf.string, name) for name, rank in ranks.items()]
        run = tf.function(self._classify, input_signature=specs, autograph=False)
        # As a function it also takes a single string, for a batch of one.
        flexible = [
            tf.TensorSpec(None if rank == 1 else [None] * rank, tf.string, name)
            for name, rank in ranks.items()
        ]

        def classify(*texts):
            vectors = [
                tf.reshape(text, [-1]) if rank == 1 else text
                for text, rank in zip(texts, ranks.values(), strict=True)
            ]
            return run(*vectors)

        classify.__signature__ = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ranks]
        )
        self.classify = tf.function(classify, input_signature=flexible, autograph=False)
        self.serving_default = self.classify
        if self._names is not None:
            names = list(self._names)
            self.class_names = tf.function(
                lambda: tf.constant(names, tf.string), input_signature=[], autograph=False
            )
        return {"classify": run, "serving_default": run}

    def _classify(self, *texts):
        logits = self._call(self._layout(*texts), training=False)
        label = tf.argmax(logits, axis=-1, output_type=tf.int32)
        if self._names is not None:
            label = tf.gather(tf.constant(list(self._names), tf.string), label)
        return {"label": label, "probabilities": tf.nn.softmax(logits)}
