"""Optimizers: AdamW with the settings of GPT-3, and Muon."""

import re

import keras
import tensorflow as tf
from keras import ops

from gpt_keras.backend import num_replicas
from gpt_keras.checks import check_at_least_0, check_positive, check_positive_int, check_rate

# Names of the variables without weight decay: biases, the weights of norms, and embeddings. An
# untied output projection, `reverse_embeddings`, is decayed as other matrices are.
NO_DECAY = ("bias", "gamma", "beta", "scale", "embeddings")

# Before this number of batches, the running mean of the gradient norm is too noisy to compare with.
_EARLY = 20


class MeasuredOptimizer:
    """Mixin for Keras optimizers that measures gradients and can skip batches.

    Place it before the Keras optimizer among the base classes. It changes the following:

    - Variables named in `no_decay` have no weight decay, and `get_config` saves this list.
      `keras.optimizers.Optimizer.exclude_from_weight_decay` is lost when a model is saved.
    - With `gradient_accumulation_steps`, an update equals the update of one large batch: each batch
      is weighted by its number of tokens. Learning-rate schedules, weight decay and moving averages
      count updates. Keras gives all batches the same weight, and counts batches.
    - The gradient norm of the last batch, before gradient clipping, is a variable.
    - With `skip_above`, a batch is skipped if its gradients are not finite or far too large.
    - The learning rate can be set, as callbacks do, even if it has a schedule. The number then
      replaces the schedule.

    Attributes:
        accumulation_steps: Number of batches in one update, or None for one.
        gradient_norm: Variable, the norm of all gradients of the last batch together.
        mean_gradient_norm: Variable, the running mean of `gradient_norm` over about the last
            hundred batches that were not skipped.
        num_skipped: Variable, the number of skipped batches.
    """

    def __init__(
        self, learning_rate, no_decay, skip_above, gradient_accumulation_steps=None, **kwargs
    ):
        super().__init__(learning_rate, **kwargs)
        if isinstance(no_decay, str):
            raise ValueError(f"`no_decay` must be a list of names, got the string {no_decay!r}.")
        if skip_above is not None and not skip_above > 1:
            raise ValueError(f"`skip_above` must be above 1 or None, got {skip_above!r}.")
        if gradient_accumulation_steps is not None:
            check_positive_int("gradient_accumulation_steps", gradient_accumulation_steps)
        self.no_decay = list(no_decay)
        self.skip_above = skip_above
        self.accumulation_steps = gradient_accumulation_steps
        if self.no_decay:
            # Keras searches for the pattern in the name of its own variable or, on TensorFlow, of
            # the `tf.Variable` inside, which can have a path as prefix and a number as suffix.
            names = "|".join(map(re.escape, self.no_decay))
            self.exclude_from_weight_decay(var_names=[rf"(?:^|/)(?:{names})(?::\d+)?$"])
        # Make these variables here and not in `build`: a callback may set the learning rate before
        # the first step, and the first loss is computed before the optimizer is built.
        self._batch_weight = keras.Variable(
            1.0,
            dtype="float32",
            trainable=False,
            synchronization="on_read",  # each replica has its own batch
            aggregation="sum",
            name="batch_weight",
        )
        # Negative as long as the learning rate follows the schedule.
        self._set_rate = self._number("set_learning_rate", initializer=_from_schedule)

    def _number(self, name, initializer="zeros"):
        return self.add_variable(
            (), initializer, dtype="float32", aggregation="only_first_replica", name=name
        )

    def build(self, variables):
        """Make the optimizer's variables; Keras calls this."""
        if not self.built:
            for name in ("gradient_norm", "mean_gradient_norm", "num_skipped"):
                setattr(self, name, self._number(name))
            if self.accumulation_steps is not None:
                self._num_accumulated = self._number("num_accumulated")
                self._accumulated_weight = self._number("accumulated_weight")
                self._mean_gradients = [
                    self.add_variable_from_reference(variable, name="mean_gradient")
                    for variable in variables
                ]
        super().build(variables)

    def weigh(self, weight) -> None:
        """Set the weight of the next batch within its update.

        Args:
            weight: Number by which the batch's loss was divided, such as its number of tokens.
                Without a call of `weigh`, a batch has the weight 1.
        """
        if self.accumulation_steps is not None or num_replicas() > 1:
            self._batch_weight.assign(ops.cast(weight, "float32"))

    def apply(self, grads, trainable_variables=None):
        """Measure the gradients, then update the variables unless the batch is skipped.

        Args:
            grads: List of gradients, as in `keras.optimizers.Optimizer.apply`.
            trainable_variables: List of variables. Default: the variables the optimizer was built
                with.
        """
        if trainable_variables is None:
            trainable_variables = self._trainable_variables
        trainable_variables = list(trainable_variables)
        if not self.built:
            self.build(trainable_variables)
        # Make gradients dense: an embedding's gradient can be a list of rows with repetitions.
        grads = [None if g is None else ops.convert_to_tensor(g) for g in grads]
        weight = ops.convert_to_tensor(self._batch_weight)
        if num_replicas() > 1:
            self._apply_on_all_devices(grads, trainable_variables, weight)
        else:
            self._apply_once(grads, trainable_variables, weight)

    def _apply_on_all_devices(self, grads, trainable_variables, weight):
        """Apply the gradients of the whole batch, which is split over several replicas."""
        # Reduce first: Keras would clip the gradients of each replica before it sums them. And an
        # operation that waits for other replicas must not be inside a condition.
        replica = tf.distribute.get_replica_context()
        total = replica.all_reduce("sum", weight)
        # Each replica divided its loss by the number of replicas.
        share = ops.divide_no_nan(weight * num_replicas(), total)
        given = [i for i, gradient in enumerate(grads) if gradient is not None]
        parts = [grads[i] * ops.cast(share, grads[i].dtype) for i in given]
        sums = replica.all_reduce("sum", parts)

        def apply(strategy, sums, total):
            total, *sums = (strategy.experimental_local_results(v)[0] for v in (total, *sums))
            whole = [None] * len(grads)
            for i, value in zip(given, sums, strict=True):
                whole[i] = value
            self._apply_once(whole, trainable_variables, total)

        replica.merge_call(apply, args=(sums, total))

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if num_replicas() == 1:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        # Keras would sum the gradients over the replicas, but they are sums already.
        update = tf.distribute.get_strategy().extended.update
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            update(
                variable.value,
                lambda local, gradient, rate: self.update_step(gradient, local, rate),
                args=(gradient, learning_rate),
                group=False,
            )

    def _apply_once(self, grads, trainable_variables, weight):
        norm = _norm(grads)
        self.gradient_norm.assign(norm)
        self._update_unless_bad(norm, grads, trainable_variables, weight)
        if self.accumulation_steps is not None:
            self._batch_weight.assign(ops.ones_like(weight))

    def _update_unless_bad(self, norm, grads, trainable_variables, weight):
        if self.skip_above is None:
            self._update(norm, grads, trainable_variables, weight)
            return
        # The mean over a few batches is unreliable: early batches are skipped only if not finite.
        is_usual = norm <= self.skip_above * self.mean_gradient_norm
        is_early = self._num_batches() < _EARLY
        ops.cond(
            (is_usual | is_early) & ops.isfinite(norm),
            lambda: self._update(norm, grads, trainable_variables, weight),
            self._skip,
        )

    def _skip(self):
        self.num_skipped.assign_add(1.0)

    def _num_batches(self):
        """Return the number of batches that were not skipped."""
        updates = ops.cast(self._iterations, "float32")
        if self.accumulation_steps is None:
            return updates
        return updates * self.accumulation_steps + self._num_accumulated

    def _update(self, norm, grads, trainable_variables, weight):
        rate = ops.maximum(0.01, 1 / (1 + self._num_batches()))
        mean = self.mean_gradient_norm + rate * (norm - self.mean_gradient_norm)
        self.mean_gradient_norm.assign(ops.where(ops.isfinite(norm), mean, self.mean_gradient_norm))
        if self.accumulation_steps is None:
            super().apply(grads, trainable_variables)
        else:
            self._accumulate(grads, trainable_variables, weight)

    def _accumulate(self, grads, trainable_variables, weight):
        """Add a batch to the mean gradients; apply them after the last batch of an update."""
        apply = super().apply
        total = self._accumulated_weight + weight
        share = ops.divide_no_nan(weight, total)
        means = [
            self._mean_gradients[self._get_variable_index(variable)]
            for variable in trainable_variables
        ]
        updated = [
            None if g is None else mean + ops.cast(share, mean.dtype) * (g - mean)
            for g, mean in zip(grads, means, strict=True)
        ]

        def update():
            apply(updated, trainable_variables)
            for mean in means:
                mean.assign(ops.zeros_like(mean))
            self._num_accumulated.assign(0.0)
            self._accumulated_weight.assign(0.0)

        def keep():
            for mean, value in zip(means, updated, strict=True):
                if value is not None:
                    mean.assign(value)
            self._num_accumulated.assign_add(1.0)
            self._accumulated_weight.assign(total)

        ops.cond(self._num_accumulated + 1 >= self.accumulation_steps, update, keep)

    def _clip_gradients(self, grads):
        if self.global_clipnorm is None:
            return super()._clip_gradients(grads)
        # Keras's method needs gradients of one dtype, but a bfloat16 model can have a float32 head.
        scale = self.global_clipnorm / ops.maximum(_norm(grads), self.global_clipnorm)
        return [None if g is None else g * ops.cast(scale, g.dtype) for g in grads]

    @property
    def learning_rate(self):
        """The current learning rate; setting a number replaces a schedule."""
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        is_number = not callable(learning_rate)
        if is_number and self._has_schedule():
            self._set_rate.assign(learning_rate)
        else:
            keras.optimizers.Optimizer.learning_rate.fset(self, learning_rate)
            self._set_rate.assign(-1.0)

    def _has_schedule(self):
        return isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule)

    def _get_current_learning_rate(self):
        rate = super()._get_current_learning_rate()
        if not self._has_schedule():
            return rate
        set_rate = ops.cast(self._set_rate, rate.dtype)
        return ops.where(set_rate < 0, rate, set_rate)

    def get_config(self):
        return {
            **super().get_config(),
            "gradient_accumulation_steps": self.accumulation_steps,
            "no_decay": self.no_decay,
            "skip_above": self.skip_above,
        }


def bare_optimizer(optimizer):
    """Return the optimizer without Keras's loss-scaling wrapper.

    Args:
        optimizer: A Keras optimizer, such as a `keras.optimizers.LossScaleOptimizer`.
    """
    return getattr(optimizer, "inner_optimizer", optimizer)


def _norm(gradients):
    """Return the norm of all gradients together, in float32."""
    parts = [ops.cast(gradient, "float32") for gradient in gradients if gradient is not None]
    return ops.sqrt(sum(ops.sum(ops.square(part)) for part in parts))


def _from_schedule(shape, dtype=None):
    return -ops.ones(shape, dtype)


@keras.saving.register_keras_serializable("gpt_keras")
class AdamW(MeasuredOptimizer, keras.optimizers.AdamW):
    """AdamW with skipped batches and decay exclusions that are saved.

    This is `keras.optimizers.AdamW` (Loshchilov and Hutter 2019) with the following changes.
    `gk.training.adamw` makes one with GPT-3's settings, warm-up and a learning-rate schedule.

    - Variables named in `no_decay` have no weight decay, also after saving and loading.
    - With `skip_above`, a batch with unusual gradients does not change the weights.
    - With `gradient_accumulation_steps`, an update equals that of one large batch: each batch is
      weighted by its number of tokens, and schedules count updates.
    - The learning rate can be set even if it has a schedule, which the number then replaces.

    Attributes:
        gradient_norm: Variable, the gradient norm of the last batch, before gradient clipping.
        mean_gradient_norm: Variable, the running mean of `gradient_norm` over about the last
            hundred batches that were not skipped.
        num_skipped: Variable, the number of skipped batches.

    Args:
        learning_rate: Number or schedule.
        no_decay: Names of the variables without weight decay, such as `"bias"`. Default: biases,
            the weights of norms, and embeddings.
        skip_above: Largest ratio, above 1, of a batch's gradient norm to its running mean. A batch
            above it, or with a norm that is not finite, is skipped. None skips no batch.
        **kwargs: Arguments of `keras.optimizers.AdamW`, such as `weight_decay` and
            `gradient_accumulation_steps`.

    Raises:
        ValueError: `no_decay` is a string, `skip_above` is not above 1, or
            `gradient_accumulation_steps` is not a positive integer.

    Example:
        >>> import gpt_keras as gk
        >>> optimizer = gk.training.AdamW(1e-3, no_decay=["bias"])
        >>> gk.training.AdamW.from_config(optimizer.get_config()).no_decay
        ['bias']
    """

    def __init__(self, learning_rate=1e-3, no_decay=NO_DECAY, skip_above=None, **kwargs):
        super().__init__(learning_rate, no_decay, skip_above, **kwargs)

    def _apply_weight_decay(self, variables):
        if num_replicas() == 1:
            super()._apply_weight_decay(variables)
            return
        # Keras would switch to all replicas, but the update runs on each replica already.
        for variable in variables if self.weight_decay is not None else ():
            if self._use_weight_decay(variable):
                share = ops.cast(self.weight_decay * self.learning_rate, variable.dtype)
                variable.assign(variable * (1 - share))


@keras.saving.register_keras_serializable("gpt_keras")
class Muon(MeasuredOptimizer, keras.optimizers.Muon):
    """Muon for the matrices inside the blocks, and AdamW for all other weights.

    Muon orthogonalizes the update of a matrix: it makes all singular values of the mean gradient
    close to 1 (Jordan et al. 2024). With the factor of Moonlight (Liu et al. 2025, section 2.2),
    the same learning rate suits Muon and AdamW. `gk.training.muon` makes one with tested settings.

    Embeddings, an untied output projection, biases and norms use AdamW, as Muon's authors advise.
    Keras silently uses AdamW for every kernel that does not have two dimensions. This class raises
    an error for these kernels unless `exclude_layers` names them.

    Decay exclusions, skipped batches, gradient accumulation, a learning rate that can be set and
    the attributes are as in `gk.training.AdamW`.

    Args:
        learning_rate: Number or schedule.
        no_decay: As in `AdamW`.
        skip_above: As in `AdamW`.
        exclude_layers: Regular expressions; a variable uses AdamW if one matches a part of its
            path.
        **kwargs: Arguments of `keras.optimizers.Muon`, such as `momentum` and
            `gradient_accumulation_steps`.

    Raises:
        ValueError: `no_decay` is a string, or `skip_above` is not above 1; or, when training
            starts, a kernel does not have two dimensions.

    Example:
        >>> import gpt_keras as gk
        >>> gk.training.Muon(0.01).momentum
        0.95
    """

    def __init__(
        self,
        learning_rate=1e-3,
        no_decay=NO_DECAY,
        skip_above=None,
        exclude_layers=(),
        **kwargs,
    ):
        super().__init__(
            learning_rate, no_decay, skip_above, exclude_layers=list(exclude_layers), **kwargs
        )

    def build(self, variables):
        """Make the optimizer's variables; Keras calls this."""
        for variable in variables:
            is_excluded = any(re.search(name, variable.path) for name in self.exclude_layers)
            if variable.name == "kernel" and len(variable.shape) != 2 and not is_excluded:
                raise ValueError(
                    f"Muon needs kernels of two dimensions, but {variable.path!r} has shape "
                    f"{tuple(variable.shape)}; name it in `exclude_layers` to use AdamW for it."
                )
        super().build(variables)

    def _muon_update_step(self, gradient, variable, lr, m):
        # A schedule returns Keras's `floatx`, which can differ from the variable's dtype.
        super()._muon_update_step(gradient, variable, ops.cast(lr, variable.dtype), m)

    def lr_adjust(self, x):
        # As in Keras, but with a Python number, which adopts the variable's dtype.
        return x if self.rms_rate is None else x * (max(x.shape) ** 0.5 * self.rms_rate)

    def zeropower_via_newtonschulz5(self, x, steps):
        """Return matrices with all singular values close to 1 (Newton-Schulz iteration).

        Args:
            x: `(..., rows, columns)`; several matrices of one shape may be stacked.
            steps: Number of iterations.
        """
        # As in Keras, but each product of a matrix with its transpose is computed once, and all
        # shapes are known while tracing.
        is_tall = x.shape[-2] > x.shape[-1]
        x = ops.swapaxes(x, -1, -2) if is_tall else x
        x = x / (ops.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)
        for _ in range(steps):
            gram = ops.matmul(x, ops.swapaxes(x, -1, -2))
            x = self.muon_a * x + ops.matmul(
                self.muon_b * gram + self.muon_c * ops.matmul(gram, gram), x
            )
        return ops.swapaxes(x, -1, -2) if is_tall else x


def adamw(
    learning_rate: float = 1e-3,
    *,
    warmup_steps: int = 100,
    total_steps: int | None = None,
    final_learning_rate: float | None = None,
    weight_decay: float = 0.1,
    beta_1: float = 0.9,
    beta_2: float = 0.95,
    global_clipnorm: float | None = 1.0,
    **kwargs,
) -> AdamW:
    """Return AdamW with GPT-3's settings, warm-up and optional cosine decay.

    The settings are from Brown et al. 2020, appendix B: betas 0.9 and 0.95, gradient clipping to a
    global norm of 1, weight decay 0.1, linear warm-up, cosine decay to a tenth. Biases, norms and
    embeddings have no weight decay.

    Args:
        learning_rate: Highest learning rate, reached after the warm-up.
        warmup_steps: Number of steps of the linear warm-up; 0 for none.
        total_steps: Number of steps of the whole training. If given, the learning rate follows a
            cosine from the end of the warm-up down to `final_learning_rate` at this step. None: the
            learning rate stays constant after the warm-up.
        final_learning_rate: Learning rate at `total_steps`. Default: a tenth of `learning_rate`.
        weight_decay: Decoupled weight decay (Loshchilov and Hutter 2019), multiplied by the
            learning rate in each step.
        beta_1: Decay of the running mean of gradients.
        beta_2: Decay of the running mean of squared gradients.
        global_clipnorm: Largest norm of all gradients together, for gradient clipping; None for no
            clipping.
        **kwargs: Further arguments of `AdamW` and `keras.optimizers.AdamW`, such as `skip_above`,
            `use_ema` for a moving average of the weights, and `gradient_accumulation_steps`, the
            number of batches in one update. Steps are then updates.

    Returns:
        An `AdamW` optimizer.

    Raises:
        ValueError: An argument is out of its range, or `final_learning_rate` is given without
            `total_steps`.

    Example:
        >>> import gpt_keras as gk
        >>> optimizer = gk.training.adamw(1e-3, warmup_steps=10, total_steps=100)
        >>> for step in (0, 10, 100):
        ...     _ = optimizer.iterations.assign(step)
        ...     print(round(float(optimizer.learning_rate), 6))
        0.0001
        0.001
        0.0001
    """
    check_rate("beta_1", beta_1)
    check_rate("beta_2", beta_2)
    _check(weight_decay, global_clipnorm)
    return AdamW(
        _schedule(learning_rate, warmup_steps, total_steps, final_learning_rate),
        weight_decay=weight_decay,
        beta_1=beta_1,
        beta_2=beta_2,
        global_clipnorm=global_clipnorm,
        **kwargs,
    )


def muon(
    learning_rate: float = 2e-2,
    *,
    warmup_steps: int = 100,
    total_steps: int | None = None,
    final_learning_rate: float | None = None,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
    adam_ratio: float = 1.0,
    ns_steps: int = 3,
    global_clipnorm: float | None = 1.0,
    **kwargs,
) -> Muon:
    """Return Muon for the matrices inside the blocks, with AdamW for the rest.

    The default settings were found with `scripts/recipe_shakespeare.py`. The learning rate has a
    linear warm-up and an optional cosine decay.

    Args:
        learning_rate: Highest learning rate, reached after the warm-up.
        warmup_steps: As in `adamw`.
        total_steps: As in `adamw`.
        final_learning_rate: Learning rate at `total_steps`. Default: 0.
        weight_decay: Decoupled weight decay, multiplied by the learning rate in each step.
        momentum: Decay of the running mean of a matrix's gradients, with Nesterov momentum.
        beta_1: AdamW's decay of the running mean of gradients.
        beta_2: AdamW's decay of the running mean of squared gradients.
        adam_ratio: Ratio of AdamW's learning rate to Muon's.
        ns_steps: Number of Newton-Schulz iterations in each update. Keras's default is 5, which is
            slower for a small model; the losses differ by no more than single runs do.
        global_clipnorm: Largest norm of all gradients together, for gradient clipping; None for no
            clipping.
        **kwargs: Further arguments of `Muon` and `keras.optimizers.Muon`.

    Returns:
        A `Muon` optimizer.

    Raises:
        ValueError: An argument is out of its range, or `final_learning_rate` is given without
            `total_steps`.

    Example:
        >>> import gpt_keras as gk
        >>> optimizer = gk.training.muon(0.01, warmup_steps=10, total_steps=100)
        >>> _ = optimizer.iterations.assign(55)
        >>> round(float(optimizer.learning_rate), 6)
        0.005
    """
    for name, value in (("momentum", momentum), ("beta_1", beta_1), ("beta_2", beta_2)):
        check_rate(name, value)
    check_positive("adam_ratio", adam_ratio)
    check_positive_int("ns_steps", ns_steps)
    if total_steps is not None and final_learning_rate is None:
        final_learning_rate = 0.0
    _check(weight_decay, global_clipnorm)
    return Muon(
        _schedule(learning_rate, warmup_steps, total_steps, final_learning_rate),
        weight_decay=weight_decay,
        adam_weight_decay=weight_decay,
        momentum=momentum,
        adam_beta_1=beta_1,
        adam_beta_2=beta_2,
        adam_lr_ratio=adam_ratio,
        ns_steps=ns_steps,
        global_clipnorm=global_clipnorm,
        **kwargs,
    )


def _check(weight_decay, global_clipnorm):
    check_at_least_0("weight_decay", weight_decay)
    if global_clipnorm is not None:
        check_positive("global_clipnorm", global_clipnorm)


def _schedule(learning_rate, warmup_steps, total_steps, final_learning_rate):
    check_positive("learning_rate", learning_rate)
    if warmup_steps != 0:
        check_positive_int("warmup_steps", warmup_steps)
    if final_learning_rate is not None:
        check_at_least_0("final_learning_rate", final_learning_rate)
    # Start above 0: with a learning rate of exactly 0, the first step would be wasted.
    first = learning_rate / warmup_steps if warmup_steps else learning_rate
    if total_steps is not None:
        check_positive_int("total_steps", total_steps)
        if total_steps <= warmup_steps:
            raise ValueError(
                f"`total_steps` must be above `warmup_steps`={warmup_steps}, got {total_steps!r}."
            )
        if final_learning_rate is None:
            final_learning_rate = learning_rate / 10
        return keras.optimizers.schedules.CosineDecay(
            first,
            decay_steps=total_steps - warmup_steps,
            alpha=final_learning_rate / learning_rate,
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    if final_learning_rate is not None:
        raise ValueError(
            f"`final_learning_rate`={final_learning_rate!r} needs `total_steps`, the step at which "
            f"it is reached."
        )
    if warmup_steps:
        return keras.optimizers.schedules.PolynomialDecay(
            first, decay_steps=warmup_steps, end_learning_rate=learning_rate
        )
    return learning_rate
