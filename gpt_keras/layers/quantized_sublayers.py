"""Dtype policies that record which sublayers of a layer are quantized.

Keras quantizes layers in place, one by one, and stores the result in each layer's config. But a
block makes its own projections. To make them again with the same variables, its config must record
how each projection was quantized.
"""

import contextlib
import gc
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras

# Name of a quantized dtype policy, such as "int8_from_float32", and its quantization config.
Quantization = tuple[str, keras.quantizers.QuantizationConfig | None]


@keras.saving.register_keras_serializable("gpt_keras")
class QuantizedSublayers(keras.dtype_policies.DTypePolicyMap):
    """The dtype policy of a layer some of whose sublayers are quantized.

    The layer itself and every sublayer that is not in `quantized` have the policy `name`. There are
    two differences from a Keras `DTypePolicyMap`. The keys are paths relative to the layer, so they
    hold wherever the layer is used. Each entry also has a quantization config: without it, Keras
    would build layers that quantize their inputs, too.

    Args:
        name: The policy of the layer and of sublayers without quantization, such as `"float32"`.
        quantized: Mapping from the path of a sublayer, such as `"attention/query"`, to the name of
            its policy and its `keras.quantizers.QuantizationConfig` or None.

    Example:
        >>> import json, keras
        >>> import gpt_keras as gk
        >>> layer = gk.layers.FeedForward(intermediate_dim=32)
        >>> layer.build((None, None, 8))
        >>> layer.up.quantize("int8")
        >>> policy = layer.get_config()["dtype"]["config"]
        >>> policy["name"], policy["quantized"][0]["layers"]
        ('float32', ['up'])
    """

    def __init__(self, name: str, quantized: Mapping[str, Quantization]):
        super().__init__(keras.dtype_policies.get(name))
        self.quantized = dict(quantized)

    def __bool__(self):
        return True  # without this, an empty mapping would be false

    @property
    def name(self) -> str:
        return self.default_policy.name

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        # Nearly always all entries are the same: write each distinct one once, for short files.
        groups: dict[str, dict[str, Any]] = {}
        for layer, (policy, config) in self.quantized.items():
            same = {"policy": policy, "quantization_config": serialize(config)}
            group = groups.setdefault(json.dumps(same, sort_keys=True), {**same, "layers": []})
            group["layers"].append(layer)
        return {"name": self.name, "quantized": list(groups.values())}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        quantized = {}
        for group in config["quantized"]:
            for layer in group["layers"]:
                quantization_config = keras.saving.deserialize_keras_object(
                    group["quantization_config"], custom_objects=custom_objects
                )
                quantized[layer] = group["policy"], quantization_config
        return cls(config["name"], quantized)


def policy_below(policy: keras.DTypePolicy, name: str) -> keras.DTypePolicy:
    """Return the policy of a sublayer that has sublayers itself.

    Args:
        policy: The policy of the layer.
        name: Name of the sublayer.

    Returns:
        A `QuantizedSublayers` with paths relative to the sublayer, or a plain policy if nothing
        below it is quantized.
    """
    if not isinstance(policy, QuantizedSublayers):
        return policy
    prefix = f"{name}/"
    quantized = {
        layer.removeprefix(prefix): quantization
        for layer, quantization in policy.quantized.items()
        if layer.startswith(prefix)
    }
    return QuantizedSublayers(policy.name, quantized) if quantized else policy.default_policy


def dtype_arguments(policy: keras.DTypePolicy, name: str) -> dict[str, Any]:
    """Return the arguments of a `Dense` or `Embedding` sublayer that set its dtype.

    Args:
        policy: The policy of the layer that makes the sublayer.
        name: Name of the sublayer.

    Returns:
        A dict with `dtype` and, under a `QuantizedSublayers`, `quantization_config`.
    """
    if not isinstance(policy, QuantizedSublayers):
        return {"dtype": policy}
    quantized_policy, config = policy.quantized.get(name, (policy.name, None))
    return {"dtype": keras.dtype_policies.get(quantized_policy), "quantization_config": config}


def serialized_policy(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return a layer's dtype policy, serialized for its config.

    The policy records which sublayers are quantized at this moment.

    Args:
        layer: The layer, built or not.
    """
    policy = layer.dtype_policy
    is_map_of_keras = isinstance(policy, keras.dtype_policies.DTypePolicyMap) and not isinstance(
        policy, QuantizedSublayers
    )
    if layer.built and not is_map_of_keras:
        quantized = dict(_quantized_below(layer))
        if quantized:
            return _serialized(QuantizedSublayers(policy.name, quantized))
        elif isinstance(policy, QuantizedSublayers):
            policy = policy.default_policy
    return keras.dtype_policies.serialize(policy)


def _serialized(policy):
    # `serialize_keras_object` would write the same, but it remembers the `id` of each object. A
    # policy that is freed at once leaves its `id` to the next one, and Keras would take the two
    # for one shared object.
    cls = type(policy)
    return {
        "module": cls.__module__,
        "class_name": cls.__name__,
        "config": policy.get_config(),
        "registered_name": keras.saving.get_registered_name(cls),
    }


def is_quantized(layer: keras.layers.Layer) -> bool:
    """Return whether a layer or a model has quantized weights."""
    return any(sublayer.quantization_mode is not None for sublayer in layer._flatten_layers())


@contextlib.contextmanager
def fast_and_quiet() -> Iterator[None]:
    """Run Keras's `quantize` without garbage collection and needless warnings.

    Keras collects garbage each time it replaces a weight. Among TensorFlow's objects this takes
    0.2 s, more than a minute for a model of 30 layers. The weights are freed without it.

    Keras also warns about each layer without a `quantize` method, such as every norm and dropout.
    NumPy warns about its `copy` keyword for each weight.
    """
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.freeze()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have a `quantize` method")
            warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy")
            yield
    finally:
        if is_ours:
            gc.unfreeze()


def _quantized_below(layer):
    for child in layer._flatten_layers(include_self=False, recursive=False):
        for sublayer in child._flatten_layers():
            if sublayer.quantization_mode is not None:
                # Paths are relative to the child, because the path of a model can differ from the
                # path in which its layers were built.
                name = child.name + sublayer.path.removeprefix(child.path)
                config = getattr(sublayer, "quantization_config", None)
                yield name, (sublayer.dtype_policy.name, config)
