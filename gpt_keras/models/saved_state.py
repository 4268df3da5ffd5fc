"""State of a model beside its weights: adapters, frozen layers, seeds."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from gpt_keras.models.adapters import adapter_config, add_adapters
from gpt_keras.models.frozen import freeze, frozen_layers

# Names of the seeds' states in a file of weights; a number follows.
_SEED = "seed_"


def saved_state(model: keras.Model) -> dict[str, Any]:
    """Return what a model's config holds beside the arguments of its constructor.

    Args:
        model: The model.

    Returns:
        A dict of `frozen`, the frozen layers, and `lora`, the adapters, without empty ones.
    """
    state = {"frozen": frozen_layers(model), "lora": adapter_config(model)}
    return {name: value for name, value in state.items() if value}


def save_seeds(model: keras.Model, store) -> None:
    """Write the states of a model's random seeds, such as the seeds of dropout.

    Keras does not save them: a loaded model would train on with the dropout masks of the beginning.

    Args:
        model: The model.
        store: Entry of Keras's file of weights.
    """
    for i, state in enumerate(_seed_states(model)):
        store[f"{_SEED}{i:06}"] = keras.ops.convert_to_numpy(state)


def load_seeds(model: keras.Model, store) -> dict[str, np.ndarray]:
    """Read the states of `save_seeds`, and return the other values.

    Files of earlier versions have no states; the model then keeps its own.

    Args:
        model: The model.
        store: Entry of Keras's file of weights.
    """
    values = {name: store[name] for name in store.keys()}  # noqa: SIM118, it is no mapping
    stored = [values.pop(name) for name in sorted(values) if name.startswith(_SEED)]
    states = _seed_states(model)
    if len(stored) == len(states):
        for state, value in zip(states, stored):
            state.assign(value)
    return values


def _seed_states(model):
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def make_from_config(cls: type[keras.Model], config: Mapping[str, Any]) -> keras.Model:
    """Build a model from its config, with its adapters and frozen layers.

    Args:
        cls: Class of the model.
        config: Arguments of the constructor, and the entries of `saved_state`.

    Returns:
        The model.
    """
    config = dict(config)
    frozen, adapters = config.pop("frozen", None), config.pop("lora", None)
    model = cls(**config)
    if adapters:
        add_adapters(model, adapters)
    if frozen is not None:
        freeze(model, frozen)
    return model
