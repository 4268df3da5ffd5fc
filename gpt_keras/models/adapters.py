"""Low-rank adapters (LoRA) of whole models."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from gpt_keras.layers.lora import LowRankAdapted, lora_config
from gpt_keras.layers.quantized_sublayers import fast_and_quiet
from gpt_keras.models.frozen import freeze, named_layers

# The projections that Hu et al. 2021 adapt (section 4.2), and keras-hub by default.
_TARGETS = ("query", "value")


class Adaptable:
    """Mixin of models that low-rank adapters can fine-tune (LoRA, Hu et al. 2021)."""

    def enable_lora(
        self,
        rank: int,
        target_layer_names: Sequence[str] | None = None,
        lora_alpha: float | None = None,
    ) -> None:
        """Add low-rank adapters, and freeze all other weights of the backbone.

        The head of a task model stays trainable. Compile the model afterwards.

        Args:
            rank: Rank of the adapters.
            target_layer_names: Which projections get an adapter. An entry is the name of a layer,
                such as `"query"`, or a regular expression that is searched in its path, such as
                `r"block_[01]/feed_forward"`. Default: the query and value projections.
            lora_alpha: Adapters are scaled by `lora_alpha / rank`. Default: `rank`.

        Raises:
            ValueError: An entry matches no projection, the model has adapters already, or `rank`
                or `lora_alpha` is not positive.

        Example:
            >>> import gpt_keras as gk
            >>> model = gk.GPTCausalLM(gk.presets.get("tiny"))
            >>> model.enable_lora(4, target_layer_names=["query", r"block_0/feed_forward/up"])
            >>> len(model.trainable_variables)
            6
        """
        if adapted_layers(self):
            raise ValueError(
                "The model has LoRA adapters already: call `merge_adapter` or `remove_adapter` "
                "first."
            )
        targets = _matching(_backbone(self), target_layer_names)
        add_adapters(self, {path: {"rank": rank, "lora_alpha": lora_alpha} for path in targets})
        must_compile_again(self)

    def merge_adapter(self) -> None:
        """Add the adapters to the kernels, remove them, and make all weights trainable.

        The model then needs no more memory or time than before `enable_lora`. Its outputs change
        by rounding only; int8 kernels are quantized again.

        Raises:
            ValueError: The model has no adapter.
        """
        self._end_adapter(lambda layer: layer.merge_lora())

    def remove_adapter(self) -> None:
        """Remove the adapters, and make all weights trainable: the base model is left.

        Raises:
            ValueError: The model has no adapter.
        """
        self._end_adapter(lambda layer: layer.remove_lora())

    def save_adapter(self, folder) -> None:
        """Write the adapters to a folder, in the format of PEFT.

        The files hold the factors alone, and the head of a task model: little beside the base
        model. They can be loaded here and by PEFT.

        Args:
            folder: A new or an empty folder.

        Raises:
            ValueError: The model has no adapter, or the folder is not empty.
            ImportError: The package safetensors is not installed.
        """
        from gpt_keras.convert import peft

        peft.save_adapter(self, folder)

    def load_adapter(self, folder) -> None:
        """Load adapters from a folder; they replace the present ones.

        Args:
            folder: A folder of `save_adapter`, or of the `save_pretrained` of PEFT.

        Raises:
            ValueError: The folder has no adapter, or one that does not fit the model.
            ImportError: The package safetensors is not installed.
        """
        from gpt_keras.convert import peft

        peft.load_adapter(self, folder)

    def _end_adapter(self, end):
        if not adapted_layers(self):
            raise ValueError("The model has no LoRA adapter: call `enable_lora` first.")
        _end_adapters(self, end)
        must_compile_again(self)


def adapted_layers(model: keras.Model) -> dict[str, LowRankAdapted]:
    """Return the layers with an adapter, by their path in the backbone."""
    return {path: layer for path, layer in projections(model) if layer.lora_enabled}


def projections(model: keras.Model) -> Iterator[tuple[str, LowRankAdapted]]:
    """Yield the path and layer of each projection of a model's backbone."""
    for path, layer in named_layers(_backbone(model)):
        if isinstance(layer, LowRankAdapted):
            yield path, layer


def adapter_config(model: keras.Model) -> dict[str, dict[str, Any]]:
    """Return the arguments of the adapters by path, for the config of a model."""
    return {path: lora_config(layer) for path, layer in adapted_layers(model).items()}


def add_adapters(model: keras.Model, adapters: Mapping[str, Mapping[str, Any]]) -> None:
    """Add adapters to the layers of these paths, and freeze the rest of the backbone.

    Args:
        model: The model, or its backbone.
        adapters: Arguments of `LowRankAdapted.enable_lora` by path. A layer that has an
            adapter already keeps it.

    Raises:
        ValueError: There is no projection of that path.
    """
    backbone = _backbone(model)
    layers = dict(projections(backbone))
    for path, arguments in adapters.items():
        if path not in layers:
            raise ValueError(f"The model has no projection {path!r} for a LoRA adapter.")
        if not layers[path].lora_enabled:
            layers[path].enable_lora(**arguments)
    # A parent must be trainable for its children to be.
    adapted = {id(layer) for path, layer in layers.items() if path in adapters}
    backbone.trainable = True
    for _, layer in named_layers(backbone):
        if not any(id(sublayer) in adapted for sublayer in layer._flatten_layers()):
            layer.trainable = False


def remove_adapters(model: keras.Model) -> None:
    """Remove all adapters of a model, if it has any, and make all weights trainable."""
    _end_adapters(model, lambda layer: layer.remove_lora())


def _end_adapters(model, end):
    with fast_and_quiet():
        for layer in adapted_layers(model).values():
            end(layer)
    freeze(model, ())


def must_compile_again(model: keras.Model) -> None:
    """Require a compiled model to be compiled again, because its weights changed."""
    model.train_function = model.test_function = model.predict_function = None
    if model.compiled:
        model.compiled = False
        warnings.warn(
            "The trainable weights changed: compile the model again before you train it.",
            stacklevel=3,
        )


def trainable_report(model: keras.Model) -> dict[str, Any]:
    """Return which layers of a model are trained, and their share of the parameters.

    Args:
        model: A Keras model.

    Returns:
        A dict: `layers`, the number of trainable parameters by path of the layer; `trainable`
        and `parameters`, the sums; and `share`, their quotient.

    Example:
        >>> import gpt_keras as gk
        >>> model = gk.GPTCausalLM(gk.presets.get("tiny"))
        >>> model.enable_lora(2, ["query"])
        >>> report = gk.finetuning.trainable_report(model)
        >>> report["trainable"], report["parameters"], f"{report['share']:.1%}"
        (128, 8912, '1.4%')
    """
    layers = {}
    for path, layer in named_layers(model):
        own = [*layer._trainable_variables, *layer._non_trainable_variables]
        count = sum(variable.shape.num_elements() for variable in own if variable.trainable)
        if count and layer.trainable:
            layers[path] = count
    trainable, parameters = sum(layers.values()), model.count_params()
    return {
        "layers": layers,
        "trainable": trainable,
        "parameters": parameters,
        "share": trainable / max(parameters, 1),
    }


def _backbone(model):
    return getattr(model, "backbone", model)


def _matching(backbone, target_layer_names):
    names = _TARGETS if target_layer_names is None else target_layer_names
    if isinstance(names, str):
        raise ValueError(f"`target_layer_names` must be a list, got {names!r}: put it into one.")
    layers = dict(projections(backbone))
    found = []
    for name in names:
        matches = [path for path, layer in layers.items() if layer.name == name]
        matches = matches or [path for path in layers if re.search(name, path)]
        if not matches:
            known = ", ".join(dict.fromkeys(layer.name for layer in layers.values())) or "none"
            raise ValueError(
                f"`target_layer_names` must match projections of the model ({known}), but {name!r} "
                "matches none."
            )
        found += matches
    if not found:
        raise ValueError("`target_layer_names` must have at least one entry.")
    return found
