"""Low-rank adapters (LoRA) of linear projections."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from gpt_keras.checks import check_positive, check_positive_int
from gpt_keras.layers.xla_cpu import RowsInInt8

_FACTORS = ("lora_kernel_a", "lora_kernel_b")

_ARE_DISABLED = contextvars.ContextVar("adapters_are_disabled", default=False)


@contextlib.contextmanager
def adapters_disabled() -> Iterator[None]:
    """Run layers without their adapters inside the block.

    PEFT has this as `disable_adapter`. No weight changes, and other threads are not affected. A
    compiled function keeps the state that it had while it was traced. One step can therefore
    compute with and without the adapter.

    Example:
        >>> import keras, numpy as np
        >>> from gpt_keras.layers.lora import adapters_disabled
        >>> from gpt_keras.layers.projection import Projection
        >>> layer = Projection(3)
        >>> layer.build((None, 2))
        >>> layer.enable_lora(1, b_initializer="ones")
        >>> x = np.ones((1, 2), "float32")
        >>> with_adapter = layer(x)
        >>> with adapters_disabled():
        ...     without = layer(x)
        >>> np.allclose(without, x @ layer.kernel), np.allclose(with_adapter, without)
        (True, False)
    """
    token = _ARE_DISABLED.set(True)
    try:
        yield
    finally:
        _ARE_DISABLED.reset(token)


class LowRankAdapted(RowsInInt8):
    """A `Dense` layer whose frozen kernel a low-rank adapter can change.

    With an adapter the layer computes `x W + s (x A) B + b` (LoRA, Hu et al. 2021, section 4.1),
    where only the factors `A` and `B` are trained and `s` is `lora_alpha / lora_rank`. The names
    come from `keras.layers.Dense`. There are four differences:

    - The product `A B` is formed only when the adapter is merged. Keras adds it to the kernel in
      each call, and so computes the gradient of a whole kernel.
    - The bias is frozen too.
    - Files hold the kernel and the factors apart, so that training continues where it stopped.
      Keras merges them when it saves, and loads zeros.
    - An adapter can be removed and merged.
    """

    def enable_lora(self, rank, lora_alpha=None, a_initializer="he_uniform", b_initializer="zeros"):
        """Add an adapter to the built layer, and freeze the kernel and the bias.

        Args:
            rank: Width of `A` and height of `B`.
            lora_alpha: The adapter is scaled by `lora_alpha / rank`. Default: `rank`.
            a_initializer: Initializer of `A`, `(inputs, rank)`.
            b_initializer: Initializer of `B`, `(rank, units)`. Zeros change nothing at first.

        Raises:
            ValueError: The layer has an adapter, is not built, or an argument is not positive.
        """
        check_positive_int("rank", rank)
        if lora_alpha is None:
            lora_alpha = rank if self.lora_alpha is None else self.lora_alpha
        check_positive("lora_alpha", lora_alpha)
        if self.quantization_mode not in (None, "int8"):
            raise ValueError(
                f"{self.path!r} must have float or int8 weights for LoRA, got "
                f"{self.quantization_mode}."
            )
        super().enable_lora(rank, lora_alpha, a_initializer, b_initializer)
        self._set_trainable(self.trainable)  # freezes the bias too

    def remove_lora(self) -> None:
        """Remove the adapter; the kernel stays as it is, and can be trained again."""
        if not self.lora_enabled:
            return
        for name in _FACTORS:
            delattr(self, name)
        self.lora_enabled = False
        self.lora_rank = self.lora_alpha = None
        self._set_trainable(self.trainable)  # the kernel and the bias again

    def merge_lora(self) -> None:
        """Add the adapter to the kernel and remove it.

        The sum is computed in float32. An int8 kernel is quantized again.
        """
        if not self.lora_enabled:
            return
        update = self.lora_scale * ops.matmul(self.lora_kernel_a, self.lora_kernel_b)
        if self.quantization_mode == "int8":
            merged = ops.cast(self.kernel, "float32") / self.kernel_scale + update
            kernel, scale = keras.quantizers.abs_max_quantize(merged, axis=0)
            self._kernel.assign(ops.transpose(kernel) if self._has_rows else kernel)
            self.kernel_scale.assign(ops.squeeze(scale, axis=0))
        else:
            merged = ops.cast(self._kernel, "float32") + update
            self._kernel.assign(ops.cast(merged, self._kernel.dtype))
        self.remove_lora()

    @property
    def lora_enabled(self) -> bool:
        """True if the layer has an adapter, outside of `adapters_disabled`."""
        return self._has_lora and not _ARE_DISABLED.get()

    @lora_enabled.setter
    def lora_enabled(self, value):  # Keras sets it
        self._has_lora = value

    @property
    def lora_scale(self) -> float:
        """Factor of the adapter's output."""
        return self.lora_alpha / self.lora_rank

    @property
    def trainable(self):
        """True if the layer is trained: only its adapter, if it has one."""
        return keras.layers.Layer.trainable.fget(self)

    @trainable.setter
    def trainable(self, value):
        self._set_trainable(value)

    def _set_trainable(self, value):
        # `self.trainable = self.trainable` would do nothing: Keras skips the assignment.
        keras.layers.Layer.trainable.fset(self, value)
        if getattr(self, "lora_enabled", False):
            for variable in (self._kernel, self.bias):
                if variable is not None:
                    variable.trainable = False

    @property
    def kernel(self):
        """The kernel without the adapter, `(inputs, units)`."""
        if self.lora_enabled and not self._has_rows:
            return self._kernel
        return super().kernel

    def call(self, inputs, training=None):
        return self._plus_adapter(self._project(inputs), inputs)

    def _project(self, inputs):
        """Return the output without the adapter."""
        return super().call(inputs)

    def _int8_call(self, inputs, training=None):
        if not self._has_rows:
            return super()._int8_call(inputs, training=training)  # Keras adds the adapter
        return self._plus_adapter(super()._int8_call(inputs, training=training), inputs)

    def _plus_adapter(self, outputs, inputs):
        if not self.lora_enabled:
            return outputs
        # (..., rank), then (..., units): never a matrix of the kernel's size.
        low_rank = ops.matmul(inputs, ops.cast(self.lora_kernel_a, self.compute_dtype))
        low_rank = ops.matmul(low_rank, ops.cast(self.lora_kernel_b, self.compute_dtype))
        return outputs + self.lora_scale * low_rank

    def quantize(self, mode=None, type_check=True, config=None):
        """Quantize the kernel in place; `keras.Model.quantize` calls this."""
        if self.lora_enabled:
            raise ValueError(
                f"{self.path!r} has a LoRA adapter: quantize the model before `enable_lora`, or "
                "call `merge_adapter` first."
            )
        super().quantize(mode, type_check=type_check, config=config)

    def _get_kernel_with_merged_lora(self):
        # Keras calls this when it saves; `save_own_variables` adds the factors.
        if not self.lora_enabled:
            return super()._get_kernel_with_merged_lora()
        scale = self.kernel_scale if self.quantization_mode == "int8" else None
        return self._kernel, scale, None

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.lora_enabled:
            for name in _FACTORS:
                store[name] = getattr(self, name)

    def load_own_variables(self, store):
        names = set(store.keys())
        if not names:  # Keras looks in a second place, and reports only this error
            raise ValueError(
                f"The file has no weights that fit {self.path!r}. If it has a LoRA adapter, call "
                "`enable_lora` before you load the weights."
            )
        has_factors = names.issuperset(_FACTORS)
        if not self.lora_enabled:
            if has_factors:
                raise ValueError(
                    f"The file has a LoRA adapter for {self.path!r}: call `enable_lora` before you "
                    "load the weights."
                )
            super().load_own_variables(store)
            return
        # A file without factors is one of the base model: the adapter stays.
        source = store if has_factors else {name: getattr(self, name) for name in _FACTORS}
        factors = {name: np.array(source[name]) for name in _FACTORS}
        super().load_own_variables(store)  # Keras sets the factors to zero
        for name, value in factors.items():
            getattr(self, name).assign(value)


def lora_config(layer: LowRankAdapted) -> dict[str, Any]:
    """Return the arguments of `enable_lora` with which the layer's adapter was made."""
    return {"rank": layer.lora_rank, "lora_alpha": layer.lora_alpha}
