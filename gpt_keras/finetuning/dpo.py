"""Direct preference optimization: a model that prefers the chosen answers."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from gpt_keras.checks import check_positive, check_token_ids, token_id_error
from gpt_keras.datasets import PreferencePairs
from gpt_keras.finetuning.fine_tuner import BATCH_SIZE, FineTuner
from gpt_keras.layers.lora import adapters_disabled
from gpt_keras.models import CausalLM
from gpt_keras.models.batches import plain_errors
from gpt_keras.training.losses import cross_entropy, precise_dtype

_METRICS = ("accuracy", "margin", "chosen_reward", "rejected_reward", "kl")


class DPO(FineTuner):
    r"""Training of a causal model on preferences (DPO, Rafailov et al. 2023).

    The loss is `-log sigmoid(margin)`, equation 7 of the paper. The margin of a pair is

        beta * (log p(chosen) - log p_ref(chosen)) - beta * (log p(rejected) - log p_ref(rejected))

    where the log-probabilities are sums over the tokens of an answer, its end token included.

    The reference is the model before training. There is no second copy of the weights:

    - If the model has a LoRA adapter, the reference is the model without the adapter. The same
      training step computes both.
    - Otherwise the log-probabilities of the reference are computed once, before training:
      `train = dpo.with_reference(train)`. Pairs with log-probabilities always use them.

    An adapter that was trained before, for example by instruction tuning, is not in the first kind
    of reference. Merge it with `model.merge_adapter()` and call `enable_lora` again, or use
    `with_reference`.

    `DPO` holds the model and trains its weights in place. Afterwards, use and save the model
    itself: `model.generate`, `model.save_adapter`, `model.save_to_preset`. `DPO.save` writes the
    model, without `DPO`, so `keras.callbacks.ModelCheckpoint` works. Dropout is inactive in
    training, as in trl.

    The metrics are means over pairs, with trl's definitions:

    - `margin`: the margin. `accuracy`: the share of pairs with a margin above 0.
    - `chosen_reward` and `rejected_reward`: the two terms of the margin. Both often fall, which
      means that the model makes both answers less probable than the reference does.
    - `kl`, only with the adapter as reference: the KL divergence of the model's next-token
      distribution from the reference's, `sum p (log p - log p_ref)`, in nats. It is exact for each
      token, and averaged over the answers' tokens. The contexts are the texts of the pairs. Texts
      that the model itself generates may have another KL divergence.

    Args:
        model: A `CausalLM`.
        beta: Strength of the pull to the reference, above 0. Usual values are 0.1 to 0.5.
        name: Name of the Keras model.

    Call arguments:
        inputs: A dict of `token_ids` and `answer_mask`, `(batch, 2, length)`, as
            `PreferencePairs.batches` makes it. Optionally `reference`, `(batch, 2)`.

    Returns:
        A dict: `log_probabilities` and `reference`, `(batch, 2)`, of the chosen and the rejected
        answer. With the adapter as reference, also `kl`, `(batch,)`: the sum over the answers'
        tokens.

    Raises:
        ValueError: `model` is not a `CausalLM`, or `beta` is not positive.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("0123456789+= ", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=14)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> rows = [{"prompt": f"{i}+1=", "chosen": f"{i + 1}", "rejected": "0"} for i in range(9)]
        >>> data = gk.datasets.preferences(rows, model)
        >>> model.enable_lora(2)
        >>> dpo = gk.finetuning.DPO(model, beta=0.1)
        >>> dpo.compile(gk.training.adamw(1e-2), run_eagerly=True)
        >>> history = dpo.fit(data.train, verbose=0)
        >>> round(history.history["loss"][0], 4)    # log 2: the margins are 0 at first
        0.6931
    """

    def __init__(self, model: CausalLM, beta: float = 0.1, name: str = "dpo"):
        check_positive("beta", beta)
        super().__init__(model, _METRICS, name)
        self.beta = float(beta)
        self._has_kl = False

    # The network

    def call(self, inputs, training=None):
        logits, log_probabilities = self._run(inputs, training)
        if "reference" in inputs:
            reference = ops.cast(inputs["reference"], log_probabilities.dtype)
            return {"log_probabilities": log_probabilities, "reference": reference}
        if not self.has_adapter:
            raise ValueError(_NO_REFERENCE)
        with adapters_disabled():
            reference_logits, reference = self._run(inputs, training=False)
        is_answer = ops.cast(inputs["answer_mask"][..., 1:], logits.dtype)
        divergence = ops.reshape(_kl(logits, reference_logits), ops.shape(is_answer))
        return {
            "log_probabilities": log_probabilities,
            "reference": ops.stop_gradient(reference),
            "kl": ops.stop_gradient(ops.sum(divergence * is_answer, axis=(1, 2))),
        }

    def _run(self, inputs, training):
        """Return logits and log-probabilities.

        Returns:
            `(2 * batch, length - 1, vocabulary_size)`, and `(batch, 2)` of the answers.
        """
        ids = inputs["token_ids"]
        rows = ops.reshape(ids, (-1, ops.shape(ids)[-1]))  # (2 * batch, length)
        logits = ops.cast(self.model(rows[:, :-1], training=training), precise_dtype())
        is_answer = ops.reshape(inputs["answer_mask"], ops.shape(rows))[:, 1:]
        losses = cross_entropy(rows[:, 1:], logits)
        losses = ops.where(is_answer, losses, ops.zeros_like(losses))
        return logits, -ops.reshape(ops.sum(losses, axis=-1), ops.shape(ids)[:2])

    # Training

    def compile(self, optimizer="auto", **kwargs):
        super().compile(optimizer, **kwargs)
        self._has_kl = False

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", **kwargs):
        """Train on preferences; an extension of `keras.Model.fit`.

        Args:
            x: `PreferencePairs`, such as a part of `gk.datasets.preferences`; or a dataset of its
                `batches`.
            y: Must be None.
            batch_size: Number of pairs in a batch, for `PreferencePairs`; 8 unless given.
            epochs: Number of passes over the pairs.
            verbose: As in Keras.
            **kwargs: The other arguments of `keras.Model.fit`. `validation_data` is as `x`.
                `shuffle=False` keeps the order of pairs of similar length; otherwise the order
                is `batches(batch_size, seed=0)`.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: `x` has another form, a token id is outside the vocabulary, a row is too
                long, there is no reference, or the trained weights changed since `compile`.
        """
        seed = 0 if kwargs.pop("shuffle", True) else None
        self._check_trained()
        x = self._read("x", x, y, batch_size, seed)
        if kwargs.get("validation_data") is not None:
            size = kwargs.get("validation_batch_size") or batch_size
            kwargs["validation_data"] = self._read(
                "validation_data", kwargs["validation_data"], None, size
            )
            if ("reference" in x.element_spec) != (
                "reference" in kwargs["validation_data"].element_spec
            ):
                raise ValueError(
                    "`x` and `validation_data` must have the same kind of reference: use "
                    "`with_reference` for both, or for neither."
                )
        self._has_kl = "reference" not in x.element_spec
        with plain_errors():
            return super().fit(x, epochs=epochs, verbose=verbose, shuffle=False, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", **kwargs):
        """Return loss and metrics on preferences, as `keras.Model.evaluate`.

        Args:
            x: As in `fit`.
            y: Must be None.
            batch_size: As in `fit`.
            verbose: As in Keras.
            **kwargs: The other arguments of `keras.Model.evaluate`.

        Returns:
            As `keras.Model.evaluate`.

        Raises:
            ValueError: As in `fit`.
        """
        x = self._read("x", x, y, batch_size)
        self._has_kl = "reference" not in x.element_spec
        with plain_errors():
            return super().evaluate(x, verbose=verbose, **kwargs)

    def rewards(self, pairs: PreferencePairs, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Return the rewards of both answers of each pair, in the order of the pairs.

        A reward is `beta * (log p(answer) - log p_ref(answer))`.

        Args:
            pairs: The pairs, with a reference if the model has no adapter.
            batch_size: Number of pairs in a batch.

        Returns:
            float32 `(pairs, 2)`, the chosen answer first.

        Raises:
            ValueError: As in `fit`.
        """
        self._check_pairs("pairs", pairs)

        def rewards(batch):
            found = self(batch, training=False)
            return self.beta * (found["log_probabilities"] - found["reference"])

        return self._of_each_pair(pairs, batch_size, rewards)

    def with_reference(
        self, pairs: PreferencePairs, batch_size: int = BATCH_SIZE
    ) -> PreferencePairs:
        """Return pairs with the log-probabilities of the reference, computed now.

        The model of this moment is the reference, its adapter included: call this method before
        training. A training step then needs one pass of the model less, and does not measure `kl`.

        Args:
            pairs: The pairs.
            batch_size: Number of pairs in a batch.

        Returns:
            The same pairs, with `reference`.

        Raises:
            ValueError: A token id is outside the vocabulary, or a row is too long.

        Example:
            >>> import numpy as np
            >>> import gpt_keras as gk
            >>> dpo = gk.finetuning.DPO(gk.GPTCausalLM(gk.presets.get("tiny")))
            >>> pairs = gk.datasets.PreferencePairs(([5, 6],), ([7],), ([8, 9],))
            >>> dpo.with_reference(pairs).reference.shape
            (1, 2)
        """
        self._check_pairs("pairs", pairs, needs_reference=False)

        def log_probabilities(batch):
            return self._run(batch, training=False)[1]

        pairs = dataclasses.replace(pairs, reference=None)
        found = self._of_each_pair(pairs, batch_size, log_probabilities)
        return dataclasses.replace(pairs, reference=found)

    def _of_each_pair(self, pairs, batch_size, function):
        compiled = tf.function(function, autograph=False, jit_compile=bool(self.jit_compile))
        results = np.zeros((len(pairs), 2), np.float32)
        for index, batch in pairs.numbered_batches(batch_size):
            is_pair = index >= 0
            results[index[is_pair]] = np.array(compiled(batch))[is_pair]
        return results

    # Keras's hooks

    @property
    def metrics(self):
        """Metrics that Keras resets and shows, the loss first."""
        found = super().metrics
        return found if self._has_kl else [metric for metric in found if metric.name != "kl"]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of a batch; Keras calls this method in every step."""
        is_answer = ops.cast(x["answer_mask"][..., 1:], precise_dtype())
        num_tokens = ops.sum(is_answer, axis=(1, 2))
        is_pair = ops.cast(num_tokens > 0, precise_dtype())  # batches are filled up
        num_pairs = ops.sum(is_pair)
        rewards = self.beta * (y_pred["log_probabilities"] - y_pred["reference"])
        margins = rewards[:, 0] - rewards[:, 1]
        losses = ops.softplus(-margins)  # -log sigmoid(margins)
        loss = ops.sum(losses * is_pair) / ops.maximum(num_pairs, 1)
        values = {
            "accuracy": ops.cast(margins > 0, margins.dtype),
            "margin": margins,
            "chosen_reward": rewards[:, 0],
            "rejected_reward": rewards[:, 1],
        }
        for name, value in values.items():
            self._means[name].update_state(value, sample_weight=is_pair)
        if "kl" in y_pred:
            per_token = y_pred["kl"] / ops.maximum(num_tokens, 1)
            self._means["kl"].update_state(per_token, sample_weight=num_tokens)
        return self._finish_loss(loss, num_pairs, training)

    # Checks of the data

    def _read(self, name, x, y=None, batch_size=None, seed=None) -> tf.data.Dataset:
        if y is not None:
            raise ValueError("`y` must be None: preferences have no targets.")
        if isinstance(x, PreferencePairs):
            self._check_pairs(name, x)
            return x.batches(BATCH_SIZE if batch_size is None else batch_size, seed=seed)
        if isinstance(x, tf.data.Dataset):
            self._check_spec(name, x.element_spec)
            return x.map(tf.autograph.experimental.do_not_convert(self._checked))
        raise ValueError(
            f"`{name}` must be PreferencePairs, such as a part of gk.datasets.preferences, or a "
            f"tf.data.Dataset of their batches; got {type(x).__name__}."
        )

    def _check_pairs(self, name, pairs, needs_reference=True):
        if not isinstance(pairs, PreferencePairs):
            raise ValueError(f"`{name}` must be PreferencePairs, got {type(pairs).__name__}.")
        for part in (pairs.prompts, pairs.chosen, pairs.rejected):
            check_token_ids(np.concatenate([np.zeros(0, np.int32), *part]), self._num_ids)
        limit = self.model.max_sequence_length
        if limit is not None and (longest := max(pairs.sizes, default=0)) > limit + 1:
            raise ValueError(
                f"`{name}` has a pair of {longest} tokens, but the model reads at most "
                f"{limit} tokens and predicts one more: give gk.datasets.preferences this model."
            )
        if needs_reference and pairs.reference is None and not self.has_adapter:
            raise ValueError(_NO_REFERENCE)

    @property
    def _num_ids(self):
        return self.model.vocabulary_size

    def _check_spec(self, name, spec: Any) -> None:
        is_batch = isinstance(spec, dict) and {"token_ids", "answer_mask"} <= set(spec)
        if not is_batch or any(len(spec[key].shape) != 3 for key in ("token_ids", "answer_mask")):
            raise ValueError(
                f"`{name}` must have batches of PreferencePairs: dicts of `token_ids` and "
                f"`answer_mask`, (batch, 2, length). It has {spec}."
            )
        if "reference" not in spec and not self.has_adapter:
            raise ValueError(_NO_REFERENCE)

    def _checked(self, batch):
        """Check the ids of a batch of a dataset: XLA silently clamps ids."""
        ids = tf.cast(batch["token_ids"], tf.int64)
        is_known = tf.reduce_all((ids >= 0) & (ids < self._num_ids))
        bounds = tf.reduce_min(ids), tf.reduce_max(ids)
        message = tf.strings.format(token_id_error("{}", "{}", self._num_ids), bounds)
        with tf.control_dependencies([tf.Assert(is_known, [message])]):
            return {**batch, "token_ids": tf.identity(batch["token_ids"])}


_NO_REFERENCE = (
    "There must be a reference. Either fine-tune an adapter: call `model.enable_lora(...)` before "
    "`compile`. Or train all weights, with the log-probabilities of the model before training: "
    "pass `dpo.with_reference(pairs)`, for the validation pairs too."
)


def _kl(logits, reference_logits):
    """Return `sum p (log p - log p_ref)` over the last axis."""
    log_p, log_ref = ops.log_softmax(logits), ops.log_softmax(reference_logits)
    return ops.sum(ops.exp(log_p) * (log_p - log_ref), axis=-1)
