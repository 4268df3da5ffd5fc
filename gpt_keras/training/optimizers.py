"""AdamW as GPT-2 and GPT-3 are trained with it."""

import re

import keras

from gpt_keras.config import check_at_least_0, check_positive, check_positive_int, check_rate

# Names of the variables that are not decayed: biases, the weights of norms, and embeddings. An
# untied output projection, `reverse_embeddings`, is a matrix like any other.
NO_DECAY = ("bias", "gamma", "beta", "scale", "embeddings")


@keras.saving.register_keras_serializable("gpt_keras")
class AdamW(keras.optimizers.AdamW):
    """Keras's AdamW that keeps its list of undecayed variables when it is saved.

    `keras.optimizers.AdamW.exclude_from_weight_decay` is forgotten by `get_config`, so that a
    reloaded model would decay its biases and norms.

    Args:
        learning_rate: number or schedule.
        no_decay: names of variables, such as `"bias"`, that are not decayed.
        **kwargs: arguments of `keras.optimizers.AdamW`.

    Example:
        >>> import gpt_keras as gk
        >>> optimizer = gk.training.AdamW(1e-3, no_decay=["bias"])
        >>> gk.training.AdamW.from_config(optimizer.get_config()).no_decay
        ['bias']
    """

    def __init__(self, learning_rate=1e-3, no_decay=NO_DECAY, **kwargs):
        super().__init__(learning_rate, **kwargs)
        if isinstance(no_decay, str):
            raise ValueError(f"`no_decay` must be a list of names, got the string {no_decay!r}.")
        self.no_decay = list(no_decay)
        if self.no_decay:
            # Keras searches for the pattern in the name of its own variable or, on TensorFlow, of
            # the `tf.Variable` inside, which can have a path before it and a number behind.
            names = "|".join(map(re.escape, self.no_decay))
            self.exclude_from_weight_decay(var_names=[rf"(?:^|/)(?:{names})(?::\d+)?$"])

    def get_config(self):
        return {**super().get_config(), "no_decay": self.no_decay}


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
) -> AdamW:
    """Return AdamW with warm-up, clipping, and no decay on biases, norms and embeddings.

    The settings are GPT-3's (Brown et al. 2020, appendix B): betas 0.9 and 0.95, gradients clipped
    to a global norm of 1, weight decay 0.1, linear warm-up, cosine decay to a tenth.

    Args:
        learning_rate: the highest learning rate, reached after the warm-up.
        warmup_steps: steps over which the learning rate grows from 0, linearly.
        total_steps: number of steps of the whole training. If given, a cosine takes the learning
            rate down to `final_learning_rate` at that step; if None, it stays constant.
        final_learning_rate: learning rate at `total_steps`. Default: a tenth of `learning_rate`.
        weight_decay: decoupled weight decay (Loshchilov and Hutter 2019), times the learning rate.
        beta_1: decay of the mean of gradients.
        beta_2: decay of the mean of squared gradients.
        global_clipnorm: largest norm of all gradients together; None does not clip.

    Returns:
        A Keras optimizer, which saves and loads with its exclusions.

    Raises:
        ValueError: an argument is out of its range.

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
    check_positive("learning_rate", learning_rate)
    check_rate("beta_1", beta_1)
    check_rate("beta_2", beta_2)
    check_at_least_0("weight_decay", weight_decay)
    if warmup_steps != 0:
        check_positive_int("warmup_steps", warmup_steps)
    if final_learning_rate is not None:
        check_at_least_0("final_learning_rate", final_learning_rate)
    if global_clipnorm is not None:
        check_positive("global_clipnorm", global_clipnorm)
    if total_steps is not None:
        check_positive_int("total_steps", total_steps)
        if total_steps <= warmup_steps:
            raise ValueError(
                f"`total_steps` must be above `warmup_steps`={warmup_steps}, got {total_steps!r}."
            )
    elif final_learning_rate is not None:
        raise ValueError(
            f"`final_learning_rate`={final_learning_rate!r} needs `total_steps`, the step at which "
            f"it is reached."
        )
    if final_learning_rate is None:
        final_learning_rate = learning_rate / 10
    return AdamW(
        _schedule(learning_rate, warmup_steps, total_steps, final_learning_rate),
        weight_decay=weight_decay,
        beta_1=beta_1,
        beta_2=beta_2,
        global_clipnorm=global_clipnorm,
    )


def _schedule(learning_rate, warmup_steps, total_steps, final_learning_rate):
    # The first step already learns: a warm-up from exactly 0 would waste it.
    first = learning_rate / warmup_steps if warmup_steps else learning_rate
    if total_steps is not None:
        return keras.optimizers.schedules.CosineDecay(
            first,
            decay_steps=total_steps - warmup_steps,
            alpha=final_learning_rate / learning_rate,
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    if warmup_steps:
        return keras.optimizers.schedules.PolynomialDecay(
            first, decay_steps=warmup_steps, end_learning_rate=learning_rate
        )
    return learning_rate
