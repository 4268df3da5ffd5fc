"""Language models to train and to generate with: a backbone, a tokenizer, Keras's verbs."""

import pathlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from gpt_keras import tokenizers
from gpt_keras.atomic import atomic_file
from gpt_keras.backend import require_tensorflow
from gpt_keras.config import GPTConfig, check_positive_int
from gpt_keras.datasets import padded
from gpt_keras.generation import Generator, row_seeds
from gpt_keras.models.gpt import GPT, check_token_ids
from gpt_keras.models.preset_folder import read_preset, write_preset
from gpt_keras.training import Perplexity, adamw


@keras.saving.register_keras_serializable("gpt_keras")
class CausalLM(keras.Model):
    """A backbone that predicts the next token, with a tokenizer: fits, generates, saves, exports.

    Args:
        backbone: a Keras model from token ids `(batch, length)` to logits `(batch, length,
            vocabulary_size)`. To generate and export it also needs the cache protocol, as `GPT` has
            it: `initial_cache(batch_size, length)`, `extend(token_ids, cache, index, starts) ->
            (logits, update)` and `write(cache, update, index)`. If it has an attribute
            `max_sequence_length`, longer sequences are refused and generation stops there.
        tokenizer: a `gpt_keras.tokenizers` tokenizer, or None if only ids are used.
        name: name of the model.

    Raises:
        ValueError: the tokenizer has more ids than the backbone.

    Example:

    >>> import gpt_keras as gk
    >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
    >>> config = gk.GPTConfig(vocabulary_size=4, max_sequence_length=16, num_layers=1,
    ...                       num_heads=2, hidden_dim=8)
    >>> model = gk.CausalLM(gk.GPT(config), tokenizer=tokenizer)
    >>> len(model.generate("abc", max_new_tokens=5, seed=0))
    8
    """

    def __init__(self, backbone: keras.Model, tokenizer=None, name: str = "causal_lm"):
        token_ids = keras.Input((None,), dtype="int32", name="token_ids")
        super().__init__(inputs=token_ids, outputs=backbone(token_ids), name=name)
        self.backbone = backbone
        self._generator = None
        self.tokenizer = tokenizer

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids that the model knows."""
        return self.output_shape[-1]

    @property
    def max_sequence_length(self) -> int | None:
        """Longest sequence that the backbone takes; None if it names no limit."""
        return getattr(self.backbone, "max_sequence_length", None)

    @property
    def tokenizer(self):
        """The tokenizer, or None."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer):
        if tokenizer is not None and tokenizer.vocabulary_size > self.vocabulary_size:
            raise ValueError(
                f"`tokenizer` has {tokenizer.vocabulary_size} ids, more than the model's "
                f"vocabulary_size={self.vocabulary_size}."
            )
        self._tokenizer = tokenizer
        self._generator = None  # it knows the tokenizer's end of text

    # Training

    def compile(self, optimizer="auto", loss="auto", *, weighted_metrics="auto", **kwargs):
        """Set how the model trains; every argument has a default and can be overridden.

        Args:
            optimizer: `"auto"` is `gk.training.adamw()`: AdamW with warm-up, clipping, and no decay
                on biases, norms and embeddings.
            loss: `"auto"` is the cross-entropy from logits, averaged over the tokens whose sample
                weight is not 0.
            weighted_metrics: `"auto"` is perplexity and accuracy.
            **kwargs: the other arguments of `keras.Model.compile`. `jit_compile` is True unless
                given: Keras's own choice would not use XLA on a CPU.

        Raises:
            ValueError: `loss` is a cross-entropy on probabilities; the model gives logits.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = adamw()
        if isinstance(loss, str) and loss == "auto":
            loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            )
        if isinstance(weighted_metrics, str) and weighted_metrics == "auto":
            weighted_metrics = [
                Perplexity(),
                keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            ]
        _check_loss(loss)
        kwargs.setdefault("jit_compile", True)
        super().compile(optimizer=optimizer, loss=loss, weighted_metrics=weighted_metrics, **kwargs)

    def compile_from_config(self, config):
        """Compile as a saved model was compiled; Keras calls this while loading."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, batch_size=None, epochs=1, **kwargs):
        """Train; `keras.Model.fit` that also takes texts.

        Args:
            x: a `tf.data.Dataset` (such as `gk.datasets.language_modeling` makes), arrays of token
                ids, or a list of strings: each is then one document, ended by the end-of-text
                token, cut at `max_sequence_length` and padded, with a loss that ignores padding.
            y: for arrays, the targets: the ids that follow those in `x`.
            batch_size: for arrays and strings; 32 unless given.
            epochs: number of passes.
            **kwargs: the other arguments of `keras.Model.fit`; `validation_data` may be a list of
                strings too.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: token ids outside the vocabulary, sequences that are too long, strings
                without a tokenizer.
        """
        x, batch_size = self._prepare(x, y, batch_size, shuffle=kwargs.get("shuffle", True))
        validation = kwargs.get("validation_data")
        if validation is not None:
            pair = validation if isinstance(validation, tuple) else (validation, None)
            if _is_texts(validation):
                pair = (validation, None)
            prepared, _ = self._prepare(*pair[:2], kwargs.get("validation_batch_size"))
            kwargs["validation_data"] = prepared if pair[1] is None else validation
        return super().fit(x, y, batch_size=batch_size, epochs=epochs, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, **kwargs):
        """Return loss and metrics; `keras.Model.evaluate` that also takes a list of strings."""
        x, batch_size = self._prepare(x, y, batch_size)
        return super().evaluate(x, y, batch_size=batch_size, **kwargs)

    def predict(self, x, batch_size=None, **kwargs):
        """Return logits `(batch, length, vocabulary_size)`; `keras.Model.predict`, ids checked."""
        if _is_texts(x):
            raise ValueError(
                "`predict` takes token ids and gives logits; for texts use `generate`."
            )
        x, batch_size = self._prepare(x, None, batch_size)
        return super().predict(x, batch_size=batch_size, **kwargs)

    def _prepare(self, x, y, batch_size, shuffle=False):
        """Turn texts into a dataset; look at ids before XLA would clamp the wrong ones silently."""
        if _is_texts(x):
            if y is not None:
                raise ValueError(
                    "`y` must be None when `x` is texts: the targets are their tokens."
                )
            dataset = padded(
                [x] if isinstance(x, str) else list(x),
                self._require_tokenizer("Texts"),
                sequence_length=self.max_sequence_length,
                batch_size=batch_size or 32,
                seed=0 if shuffle else None,
            )
            return dataset, None
        if isinstance(x, tf.data.Dataset):
            for batch in x.take(1):
                inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(batch)
                self._check_arrays(inputs, targets)
        elif hasattr(x, "shape"):
            self._check_arrays(x, y)
        return x, batch_size

    def _check_arrays(self, token_ids, targets):
        limit = self.max_sequence_length
        if limit is not None and len(token_ids.shape) > 1 and token_ids.shape[1] > limit:
            raise ValueError(
                f"Sequences of {token_ids.shape[1]} tokens are longer than the model's "
                f"max_sequence_length={limit}."
            )
        for ids in (token_ids, targets):
            if ids is not None:
                check_token_ids(ids, self.vocabulary_size)

    # Generation

    def generate(
        self,
        prompts: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        *,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | Sequence[int] | None = None,
    ) -> str | list[str] | list[int] | list[list[int]]:
        """Continue one prompt or a batch of prompts of any lengths.

        A row ends at the end-of-text token, which is not returned, or at its limit of tokens, or
        where it fills `max_sequence_length`.

        Args:
            prompts: a text, a list of texts, a list of token ids, or a list of such lists.
            max_new_tokens: how many tokens to add at most. Default: 100, if `max_length` is not
                given either.
            max_length: how many tokens prompt and continuation may have together.
            temperature: divides the logits; 0 always takes the most likely token (greedy).
            top_k: draw from the `top_k` most likely tokens only; None is off.
            top_p: draw from the smallest set of tokens whose probabilities sum to at least `top_p`,
                in (0, 1]; None is off.
            seed: a number, from which row i draws as `gk.generation.fold_in(seed, i)`; or one number
                for each row. The same row seed gives the same text, whatever the batch. None takes
                a new seed each time.

        Returns:
            Prompt and continuation, in the form that the prompt had.

        Raises:
            ValueError: an argument is out of its range, a prompt is empty or leaves no room, an id
                is outside the vocabulary, or texts are given without a tokenizer.
        """
        request = self._request(
            prompts, max_new_tokens, max_length, temperature, top_k, top_p, seed
        )
        token_ids, lengths = self._require_generator().generate(*request.tensors)
        rows = [row[:n].tolist() for row, n in zip(token_ids.numpy(), lengths.numpy(), strict=True)]
        if request.is_text:
            rows = self.tokenizer.decode(rows)
        return rows[0] if request.is_single else rows

    def stream(self, prompt: str, **settings) -> Iterator[str]:
        """Continue one prompt and yield pieces of text as soon as they are certain.

        The pieces together are what `generate` with the same settings adds to the prompt. A piece
        never ends inside a character: bytes wait for those that complete them.

        Args:
            prompt: a text.
            **settings: the settings of `generate`.

        Yields:
            Pieces of text.

        Raises:
            ValueError: as in `generate`; at once, not at the first piece.
        """
        if not isinstance(prompt, str):
            raise ValueError(f"`prompt` must be a text, got {type(prompt).__name__}.")
        defaults = dict.fromkeys(("max_new_tokens", "max_length", "top_k", "top_p", "seed"))
        unknown = sorted(set(settings) - set(defaults) - {"temperature"})
        if unknown:
            raise ValueError(f"`stream` has no settings {unknown}; it has those of `generate`.")
        request = self._request(prompt, **{**defaults, "temperature": 1.0, **settings})
        return self._pieces(request)

    def _pieces(self, request):
        generator = self._require_generator()
        prompts, settings = request.tensors[:4], request.tensors[4:]
        state = generator.start(*prompts)
        given = self.tokenizer.decode(request.rows[0])
        shown = len(given)
        while not state.finished.numpy().all():
            state = generator.advance(state, 1, *settings)
            token_ids, lengths = generator.sequences(state)
            text = self.tokenizer.decode(token_ids[0, : lengths[0]].numpy().tolist())
            # A character cut in two decodes to U+FFFD until its last byte is there.
            if not text.endswith("\ufffd") or state.finished.numpy().all():
                if len(text) > shown:
                    yield text[shown:]
                shown = len(text)

    def _request(self, prompts, max_new_tokens, max_length, temperature, top_k, top_p, seed):
        """Check everything before any work starts, and return the generator's inputs."""
        require_tensorflow("Generation")
        _check_sampling(temperature, top_k, top_p)
        rows, is_text, is_single = self._encode(prompts)
        limits = self._limits([len(row) for row in rows], max_new_tokens, max_length)
        seeds = _seeds(seed, len(rows))
        longest = max(len(row) for row in rows)
        token_ids = np.zeros((len(rows), longest), "int32")
        for i, row in enumerate(rows):
            token_ids[i, : len(row)] = row
        tensors = (
            tf.constant(token_ids),
            tf.constant([len(row) for row in rows], tf.int32),
            tf.constant(limits, tf.int32),
            seeds,
            tf.constant(temperature, tf.float32),
            tf.constant(top_k or 0, tf.int32),
            tf.constant(1.0 if top_p is None else top_p, tf.float32),
        )
        return _Request(rows, tensors, is_text, is_single)

    def _encode(self, prompts):
        is_single = isinstance(prompts, str) or (
            len(prompts) > 0 and isinstance(prompts[0], (int, np.integer))
        )
        rows = [prompts] if is_single else list(prompts)
        if not rows:
            raise ValueError("`prompts` must have at least one prompt, got an empty list.")
        is_text = all(isinstance(row, str) for row in rows)
        if is_text:
            rows = self._require_tokenizer("Texts").encode(rows)
        for i, row in enumerate(rows):
            if isinstance(row, str) or np.ndim(row) != 1 or not len(row):
                raise ValueError(
                    f"`prompts` must be texts or lists of token ids, none of them empty; "
                    f"number {i} is {row!r}."
                )
            check_token_ids(row, self.vocabulary_size)
        return [[int(i) for i in row] for row in rows], is_text, is_single

    def _limits(self, lengths, max_new_tokens, max_length):
        """How many tokens each row may get."""
        if max_new_tokens is not None and max_length is not None:
            raise ValueError(
                f"Give `max_new_tokens` or `max_length`, not both; "
                f"got {max_new_tokens!r} and {max_length!r}."
            )
        if max_length is not None:
            check_positive_int("max_length", max_length)
            limits = [max_length - n for n in lengths]
        else:
            max_new_tokens = 100 if max_new_tokens is None else max_new_tokens
            check_positive_int("max_new_tokens", max_new_tokens)
            limits = [max_new_tokens for _ in lengths]
        context = self.max_sequence_length
        if context is not None:
            limits = [min(limit, context - n) for limit, n in zip(limits, lengths, strict=True)]
        if min(limits) < 1:
            longest = max(lengths)
            raise ValueError(
                f"A prompt of {longest} tokens leaves no room: max_length={max_length}, and the "
                f"model's max_sequence_length={context}."
            )
        return limits

    def _require_tokenizer(self, what):
        if self.tokenizer is None:
            raise ValueError(
                f"{what} need a tokenizer, and this model has none: set `model.tokenizer`, "
                f"or pass token ids."
            )
        return self.tokenizer

    def _require_generator(self):
        if self._generator is None:
            self._generator = make_generator(self)
        return self._generator

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
            ValueError: the folder exists and is not empty.
        """
        write_preset(self, directory)

    @classmethod
    def from_preset(cls, source):
        """Load a model from a folder that `save_to_preset` wrote.

        Args:
            source: path of the folder.

        Returns:
            A model of the class that was saved.

        Raises:
            ValueError: the folder is not a preset, is damaged, or holds another class.
        """
        model = read_preset(source)
        if not isinstance(model, cls):
            raise ValueError(
                f"{str(source)!r} holds a {type(model).__name__}, not a {cls.__name__}."
            )
        return model

    def save_assets(self, directory):
        """Write the tokenizer into a `.keras` file; Keras calls this while saving."""
        if self.tokenizer is not None:
            self.tokenizer.save(pathlib.Path(directory) / "tokenizer.json")

    def load_assets(self, directory):
        """Read the tokenizer from a `.keras` file; Keras calls this while loading."""
        path = pathlib.Path(directory) / "tokenizer.json"
        if path.exists():
            self.tokenizer = tokenizers.load(path)

    def export(self, filepath, format="tf_saved_model", **kwargs):
        """Export for serving; as a SavedModel it takes strings and gives strings.

        Args:
            filepath: directory to write.
            format: `"tf_saved_model"` is `gk.export.saved_model(model, filepath, **kwargs)`; the
                other formats are `keras.Model.export`'s, and give logits for token ids.
            **kwargs: further arguments of those.
        """
        if format == "tf_saved_model":
            from gpt_keras.export import saved_model  # export stands above models

            saved_model(self, filepath, **kwargs)
        else:
            super().export(filepath, format=format, **kwargs)

    def get_config(self):
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(
            config["backbone"], custom_objects=custom_objects
        )
        return cls(**config)


@keras.saving.register_keras_serializable("gpt_keras")
class GPTCausalLM(CausalLM):
    """A `CausalLM` whose backbone is the `GPT` of a config.

    Args:
        config: a `GPTConfig`.
        tokenizer: a `gpt_keras.tokenizers` tokenizer, or None if only ids are used.
        dtype: dtype policy, such as `"mixed_bfloat16"`. Default: Keras's global policy.
        name: name of the model.

    Example:

    >>> import gpt_keras as gk
    >>> config = gk.GPTConfig(vocabulary_size=50, max_sequence_length=16, num_layers=1,
    ...                       num_heads=2, hidden_dim=8)
    >>> model = gk.GPTCausalLM(config)
    >>> len(model.generate([1, 2, 3], max_new_tokens=4, temperature=0))
    7
    """

    def __init__(self, config: GPTConfig, tokenizer=None, dtype=None, name: str = "gpt_causal_lm"):
        super().__init__(GPT(config, dtype=dtype), tokenizer=tokenizer, name=name)

    @property
    def config(self) -> GPTConfig:
        """The config of the backbone."""
        return self.backbone.config

    def get_config(self):
        return {**self.backbone.get_config(), "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["config"] = GPTConfig.from_dict(config["config"])
        return cls(**config)


def make_generator(model: CausalLM, jit_compile: bool = True) -> Generator:
    """Return the generation loop for a model.

    Raises:
        ValueError: the backbone lacks a method of the cache protocol.
    """
    missing = [
        name for name in ("initial_cache", "extend", "write") if not hasattr(model.backbone, name)
    ]
    if missing:
        raise ValueError(
            f"The backbone {model.backbone.name!r} cannot generate: it has no method "
            f"{', '.join(missing)}. See CausalLM for the cache protocol."
        )
    end_of_text_id = None if model.tokenizer is None else model.tokenizer.end_of_text_id
    return Generator(model.backbone, end_of_text_id, jit_compile=jit_compile)


class _Request:
    """A checked call of `generate`."""

    def __init__(self, rows, tensors, is_text, is_single):
        self.rows = rows
        self.tensors = tensors
        self.is_text = is_text
        self.is_single = is_single


def _is_texts(x) -> bool:
    return isinstance(x, str) or (
        isinstance(x, (list, tuple)) and len(x) > 0 and all(isinstance(text, str) for text in x)
    )


def _seeds(seed, batch_size):
    if seed is None:
        seed = np.random.default_rng().integers(2**62)
    if isinstance(seed, (int, np.integer)):
        return row_seeds(seed, batch_size)
    seeds = [int(number) for number in seed]
    if len(seeds) != batch_size:
        raise ValueError(
            f"`seed` must be one number, or one for each of the {batch_size} prompts; got {seed!r}."
        )
    return tf.constant(seeds, tf.int64)


def _check_sampling(temperature, top_k, top_p):
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"`temperature` must be a number of at least 0, got {temperature!r}.")
    if top_k is not None:
        check_positive_int("top_k", top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"`top_p` must be in (0, 1], or None for off; got {top_p!r}.")


def _check_loss(loss):
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    is_cross_entropy = "crossentropy" in name.lower().replace("_", "")
    if is_cross_entropy and not getattr(loss, "from_logits", False):
        raise ValueError(
            f"`loss`={loss!r} expects probabilities, but the model gives logits: pass "
            f"keras.losses.SparseCategoricalCrossentropy(from_logits=True), or leave `loss` out."
        )
