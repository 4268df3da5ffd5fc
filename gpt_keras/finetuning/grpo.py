"""Group relative policy optimization: a model that learns from rewards by rule."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from gpt_keras.backend import require_tensorflow
from gpt_keras.checks import check_at_least_0, check_positive, check_positive_int, check_seed
from gpt_keras.datasets.length_buckets import bucketed_indices
from gpt_keras.finetuning.fine_tuner import BATCH_SIZE, FineTuner
from gpt_keras.finetuning.rollouts import (
    TrainingPrompts,
    group_advantages,
    rewards_of,
    sample_completions,
    step_arrays,
    training_prompts,
)
from gpt_keras.generation import fold_in
from gpt_keras.generation.backbone import fixed_length
from gpt_keras.layers.lora import adapters_disabled
from gpt_keras.models import CausalLM
from gpt_keras.training.losses import cross_entropy, precise_dtype

# Metrics of the sampled completions, and metrics that the step computes.
_OF_SAMPLES = ("reward", "reward_std", "frac_reward_zero_std", "completion_length", "ended")
_OF_STEP = ("kl", "clip_ratio")


class GRPO(FineTuner):
    r"""Training of a causal model on rewards (GRPO, Shao et al. 2024, section 4.1).

    For each prompt the model samples a group of completions. `reward_function` gives each of them a
    number. The advantage `A` of a completion is its reward minus the mean of its group, divided by
    the standard deviation of the group. The loss is equation 3 of the paper, with the sign changed:

        -mean over completions, mean over tokens:  min(r A, clip(r, 1 - epsilon, 1 + epsilon) A)
                                                   - beta (p_ref / p - log(p_ref / p) - 1)

    where `p` is the probability of the token, `r = p / p_old` its ratio to the probability when it
    was sampled, and `p_ref` its probability under the reference. The last term is an unbiased
    estimate of the KL divergence from the reference (equation 4).

    The reference is the model before training:

    - If the model has a LoRA adapter, the reference is the model without the adapter. There is no
      second copy of the weights. An adapter that was trained before is not in this reference: merge
      it with `model.merge_adapter()`, and call `enable_lora` again.
    - Otherwise `compile` makes a copy of the weights, which stays frozen.
    - With `beta=0` there is no reference.

    `generate` samples at `temperature`, without any other setting, outside the compiled step.
    Logits are divided by the temperature in the loss too, as in trl. If the model has several end
    tokens, they count as one: its probability is their sum.

    A completion that has not ended after `max_new_tokens` tokens is truncated there. It gets its
    reward like the others, so a rule that wants an end must see it from the text. Its tokens have a
    loss, but there is no end token. With `mask_truncated_completions` its tokens have no loss, and
    its reward still counts in the mean of its group. The metric `ended` is the share of completions
    that are not truncated.

    A group with equal rewards has advantages of 0, so only the KL term remains. Dropout is inactive
    in training. `GRPO` trains the model in place: afterwards, use and save the model itself.

    The metrics are means over the epoch:

    - `reward`; `reward_std`, the standard deviation inside a group; `frac_reward_zero_std`, the
      share of groups with equal rewards.
    - `completion_length`, in tokens with the end token; `ended`, the share of completions that the
      model ended with an end token.
    - `kl`, unless `beta` is 0: the estimate of the KL divergence, per token. `clip_ratio`: the
      share of tokens whose ratio is clipped, 0 in the first update with each sample.

    The loss equals that of trl's `GRPOTrainer` with `loss_type="grpo"` and
    `use_bias_correction_kl=False`.

    Args:
        model: A `CausalLM`.
        reward_function: A function with the arguments `prompts` and `completions`, two lists of the
            same length, that returns one finite number for each completion. The prompts are as you
            gave them. The completions are texts without the end token, or lists of token ids if
            the prompts are token ids.
        num_generations: Number of completions in a group, at least 2.
        max_new_tokens: Largest number of tokens of a completion.
        temperature: Temperature of sampling.
        beta: Weight of the KL term.
        epsilon: The ratio is clipped to [1 - epsilon, 1 + epsilon].
        num_iterations: Number of updates with each batch of samples.
        mask_truncated_completions: Whether truncated completions have no loss.
        seed: Seed of sampling and of the order of the prompts.
        name: Name of the Keras model.

    Call arguments:
        inputs: A dict of `token_ids` and `completion_mask`, `(rows, length)`.

    Returns:
        A dict of `log_probabilities` and, unless `beta` is 0, `reference`: the log-probabilities of
        the completions' tokens, `(rows, length - 1)`. They are 0 for the other tokens.

    Raises:
        ValueError: An argument is out of range, or `reward_function` does not take the arguments
            `prompts` and `completions`.

    Example:
        >>> import gpt_keras as gk
        >>> model = gk.GPTCausalLM(gk.presets.get("tiny").replace(vocabulary_size=8))
        >>> def count_fives(prompts, completions):
        ...     return [completion.count(5) for completion in completions]
        >>> grpo = gk.finetuning.GRPO(model, count_fives, num_generations=4, max_new_tokens=3)
        >>> grpo.compile(gk.training.adamw(1e-2), run_eagerly=True)
        >>> history = grpo.fit([[1, 2], [3]], verbose=0).history
        >>> history["completion_length"], history["ended"]
        ([3.0], [0.0])
    """

    def __init__(
        self,
        model: CausalLM,
        reward_function: Callable[..., Any],
        *,
        num_generations: int = 8,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        beta: float = 0.04,
        epsilon: float = 0.2,
        num_iterations: int = 1,
        mask_truncated_completions: bool = False,
        seed: int = 0,
        name: str = "grpo",
    ):
        require_tensorflow("GRPO")
        _check_reward_function(reward_function)
        check_positive_int("num_generations", num_generations)
        if num_generations < 2:
            raise ValueError(
                "`num_generations` must be at least 2, because a completion is compared with the "
                f"others of its group; got {num_generations}."
            )
        check_positive_int("max_new_tokens", max_new_tokens)
        check_positive("temperature", temperature)
        check_at_least_0("beta", beta)
        check_positive("epsilon", epsilon)
        check_positive_int("num_iterations", num_iterations)
        check_seed(seed)
        super().__init__(model, _OF_SAMPLES + (_OF_STEP if beta else _OF_STEP[1:]), name)
        # `partial` hides a reward model: Keras would train its weights too.
        self._reward_function = functools.partial(reward_function)
        self.num_generations = num_generations
        self.max_new_tokens = max_new_tokens
        self.temperature = float(temperature)
        self.beta = float(beta)
        self.epsilon = float(epsilon)
        self.num_iterations = num_iterations
        self.mask_truncated_completions = bool(mask_truncated_completions)
        self.seed = seed
        self._num_sampled = 0  # batches of training
        self._training = self._testing = None  # TrainingPrompts
        self._validation = (None, None)  # dataset and its TrainingPrompts
        self._reference = None

    # The network

    def call(self, inputs, training=None):
        found = {"log_probabilities": self._log_probabilities(self.model, inputs, training)}
        if self.beta:
            found["reference"] = self._of_reference(inputs)
        return found

    def _of_reference(self, inputs):
        if "reference" in inputs:
            return inputs["reference"]
        if self.has_adapter:
            with adapters_disabled():
                found = self._log_probabilities(self.model, inputs)
        elif self._reference is None:
            raise ValueError("Call `compile` first: it makes the copy of the weights.")
        else:
            found = self._log_probabilities(self._reference, inputs)
        return ops.stop_gradient(found)

    def _log_probabilities(self, model, inputs, training=False):
        ids, mask = inputs["token_ids"], inputs["completion_mask"][:, 1:]
        logits = model(ids[:, :-1], training=training)  # (rows, length - 1, vocabulary_size)
        # As in generation, ids beyond the tokenizer's vocabulary have probability 0.
        logits = ops.cast(logits[..., : self._num_ids], precise_dtype()) / self.temperature
        found = -cross_entropy(ids[:, 1:], logits)
        ends = self._end_token_ids
        if len(ends) > 1:
            of_end = ops.logsumexp(ops.take(logits, ends, axis=-1), axis=-1)
            of_end -= ops.logsumexp(logits, axis=-1)
            found = ops.where(ids[:, 1:] == ends[0], of_end, found)
        return ops.where(mask, found, ops.zeros_like(found))

    @property
    def _num_ids(self):
        tokenizer = self.model.tokenizer
        return self.model.vocabulary_size if tokenizer is None else tokenizer.vocabulary_size

    @property
    def _end_token_ids(self):
        return [i for i in self.model.end_token_ids if i < self._num_ids]

    # Training

    def compile(self, optimizer="auto", **kwargs):
        """Configure training; the loss and the metrics are fixed.

        Args:
            optimizer: `"auto"` is `gk.training.adamw` without weight decay. Its learning rate is
                1e-6, as in the paper (section 4.2), or 1e-5 for a LoRA adapter.
            **kwargs: The other arguments of `keras.Model.compile`, except `loss` and metrics.
                `jit_compile` defaults to True, unless `run_eagerly` is True.

        Raises:
            ValueError: There is a loss or a metric among the arguments, `steps_per_execution` is
                not 1, or the strategy of `tf.distribute` has several devices.
        """
        if kwargs.get("steps_per_execution", 1) != 1:
            raise ValueError(
                "`steps_per_execution` must be 1, because the model samples between the steps; got "
                f"{kwargs['steps_per_execution']!r}."
            )
        if self.distribute_strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "GRPO trains on one device, got a tf.distribute strategy with "
                f"{self.distribute_strategy.num_replicas_in_sync}."
            )
        super().compile(optimizer, **kwargs)
        # A partial hides the copy from Keras, which would train and save it.
        needs_copy = self.beta and not self.has_adapter
        self._reference = functools.partial(_copy(self.model)) if needs_copy else None
        self._score = tf.function(
            self._with_old, autograph=False, reduce_retracing=True, jit_compile=self.jit_compile
        )

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", **kwargs):
        """Train on prompts; an extension of `keras.Model.fit`.

        Args:
            x: The prompts: texts or rows of token ids in any container, as in `CausalLM.generate`.
                Or a list of lists of messages, dicts of `role` and `content`, which the model's
                chat template makes texts of.
            y: Must be None.
            batch_size: Number of prompts in a batch; 8 unless given. The model runs
                `num_generations` rows for each of them.
            epochs: Number of passes over the prompts.
            verbose: As in Keras.
            **kwargs: The other arguments of `keras.Model.fit`. `validation_data` is as `x`;
                `shuffle=False` keeps the order of the prompts; `steps_per_epoch` repeats them as
                often as needed.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: A prompt is empty, or leaves no room for `max_new_tokens`. The reward
                function does not return one finite number for each completion. Or the trained
                weights changed since `compile`.
        """
        self._check_trained()
        seed = self.seed if kwargs.pop("shuffle", True) else None
        self._training, x = self._read("x", x, y, batch_size, seed)
        if kwargs.get("steps_per_epoch") is not None:
            x = x.repeat()
        if kwargs.get("validation_data") is not None:
            size = kwargs.get("validation_batch_size") or batch_size
            prompts, data = self._read("validation_data", kwargs["validation_data"], None, size)
            self._validation, kwargs["validation_data"] = (data, prompts), data
        return super().fit(x, epochs=epochs, verbose=verbose, shuffle=False, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", **kwargs):
        """Sample completions of prompts and return loss and metrics, without an update.

        The random numbers are the same in each call, so that two calls differ by the model only.

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
        dataset, prompts = self._validation
        if x is None or x is not dataset:  # else Keras's `fit` calls this method
            prompts, x = self._read("x", x, y, batch_size)
        self._testing = prompts
        return super().evaluate(x, verbose=verbose, **kwargs)

    def _read(self, name, x, y=None, batch_size=None, seed=None):
        """Return the prompts, and a dataset of their numbers in batches."""
        if y is not None:
            raise ValueError("`y` must be None: the reward function takes the place of targets.")
        if batch_size is not None:
            check_positive_int("batch_size", batch_size)
        prompts = training_prompts(name, x, self.model, self.max_new_tokens)
        num_prompts = len(prompts.rows)
        size = min(batch_size or BATCH_SIZE, num_prompts)
        return prompts, bucketed_indices(np.zeros(num_prompts, np.int64), size, seed)

    def _roll_out(self, prompts: TrainingPrompts, numbers: np.ndarray, seed: int) -> dict:
        """Sample completions, reward them, and return the arrays of a step.

        Args:
            prompts: All prompts.
            numbers: Numbers of the prompts of the batch; -1 fills up the last batch.
            seed: Seed of the samples.
        """
        group_size = self.num_generations
        num_groups = int((numbers >= 0).sum())
        num_rows = num_groups * group_size
        completions = sample_completions(
            self.model,
            prompts,
            np.where(numbers >= 0, numbers, numbers[0]),  # another shape would be compiled again
            group_size,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=seed,
        )
        given, texts = (part[:num_rows] for part in completions.for_reward)
        rewards = rewards_of(self._reward_function, given, texts).reshape(num_groups, group_size)
        samples = {
            "reward": rewards.mean(axis=1),
            "reward_std": rewards.std(axis=1, ddof=1),
            "frac_reward_zero_std": np.ptp(rewards, axis=1) == 0,
            "completion_length": completions.lengths[:num_rows],
            "ended": completions.has_ended[:num_rows],
        }
        for name in _OF_SAMPLES:
            self._means[name].update_state(samples[name].astype("float32"))
        arrays = step_arrays(
            completions,
            group_advantages(rewards),
            end_token_id=self._end_token_ids[0] if self._end_token_ids else None,
            longest=self.model.max_sequence_length,
            fixed=fixed_length(self.model.backbone),
            uses_truncated=not self.mask_truncated_completions,
        )
        return {name: tf.constant(array) for name, array in arrays.items()}

    def _with_old(self, arrays):
        """Return the arrays with the log-probabilities before the updates."""
        found = self(arrays, training=False)
        arrays = {**arrays, "old": found["log_probabilities"]}
        return {**arrays, "reference": found["reference"]} if self.beta else arrays

    def get_state(self) -> dict:
        """Return what `gk.callbacks.Checkpoint` saves beside the variables."""
        return {"num_sampled": self._num_sampled}

    def set_state(self, state: dict) -> None:
        """Continue with a saved state; called by `gk.callbacks.Checkpoint`."""
        self._num_sampled = state["num_sampled"]

    # Keras's hooks

    def make_train_function(self, force=False):
        """Make the function of a training step; Keras calls this method."""
        if self.train_function is not None and not force:
            return
        super().make_train_function(force)
        update = self.train_function

        def sample_and_update(iterator):
            seed = int(fold_in(self.seed, self._num_sampled))
            arrays = self._roll_out(self._training, next(iterator).numpy(), seed)
            self._num_sampled += 1
            if self.num_iterations > 1:
                arrays = self._score(arrays)
            for _ in range(self.num_iterations):
                logs = update([arrays])
            return logs

        self.train_function = sample_and_update

    def make_test_function(self, force=False):
        """Make the function of a step of `evaluate`; Keras calls this method."""
        if self.test_function is not None and not force:
            return
        super().make_test_function(force)
        score = self.test_function

        def sample_and_score(iterator):
            numbers = next(iterator).numpy()
            # Negative numbers: these are no samples of training.
            seed = int(fold_in(self.seed, -1 - numbers[0]))
            return score([self._roll_out(self._testing, numbers, seed)])

        self.test_function = sample_and_score

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of a batch; Keras calls this method in every step."""
        log_p = y_pred["log_probabilities"]  # (rows, length - 1)
        mask = ops.cast(x["completion_mask"][:, 1:], log_p.dtype)
        advantages = ops.cast(x["advantages"], log_p.dtype)[:, None]
        # In the only update with these samples, the old policy is the present one.
        old = x["old"] if "old" in x else ops.stop_gradient(log_p)
        ratio = ops.exp(log_p - old)
        clipped = ops.clip(ratio, 1 - self.epsilon, 1 + self.epsilon)
        objective = ops.minimum(ratio * advantages, clipped * advantages)
        is_clipped = ops.cast(clipped * advantages < ratio * advantages, log_p.dtype)
        self._means["clip_ratio"].update_state(is_clipped, sample_weight=mask)
        if self.beta:
            difference = y_pred["reference"] - log_p
            divergence = ops.exp(difference) - difference - 1
            objective = objective - self.beta * divergence
            self._means["kl"].update_state(divergence, sample_weight=mask)
        lengths = ops.maximum(ops.sum(mask, axis=-1), 1)
        num_rows = ops.sum(x["is_row"])
        loss = -ops.sum(ops.sum(objective * mask, axis=-1) / lengths) / num_rows
        return self._finish_loss(loss, num_rows, training)


def _check_reward_function(function):
    try:
        inspect.signature(function).bind(prompts=[], completions=[])
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`reward_function` must be a function that can be called as "
            f"reward_function(prompts=..., completions=...), got {function!r}."
        ) from error


def _copy(model):
    """Return a copy of a model with the same weights."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy
