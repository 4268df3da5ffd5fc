"""Base class of trainings of a causal model with a fixed loss."""

import contextlib

import keras

from gpt_keras.backend import num_replicas
from gpt_keras.models import CausalLM
from gpt_keras.models.adapters import adapted_layers
from gpt_keras.training import adamw
from gpt_keras.training.losses import precise_dtype
from gpt_keras.training.metrics import MeanLoss
from gpt_keras.training.optimizers import MeasuredOptimizer, bare_optimizer

# Default number of rows in a batch.
BATCH_SIZE = 8


class FineTuner(keras.Model):
    """Training of a causal model with a fixed loss; base class of `DPO`, `GRPO`.

    It holds the model and trains its weights in place. `save`, `generate` and `stream` call the
    model's own methods. Dropout is inactive in training.

    Args:
        model: A `CausalLM`.
        means: Names of the metrics, which are means.
        name: Name of the Keras model.

    Raises:
        ValueError: `model` is not a `CausalLM`.
    """

    def __init__(self, model: CausalLM, means: tuple[str, ...], name: str):
        if not isinstance(model, CausalLM):
            raise ValueError(f"`model` must be a CausalLM, got {model!r}.")
        # Keras scales the loss if the policy is mixed_float16. Without `autocast=False` it would
        # round log-probabilities in the inputs to 16 bits.
        super().__init__(name=name, dtype=model.dtype_policy, autocast=False)
        self.model = model
        self._mean_loss = MeanLoss()
        self._means = {name: keras.metrics.Mean(name, precise_dtype()) for name in means}
        self._trained = ()
        self.built = True

    def build(self, input_shape):
        """Do nothing: the model is built."""

    @property
    def has_adapter(self) -> bool:
        """True if the model has a LoRA adapter: without it, the model is the reference."""
        return bool(adapted_layers(self.model))

    def compile(self, optimizer="auto", **kwargs):
        """Configure training; the loss and the metrics are fixed.

        Args:
            optimizer: `"auto"` is `gk.training.adamw` without weight decay. Its learning rate is
                1e-6, or 1e-5 for a LoRA adapter.
            **kwargs: The other arguments of `keras.Model.compile`, except `loss` and metrics.
                `jit_compile` defaults to True, unless `run_eagerly` is True.

        Raises:
            ValueError: There is a loss or a metric among the arguments.
        """
        for argument in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(argument) is not None:
                raise ValueError(
                    f"`{argument}` must not be given: {type(self).__name__} has its own loss."
                )
        if isinstance(optimizer, str) and optimizer == "auto":
            # 1e-6 is the learning rate of both papers: DPO, appendix B; DeepSeekMath, section 4.2.
            optimizer = adamw(1e-5 if self.has_adapter else 1e-6, weight_decay=0.0)
        compiles = not kwargs.get("run_eagerly", False)
        if keras.backend.backend() != "tensorflow":
            compiles = "auto"
        elif self.distribute_strategy.num_replicas_in_sync > 1:
            compiles = False
        kwargs.setdefault("jit_compile", compiles)
        super().compile(optimizer=optimizer, **kwargs)
        self._trained = _ids(self.trainable_variables)
        for metric in (self._mean_loss, *self._means.values()):
            metric.reset_state()

    def _check_trained(self):
        if self.compiled and self._trained != _ids(self.trainable_variables):
            raise ValueError(
                f"The trainable weights changed: compile `{type(self).__name__}` again before "
                "`fit`."
            )

    # Keras's hooks

    @property
    def metrics(self):
        """Metrics that Keras resets and shows, the loss first."""
        return [self._mean_loss, *self._means.values()] if self.compiled else []

    def make_train_function(self, force=False):
        """Make the function of a training step; Keras calls this method."""
        if keras.backend.backend() == "tensorflow" and not self.optimizer.built:
            # TensorFlow traces a step twice if it creates variables.
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def train_step(self, data, *args):
        """Train on one batch; Keras calls this method."""
        # Dropout would make the model and the reference differ before any training. The gradient
        # is computed inside of this block too: it runs rematerialized blocks again.
        with _without_dropout(self.model):
            return super().train_step(data, *args)

    def _finish_loss(self, loss, weight, training):
        """Add the losses of layers, update the mean loss, and return the loss."""
        for other in self.losses:  # such as a router's load-balancing loss
            loss = loss + keras.ops.cast(other, loss.dtype)
        if training and isinstance(optimizer := bare_optimizer(self.optimizer), MeasuredOptimizer):
            optimizer.weigh(weight)
        self._mean_loss.update_state(loss, sample_weight=weight)
        return loss / num_replicas()

    # The model's own methods

    @property
    def backbone(self):
        """Backbone of the model; `gk.callbacks.RunRecord` records its config."""
        return self.model.backbone

    def generate(self, prompts, **settings):
        """Continue prompts with the model, as `CausalLM.generate`; for `SampleText`.

        Args:
            prompts: As in `CausalLM.generate`.
            **settings: As in `CausalLM.generate`.
        """
        return self.model.generate(prompts, **settings)

    def stream(self, prompts, **settings):
        """Continue prompts and yield the new text, as `CausalLM.stream`.

        Args:
            prompts: As in `CausalLM.stream`.
            **settings: As in `CausalLM.stream`.
        """
        return self.model.stream(prompts, **settings)

    def save(self, filepath, overwrite=True, **kwargs):
        """Save the trained model itself, as `CausalLM.save`.

        Args:
            filepath: File to write; its name must end in `.keras`.
            overwrite: Whether an existing file is replaced.
            **kwargs: The other arguments of `CausalLM.save`.
        """
        self.model.save(filepath, overwrite=overwrite, **kwargs)


@contextlib.contextmanager
def _without_dropout(model):
    """Set all dropout rates to 0 while a training step is traced."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
    rates = [layer.rate for layer in layers]
    try:
        for layer in layers:
            layer.rate = 0.0
        yield
    finally:
        for layer, rate in zip(layers, rates):
            layer.rate = rate


def _ids(variables):
    return tuple(id(variable) for variable in variables)
