"""Pretrained models with a task head (GPT-1, Radford et al. 2018, section 3.2)."""

import reprlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from gpt_keras.checks import check_choice, check_positive_int
from gpt_keras.models import task_inputs
from gpt_keras.models.task_model import TaskModel
from gpt_keras.models.text_containers import find_texts
from gpt_keras.texts import as_list_of_texts

LAYOUTS = ("classification", "entailment", "similarity")


@keras.saving.register_keras_serializable("gpt_keras")
class GPTClassifier(TaskModel):
    """Classifier: a causal model with a linear head on its last hidden state.

    `gk.models.task_inputs` describes the layout of an example as tokens, and which hidden state
    the head reads. Rows are padded on the right with `pad_id`. Padding cannot change the hidden
    states of the tokens before it, because the model is causal. No padding mask is needed, and an
    example has the same logits alone and in a batch. The classifier shares the weights of `model`.

    With `pooling="last"` the head reads the last token before the padding, and the vocabulary
    stays as it is. With `pooling="extract"`, the form of GPT-1, the head reads the first extract
    token of a row, or the last token of a row without one. Start, delimiter and extract token are
    the last three ids of the backbone's vocabulary; no text may contain these ids. `from_preset`
    makes room for them. For a model that is already loaded, call `backbone.with_vocabulary_size`.
    Their embeddings are random at first, and LoRA would freeze them like that.

    Args:
        model: A `CausalLM`, whose tokenizer is used too, or a backbone such as `GPT`.
        num_classes: Number of classes. Default: the number of `class_names`.
        layout: Form of an example. `"classification"` is one text, `"entailment"` a pair (premise,
            hypothesis), and `"similarity"` a pair without order. The model runs this pair in
            both orders and adds the two hidden states.
        dropout: Rate of the dropout before the head (0.1 in the paper).
        language_modeling_weight: Weight of an auxiliary loss in training: the cross-entropy of
            the example's own tokens. The paper uses 0.5; 0 switches the loss off.
        tokenizer: Tokenizer for texts. Default: the tokenizer of `model`.
        special_ids: Ids of the start, delimiter and extract tokens, for `pooling="extract"`.
            Default: the last three ids of the vocabulary. Must be given if there is no tokenizer.
        class_names: Name of each class, in the order of the logits. With names, `fit` and
            `evaluate` accept names as labels. Default: if the labels of `fit` are names, the sorted
            names, which must be `num_classes` different ones. The attribute is saved with the
            model.
        pooling: Token whose hidden state the head reads: `"last"` or `"extract"`. Default:
            `"extract"` if `special_ids` are given, else `"last"`.
        pad_id: Id of the padding that you put after the tokens of a row, for `pooling="last"`.
            `encode` and ragged rows are padded with it. Default: the tokenizer's end-of-text token,
            or -1 if there is none. No token has the id -1, so it is always right.
        max_sequence_length: Longest sequence in tokens, special tokens included; longer examples
            are cut. Default: that of the backbone.
        name: Name of the model.

    Call arguments:
        token_ids: Integers, `(batch, length)` or `(batch, orders, length)`. The hidden states of
            the orders are added.

    Returns:
        Logits, float32, `(batch, num_classes)`.

    Raises:
        ValueError: An argument is out of its range, or the backbone has no `hidden_states`. With
            `pooling="extract"`: the backbone has no free ids, or both `tokenizer` and
            `special_ids` are missing.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=5)
        >>> model = gk.GPTClassifier(gk.GPTCausalLM(config, tokenizer), num_classes=2)
        >>> model.encode(["abc"])[0, :6].tolist()
        [0, 1, 2, 4, 4, 4]
        >>> model.compile(jit_compile=False)
        >>> _ = model.fit(["abc", "cab a"], ["short", "long"], verbose=0)
        >>> model.class_names
        ('long', 'short')
        >>> (label, probabilities), = model.classify("abc")
        >>> sorted(probabilities)
        ['long', 'short']
    """

    def __init__(
        self,
        model: keras.Model,
        num_classes: int | None = None,
        layout: str = "classification",
        dropout: float = 0.1,
        language_modeling_weight: float = 0.0,
        tokenizer=None,
        special_ids: Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        pooling: str | None = None,
        pad_id: int | None = None,
        max_sequence_length: int | None = None,
        name: str = "gpt_classifier",
    ):
        if num_classes is None and class_names is not None:
            num_classes = len(class_names)
        check_positive_int("num_classes", num_classes)
        check_choice("layout", layout, LAYOUTS)
        super().__init__(
            model,
            num_classes,
            dropout,
            language_modeling_weight,
            tokenizer,
            special_ids,
            pooling,
            pad_id,
            max_sequence_length,
            name,
        )
        self.num_classes = num_classes
        self.layout = layout
        self.class_names = class_names

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name of each class, in the order of the logits; or None."""
        return self._class_names

    @class_names.setter
    def class_names(self, names):
        if names is not None:
            names = tuple(as_list_of_texts("class_names", names))
            if len(set(names)) != self.num_classes or len(names) != self.num_classes:
                raise ValueError(
                    f"`class_names` must be num_classes={self.num_classes} different names, got "
                    f"{len(names)}: {reprlib.repr(list(names))}."
                )
        self._class_names = names

    def _class_numbers(self, y, is_training):
        names, y = find_texts("y", y)
        if names is None:
            return y
        if self.class_names is None and not is_training:
            raise ValueError(
                "`y` must hold the numbers of the classes, 0 to "
                f"{self.num_classes - 1}, or the model must have `class_names`; got {names[0]!r}."
            )
        if self.class_names is None:
            found = sorted(set(names))
            if len(found) != self.num_classes:
                raise ValueError(
                    f"`y` must hold num_classes={self.num_classes} different names, or the numbers "
                    f"0 to {self.num_classes - 1}; got {len(found)}: {reprlib.repr(found)}. "
                    "If some classes are missing in `y`, set the model's `class_names`."
                )
            self.class_names = found
        numbers = {name: number for number, name in enumerate(self.class_names)}
        unknown = next((name for name in names if name not in numbers), None)
        if unknown is not None:
            raise ValueError(
                f"`y` must hold names of `class_names`, {reprlib.repr(list(numbers))}; got "
                f"{unknown!r}."
            )
        return np.array([numbers[name] for name in names], np.int32)

    @property
    def _num_parts(self):
        return 1 if self.layout == "classification" else 2

    @property
    def _labels(self):
        return self.class_names

    def _is_single(self, x):
        return isinstance(x, str) if self.layout == "classification" else super()._is_single(x)

    def _layout(self, example, number, encode, markers, max_length):
        if self.layout == "classification":
            if not isinstance(example, str):
                raise ValueError(f"An example must be a text; number {number} is {example!r}.")
            return task_inputs.classification(encode(example), markers, max_length)
        if not _are_texts(example) or len(example) != 2:
            raise ValueError(f"An example must be a pair of texts; number {number} is {example!r}.")
        first, second = encode(list(example))
        layout = getattr(task_inputs, self.layout)
        return layout(first, second, markers, max_length)

    def _logits(self, state, training):
        if len(state.shape) == 3:
            state = ops.sum(state, axis=1)  # the two orders of a pair
        return self.head(self.head_dropout(state, training=training))  # (batch, num_classes)

    def _num_outputs(self, x) -> int:
        return self.num_classes

    def get_config(self):
        return super().get_config() | {
            "num_classes": self.num_classes,
            "layout": self.layout,
            "class_names": self.class_names,
        }


@keras.saving.register_keras_serializable("gpt_keras")
class GPTMultipleChoice(TaskModel):
    """Multiple choice: a causal model with a linear head that scores each answer.

    The context with each answer is one sequence (`gk.models.task_inputs.multiple_choice`). The head
    returns a score for each sequence, and the softmax over the scores is the probability of each
    answer. Pooling, padding, special ids and shared weights are as in `GPTClassifier`.

    An example of text is a pair (context, list of answers). All examples of one call need the same
    number of answers.

    Args:
        model: A `CausalLM`, whose tokenizer is used too, or a backbone such as `GPT`.
        dropout: Rate of the dropout before the head.
        language_modeling_weight: As in `GPTClassifier`. The auxiliary loss includes the text of
            wrong answers.
        tokenizer: Tokenizer for texts. Default: the tokenizer of `model`.
        special_ids: As in `GPTClassifier`.
        pooling: As in `GPTClassifier`.
        pad_id: As in `GPTClassifier`.
        max_sequence_length: As in `GPTClassifier`.
        name: Name of the model.

    Call arguments:
        token_ids: Integers, `(batch, choices, length)`.

    Returns:
        Logits, float32, `(batch, choices)`.

    Raises:
        ValueError: As in `GPTClassifier`.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=5)
        >>> model = gk.GPTMultipleChoice(gk.GPTCausalLM(config, tokenizer))
        >>> (label, probabilities), = model.classify(("abc", ["a", "b", "cc"]))
        >>> sorted(probabilities)
        [0, 1, 2]
    """

    _input_shape = (None, None, None)
    _num_parts = 2

    def __init__(
        self,
        model: keras.Model,
        dropout: float = 0.1,
        language_modeling_weight: float = 0.0,
        tokenizer=None,
        special_ids: Sequence[int] | None = None,
        pooling: str | None = None,
        pad_id: int | None = None,
        max_sequence_length: int | None = None,
        name: str = "gpt_multiple_choice",
    ):
        super().__init__(
            model,
            1,
            dropout,
            language_modeling_weight,
            tokenizer,
            special_ids,
            pooling,
            pad_id,
            max_sequence_length,
            name,
        )

    def encode(self, examples) -> np.ndarray:
        """Return pairs (context, answers) as token ids.

        Args:
            examples: Pairs (context, list of answers).

        Returns:
            int32 ids, `(examples, choices, length)`.

        Raises:
            ValueError: There is no tokenizer, an example has another form, or the numbers of
                answers differ.
        """
        token_ids = super().encode(examples)
        return token_ids if token_ids.ndim == 3 else token_ids[:, None]

    def _layout(self, example, number, encode, markers, max_length):
        is_pair = isinstance(example, list | tuple) and len(example) == 2
        if not is_pair or not isinstance(example[0], str) or not _are_texts(example[1]):
            raise ValueError(
                f"An example must be a pair (context, list of answers); number {number} is "
                f"{example!r}."
            )
        context, *answers = encode([example[0], *example[1]])
        return task_inputs.multiple_choice(context, answers, markers, max_length)

    def _num_outputs(self, x) -> int:
        return x.shape[1]

    def _logits(self, state, training):
        if len(state.shape) != 3:
            raise ValueError(
                "The token ids of a multiple choice must have the shape (batch, choices, length)."
            )
        return self.head(self.head_dropout(state, training=training))[:, :, 0]  # (batch, choices)


def _are_texts(example: Any) -> bool:
    return (
        isinstance(example, list | tuple)
        and len(example) > 0
        and all(isinstance(text, str) for text in example)
    )
