"""Language models to train and to generate with: a backbone, a tokenizer, Keras's verbs."""

import pathlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.atomic import atomic_file
from gpt_keras.checks import check_token_ids
from gpt_keras.generation.backbone import num_logits
from gpt_keras.generation.mixin import GenerationMixin
from gpt_keras.models.batches import plain_errors
from gpt_keras.models.preset_folder import write_preset
from gpt_keras.models.text_containers import find_texts, find_training_texts, hold_out
from gpt_keras.models.text_model import TextModel
from gpt_keras.models.training_data import read, read_ids, read_validation
from gpt_keras.training import CrossEntropy, Perplexity, adamw
from gpt_keras.training.losses import precise_dtype


@keras.saving.register_keras_serializable("gpt_keras")
class CausalLM(GenerationMixin, TextModel):
    """A backbone that predicts the next token, with a tokenizer: fits, generates, saves, exports.

    Args:
        backbone: A Keras model from token ids `(batch, length)` to logits `(batch, length,
            vocabulary_size)`, causal. With the methods of `gk.Backbone` it generates with a KV
            cache, without them by running the whole sequence for each token. If it has an
            attribute `max_sequence_length`, or a `PositionalEmbedding` inside, longer sequences
            are refused and generation stops there.
        tokenizer: A `gpt_keras.tokenizers` tokenizer, or None if only ids are used.
        chat_template: How a conversation is written for the model, a Jinja template as GGUF files
            and Hugging Face folders have it, or None; see `gk.chat`.
        end_token_ids: Ids at which a generated text ends. Default: the tokenizer's
            `end_of_text_id`, if it has one.
        name: Name of the model.

    The arguments are attributes, too, which may be set; all are saved with the model.

    Raises:
        ValueError: The tokenizer has more ids than the backbone.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=4)
        >>> model = gk.CausalLM(gk.GPT(config), tokenizer=tokenizer)
        >>> len(model.generate("abc", max_new_tokens=5, seed=0))
        8
    """

    def __init__(
        self,
        backbone: keras.Model,
        tokenizer=None,
        chat_template: str | None = None,
        end_token_ids: Sequence[int] | None = None,
        name: str = "causal_lm",
    ):
        if not isinstance(backbone, keras.Model):
            raise ValueError(
                f"`backbone` must be a keras.Model, such as gk.GPT(config); got {backbone!r}."
            )
        super().__init__(backbone, name)
        self.vocabulary_size = num_logits(backbone)
        self._generators = None
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self.end_token_ids = end_token_ids
        self.build(self._input_shape)

    def call(self, token_ids, training=None):
        return self.backbone(token_ids, training=training)

    @TextModel.tokenizer.setter
    def tokenizer(self, tokenizer):
        TextModel.tokenizer.fset(self, tokenizer)
        self._generators = None  # they know the tokenizer

    def _check_tokenizer(self, tokenizer):
        if tokenizer.vocabulary_size > self.vocabulary_size:
            raise ValueError(
                f"`tokenizer` has {tokenizer.vocabulary_size} ids, more than the model's "
                f"vocabulary_size={self.vocabulary_size}."
            )

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """The ids at which a generated text ends."""
        if self._end_token_ids is not None:
            return self._end_token_ids
        end_of_text_id = None if self.tokenizer is None else self.tokenizer.end_of_text_id
        return () if end_of_text_id is None else (end_of_text_id,)

    @end_token_ids.setter
    def end_token_ids(self, token_ids):
        if token_ids is not None:
            ids = np.asarray(token_ids)
            if ids.ndim != 1:
                raise ValueError(f"`end_token_ids` must be a list of ids, got {token_ids!r}.")
            check_token_ids(ids if ids.size else ids.astype(int), self.vocabulary_size)
            token_ids = tuple(ids.tolist())
        self._end_token_ids = token_ids
        self._generators = None

    # Training

    def compile(
        self, optimizer="auto", loss="auto", *, metrics=None, weighted_metrics="auto", **kwargs
    ):
        """Set how the model trains; every argument has a default and can be overridden.

        Args:
            optimizer: `"auto"` is `gk.training.adamw()`: AdamW with warm-up, clipping, and no decay
                on biases, norms and embeddings.
            loss: `"auto"` is `gk.training.CrossEntropy()`: from logits, averaged over the tokens
                whose sample weight is not 0.
            metrics: As in Keras: they ignore sample weights. `"accuracy"` is the weighted metric of
                this name if `weighted_metrics` is `"auto"`.
            weighted_metrics: `"auto"` is perplexity and accuracy.
            **kwargs: The other arguments of `keras.Model.compile`. `jit_compile` is True unless
                given, or unless `run_eagerly` is: Keras's own choice would not use XLA on a CPU.

        Raises:
            ValueError: `loss` is a cross-entropy on probabilities; the model gives logits.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = adamw()
        if isinstance(loss, str) and loss == "auto":
            loss = CrossEntropy()
        if isinstance(weighted_metrics, str) and weighted_metrics == "auto":
            accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy", precise_dtype())
            if isinstance(metrics, list | tuple):
                metrics = [metric for metric in metrics if metric not in ("accuracy", "acc")]
            names = [getattr(metric, "name", None) for metric in keras.tree.flatten(metrics)]
            weighted_metrics = [Perplexity(), *([] if "accuracy" in names else [accuracy])]
        super().compile(
            optimizer, loss, metrics=metrics, weighted_metrics=weighted_metrics, **kwargs
        )

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", **kwargs):
        """Train; `keras.Model.fit` that also takes texts.

        Args:
            x: A `tf.data.Dataset` (such as `gk.datasets.language_modeling` makes), a
                `keras.utils.PyDataset`, a generator of batches, arrays of token ids, or texts in
                any container: a list, a NumPy array, a pandas Series, a string tensor, a
                generator, a dataset of strings. Each text is then one document, ended by the
                end-of-text token, in one row of up to `max_sequence_length` tokens or several, the
                last of them padded, with a loss that ignores padding. Rows of ragged tensors are
                padded too, and a dict of the ids under `"token_ids"` counts as the ids.
            y: For arrays, the targets: the ids that follow those in `x`. Ids without targets,
                here or in a batch of another source, are shifted: the targets of all but the last
                id of a row are the ids that follow.
            batch_size: For arrays and strings; 32 unless given.
            epochs: Number of passes.
            verbose: As in Keras: `"auto"`, 0, 1 (progress bar) or 2 (a line an epoch).
            **kwargs: The other arguments of `keras.Model.fit`; `validation_data` may be texts too,
                `validation_split` holds out the last texts as it does the last rows of arrays,
                `sample_weight` holds a number for each row or for each token, and `class_weight`
                gives weights to target ids. The loss is the mean over the tokens of a batch by
                these weights.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: Token ids are outside the vocabulary, sequences are too long, or strings
                come without a tokenizer. Arrays are checked in advance, a batch of any other
                source when it comes.
        """
        texts, x = find_training_texts("x", x)
        if texts is not None and (fraction := kwargs.pop("validation_split", 0)):
            x, held_out = hold_out(texts, fraction)
            if kwargs.get("validation_data") is None:
                kwargs["validation_data"] = held_out
        kwargs["validation_data"] = read_validation(
            self, kwargs.get("validation_data"), kwargs.get("validation_batch_size") or batch_size
        )
        x, y, kwargs["sample_weight"], batch_size = read(
            self,
            x,
            y,
            kwargs.get("sample_weight"),
            batch_size,
            kwargs.get("shuffle", True),
            kwargs.pop("class_weight", None),
        )
        if isinstance(x, tf.data.Dataset | Iterator):
            kwargs["shuffle"] = False  # a dataset shuffles itself; Keras would warn that it must
        with plain_errors():
            return super().fit(
                x, y, batch_size=batch_size, epochs=epochs, verbose=verbose, **kwargs
            )

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", **kwargs):
        """Return loss and metrics; `keras.Model.evaluate` that also takes texts, as `fit`.

        With `CrossEntropy` the loss is the weighted mean over the tokens of all batches, plus the
        losses that layers add, such as that of a router.
        """
        x, y, kwargs["sample_weight"], batch_size = read(
            self, x, y, kwargs.get("sample_weight"), batch_size
        )
        with plain_errors():
            return super().evaluate(x, y, batch_size=batch_size, verbose=verbose, **kwargs)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """Train on one batch; `keras.Model.train_on_batch` with the checks of `fit`."""
        x, y, sample_weight, _ = read(self, x, y, sample_weight, class_weight=class_weight)
        return super().train_on_batch(x, y, sample_weight, return_dict=return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Return loss and metrics of one batch; `keras.Model.test_on_batch`, checked as `fit`."""
        x, y, sample_weight, _ = read(self, x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, return_dict)

    def predict(self, x, batch_size=None, verbose="auto", **kwargs):
        """Return logits `(batch, length, vocabulary_size)`; `keras.Model.predict`, ids checked."""
        texts, x = find_texts("x", x)
        if texts is not None:
            raise ValueError(
                "`predict` takes token ids and gives logits; for texts use `generate`."
            )
        x = read_ids(self, x)
        with plain_errors():
            return super().predict(x, batch_size=batch_size, verbose=verbose, **kwargs)

    def predict_on_batch(self, x):
        """Return logits of one batch; `keras.Model.predict_on_batch`, ids checked."""
        return super().predict_on_batch(read_ids(self, x))

    # Saving

    def save(self, filepath, overwrite=True, **kwargs):
        """Save to a `.keras` file, tokenizer included; the file appears whole or not at all."""
        filepath = pathlib.Path(filepath)
        if filepath.exists() and not overwrite:
            raise ValueError(f"`filepath` exists already and `overwrite` is False: {filepath}.")
        if filepath.suffix != ".keras":
            raise ValueError(f"`filepath` must end in .keras, got {str(filepath)!r}.")
        with atomic_file(filepath) as temporary:
            super().save(temporary, overwrite=True, **kwargs)

    def save_to_preset(self, directory) -> None:
        """Save to a new folder as config.json, tokenizer.json and model.weights.h5.

        Raises:
            ValueError: The folder exists and is not empty.
        """
        write_preset(self, directory)

    @classmethod
    def from_preset(cls, source, dtype=None):
        """Load a model to generate with or to train further; it is not compiled.

        Args:
            source: A folder that `save_to_preset` wrote, a file that `save` wrote, or what else
                `gk.convert.load` takes, such as a Hugging Face folder or `hf://owner/name`.
            dtype: Dtype policy, such as `"bfloat16"`: weights of half the size, and results with
                3 digits. Default: the one that the model was saved with, or Keras's global policy.

        Returns:
            A model of the class that was saved.

        Raises:
            ValueError: There is no such model, it is damaged, or it is of another class; or `dtype`
                is no policy for floats, or is given for a model that is quantized.
        """
        from gpt_keras import convert  # it stands above models, and reads into them

        model = convert.load(source, dtype)
        if not isinstance(model, cls):
            raise ValueError(
                f"{str(source)!r} holds a {type(model).__name__}, not a {cls.__name__}."
            )
        return model

    def export(self, filepath, format="tf_saved_model", verbose=None, **kwargs):
        """Export for serving; as a SavedModel it takes strings and gives strings.

        Args:
            filepath: Directory to write.
            format: `"tf_saved_model"` is `gk.export.saved_model(model, filepath, **kwargs)`; the
                other formats are `keras.Model.export`'s, and give logits for token ids.
            verbose: Whether those other formats report what they write.
            **kwargs: Further arguments of those.
        """
        if format == "tf_saved_model":
            from gpt_keras.export import saved_model  # export stands above models

            saved_model(self, filepath, **kwargs)
        else:
            super().export(filepath, format=format, verbose=verbose, **kwargs)

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "chat_template": self.chat_template,
            "end_token_ids": self._end_token_ids,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(
            config["backbone"], custom_objects=custom_objects
        )
        return cls._from_arguments(config)
