"""State of a training: variables, random seeds, callbacks."""

import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

# Attributes of Keras's callbacks that change in training.
_ATTRIBUTES = {
    keras.callbacks.History: ("history", "epoch"),
    keras.callbacks.EarlyStopping: (
        "wait",
        "best",
        "best_epoch",
        "best_weights",
        "stopped_epoch",
    ),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: (
        "best",
        "_current_epoch",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
    ),
}


def variables_of(model: keras.Model) -> list[tuple[str, keras.Variable]]:
    """Return the variables of a model and its optimizer with their names, each once.

    They are weights, seeds of dropout, and the optimizer's variables: counters, momenta,
    accumulated gradients, moving averages and the loss scale.

    Args:
        model: A compiled and built model.
    """
    metrics = {id(v) for metric in model.metrics for v in metric.variables}
    found = {}
    for owner, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        for variable in variables:
            if id(variable) not in metrics and id(variable) not in found:
                found[id(variable)] = (f"{owner}/{variable.path}", variable)
    return list(found.values())


def metric_variables(model: keras.Model) -> list[tuple[str, keras.Variable]]:
    """Return the variables of a model's metrics with their names, each once.

    Args:
        model: A compiled model whose metrics are built.
    """
    found = {}
    for metric in model.metrics:
        for variable in metric.variables:
            found.setdefault(id(variable), (f"metrics/{metric.name}/{variable.name}", variable))
    return list(found.values())


def values_of(variables: Sequence[tuple[str, keras.Variable]]) -> list[np.ndarray]:
    """Return copies of the values of variables.

    Args:
        variables: Names and variables.
    """
    return [np.array(keras.ops.convert_to_numpy(variable)) for _, variable in variables]


def seeds() -> dict[str, Any]:
    """Return the states of the global random generators of Python, NumPy and Keras."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, state, gauss_next = random.getstate()
    found = {
        "python": [version, list(state), gauss_next],
        "numpy": [kind, keys.tolist(), position, has_gauss, gauss],
    }
    generator = _global_generator()
    if generator is not None:
        found["keras"] = keras.ops.convert_to_numpy(generator.state).tolist()
    return found


def set_seeds(states: dict[str, Any]) -> None:
    """Set the states of the global random generators.

    Args:
        states: The result of `seeds`.
    """
    version, state, gauss_next = states["python"]
    random.setstate((version, tuple(state), gauss_next))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    if "keras" in states:
        from keras.src.random.seed_generator import global_seed_generator

        global_seed_generator().state.assign(states["keras"])


def _global_generator():
    # Keras makes the generator at first use, and making it changes Python's generator.
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute("global_seed_generator")


def callback_states(callbacks: Sequence[keras.callbacks.Callback], arrays: list) -> list[Any]:
    """Return the state of each callback as JSON can hold it.

    Args:
        callbacks: The callbacks, or a model. An object with the methods `get_state` and `set_state`
            gives its own state. Of Keras's callbacks, the changing attributes are the state.
        arrays: List to which the arrays of the states are added.

    Returns:
        For each callback the name of its class and its state; None if it has no state.
    """
    states = []
    for callback in callbacks:
        state = None
        if hasattr(callback, "get_state"):
            state = callback.get_state()
        elif names := _attributes(callback):
            state = {name: getattr(callback, name, None) for name in names}
        states.append([type(callback).__name__, _packed(state, arrays)])
    return states


def set_callback_states(
    callbacks: Sequence[keras.callbacks.Callback], states: list[Any], arrays: list[np.ndarray]
) -> None:
    """Set the state of each callback that also had one in the interrupted training.

    Args:
        callbacks: The callbacks.
        states: The result of `callback_states`.
        arrays: The arrays of the states.
    """
    left = list(states)
    for callback in callbacks:
        name = type(callback).__name__
        found = next((state for state in left if state[0] == name), None)
        if found is None:
            continue
        left.remove(found)
        state = _unpacked(found[1], arrays)
        if state is None:
            continue
        if hasattr(callback, "set_state"):
            callback.set_state(state)
        else:
            for attribute, value in state.items():
                setattr(callback, attribute, value)


def _attributes(callback) -> tuple[str, ...]:
    for cls, names in _ATTRIBUTES.items():
        if isinstance(callback, cls):
            return names
    return ()


def _packed(value: Any, arrays: list) -> Any:
    """Return a value with its arrays replaced by their numbers in `arrays`."""
    if isinstance(value, dict):
        return {str(name): _packed(part, arrays) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(part, arrays) for part in value]
    if hasattr(value, "numpy"):
        value = value.numpy()
    if isinstance(value, np.ndarray) and value.ndim > 0:
        if value.dtype.kind not in "biufcV":
            raise ValueError(
                f"`get_state` of a callback must return arrays of numbers, got {value.dtype}."
            )
        arrays.append(np.array(value))  # a copy: the callback may change its array later
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic | np.ndarray):
        return value.item()
    return value


def _unpacked(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"array"}:
            return arrays[value["array"]]
        return {name: _unpacked(part, arrays) for name, part in value.items()}
    if isinstance(value, list):
        return [_unpacked(part, arrays) for part in value]
    return value
