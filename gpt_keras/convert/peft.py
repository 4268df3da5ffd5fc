"""LoRA adapters in PEFT's format: `adapter_config.json` and safetensors."""

import json
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from gpt_keras.atomic import atomic_directory
from gpt_keras.convert.architectures import ARCHITECTURES
from gpt_keras.convert.name_map import Source, listed
from gpt_keras.convert.safetensors_files import read_tensors, write_tensors
from gpt_keras.models.adapters import (
    adapted_layers,
    add_adapters,
    must_compile_again,
    projections,
    remove_adapters,
)

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"

# Ours beside PEFT's files: which columns of a joined adapter belong to which layer.
OURS = "gpt_keras_adapter.json"
HEAD = "head.safetensors"

_TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")

# Settings of PEFT that change the result, with the values that mean a plain adapter. Other values
# of `init_lora_weights` change the weights of the base model too.
_PLAIN = {
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "alora_invocation_tokens": (None,),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "arrow_config": (None,),
    "layer_replication": (None, []),
    "use_bdlora": (False, None),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    "velora_config": (None,),
}


def save_adapter(model: keras.Model, folder) -> None:
    """Write the LoRA adapters of a model to a folder, in PEFT's format.

    The tensors have Hugging Face's names if the backbone is a `GPT` that one of its architectures
    can represent, and our own paths otherwise. GPT-2 there has one projection for query, key and
    value: their adapters are joined to one, with the columns of A side by side and B
    block-diagonal, so its rank is the sum of their ranks. `load_adapter` takes them apart again,
    bit for bit. The head of a task model is written beside them.

    Args:
        model: A model with adapters.
        folder: A new or an empty folder, written completely or not at all.

    Raises:
        ValueError: The model has no adapter, or the folder is not empty.
        ImportError: The package safetensors is not installed.
    """
    layers = adapted_layers(model)
    if not layers:
        raise ValueError("The model has no LoRA adapter: call `enable_lora` first.")
    sources = _sources(model)
    modules: dict[str, list[str]] = {}
    for path in layers:
        modules.setdefault(_module(sources[path].name), []).append(path)
    tensors, ranks, alphas, ours = {}, {}, {}, {}
    for module, paths in modules.items():
        scale = layers[paths[0]].lora_scale
        a, b, first = [], [], 0
        for path in paths:
            layer, source = layers[path], sources[path]
            factor_a = np.array(layer.lora_kernel_a)
            factor_b = np.array(layer.lora_kernel_b) * np.float32(layer.lora_scale / scale)
            _, count = source.part or (0, 1)
            blocks = [np.zeros_like(factor_b)] * count
            blocks[(source.part or (0, 1))[0]] = source.give(factor_b)
            a.append(factor_a)
            b.append(np.concatenate(blocks, axis=-1))
            ours[path] = {
                "module": module,
                "first": first,
                "rank": layer.lora_rank,
                "lora_alpha": layer.lora_alpha,
            }
            first += layer.lora_rank
        tensors[f"base_model.model.{module}.lora_A.weight"] = np.concatenate(a, axis=-1).T.copy()
        tensors[f"base_model.model.{module}.lora_B.weight"] = np.concatenate(b, axis=0).T.copy()
        ranks[module], alphas[module] = first, scale * first
    names = {re.escape(module): module for module in modules}
    rank, alpha = max(ranks.values()), max(alphas.values())
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "target_modules": sorted(modules),
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: ranks[m] for name, m in names.items() if ranks[m] != rank},
        "alpha_pattern": {name: alphas[m] for name, m in names.items() if alphas[m] != alpha},
        "fan_in_fan_out": not next(iter(sources[path].transpose for path in layers)),
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "layers_to_transform": None,
        "init_lora_weights": True,
    }
    with atomic_directory(folder) as temporary:
        _write_json(temporary / CONFIG, config)
        _write_json(temporary / OURS, ours)
        write_tensors(temporary / TENSORS, tensors)
        if _head(model) is not None:
            write_tensors(temporary / HEAD, _head_tensors(model))


def load_adapter(model: keras.Model, folder) -> None:
    """Load a LoRA adapter in PEFT's format; it replaces the adapter of the model.

    An adapter for GPT-2's joined projection becomes one for query, key and value, each with a copy
    of A and its part of B.

    Args:
        model: The base model with which the adapter was trained.
        folder: A folder of `save_adapter` or of PEFT's `save_pretrained`.

    Raises:
        ValueError: The folder has no adapter, the adapter is of another kind or for another model,
            or a tensor is missing or does not fit. The model is unchanged.
        ImportError: The package safetensors is not installed.
    """
    folder = pathlib.Path(folder)
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise ValueError(f"{str(folder)!r} holds no adapter: it lacks {name}.")
    config = _read_config(folder / CONFIG)
    adapters = _found(model, config, read_tensors(folder / TENSORS), folder)
    adapters = _apart(adapters, folder)
    head = _read_head(model, folder)

    remove_adapters(model)
    arguments = {
        path: {"rank": a.shape[1], "lora_alpha": alpha} for path, (a, _, alpha) in adapters.items()
    }
    add_adapters(model, arguments)
    layers = adapted_layers(model)
    for path, (a, b, _) in adapters.items():
        layers[path].lora_kernel_a.assign(a)
        layers[path].lora_kernel_b.assign(b)
    for variable, value in head:
        variable.assign(value)
    must_compile_again(model)


def _sources(model) -> dict[str, Source]:
    """Return the place of each projection's kernel in a file, by path of the layer."""
    config = getattr(getattr(model, "backbone", model), "config", None)
    paths = [path for path, _ in projections(model)]
    for architecture in ARCHITECTURES.values() if config is not None else ():
        if not architecture.misfits(config):
            return {
                path: source._replace(name=architecture.full_name(source.name))
                for path, source in _kernels(architecture.sources(config), paths)
            }
    return {path: Source(f"{path.replace('/', '.')}.weight", transpose=True) for path in paths}


def _kernels(sources, paths):
    return [(path, sources[f"{path}/kernel"]) for path in paths if f"{path}/kernel" in sources]


def _module(name):
    return name.removesuffix(".weight")


def _read_config(path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error
    refused = [
        f"{name} is {config[name]!r}"
        for name, plain in _PLAIN.items()
        if name in config and config[name] not in plain
    ]
    if refused:
        raise ValueError(
            f"{str(path)!r} describes an adapter that is not supported: {', '.join(refused)}."
        )
    return config


def _found(model, config, tensors, folder):
    """Return A, `(inputs, rank)`, B, `(rank, units)`, and alpha by path of the layer."""
    modules: dict[str, dict[str, np.ndarray]] = {}
    unknown = []
    for name, tensor in tensors.items():
        if match := _TENSOR.fullmatch(name):
            modules.setdefault(match[1], {})[match[2]] = tensor
        else:
            unknown.append(name)
    users: dict[str, list[tuple[str, Source]]] = {}
    for path, source in _sources(model).items():
        users.setdefault(_module(source.name), []).append((path, source))
    problems = listed("tensors that are not LoRA factors", unknown)
    problems += listed(
        "modules that the model lacks", [name for name in modules if name not in users]
    )
    problems += listed(
        "modules without a pair of factors",
        [name for name, factors in modules.items() if factors.keys() != {"A", "B"}],
    )
    if problems or not modules:
        raise ValueError(
            f"{str(folder)!r} does not fit the model: {'; '.join(problems) or 'no factors'}."
        )
    layers = dict(projections(model))
    found = {}
    for module, factors in modules.items():
        a, b = np.asarray(factors["A"], "float32"), np.asarray(factors["B"], "float32")
        rank = a.shape[0]
        alpha = _pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", rank))
        if config.get("use_rslora"):
            alpha = alpha * math.sqrt(rank)
        for path, source in users[module]:
            units = layers[path].units
            count = (source.part or (0, 1))[1]
            if a.shape != (rank, _num_inputs(layers[path])) or b.shape != (units * count, rank):
                raise ValueError(
                    f"{str(folder)!r} does not fit the model: {module} has factors of the shapes "
                    f"{a.shape} and {b.shape}; its kernel here is "
                    f"{(_num_inputs(layers[path]), units * count)}."
                )
            part = source._replace(transpose=True).take(b, (rank, units))
            found[path] = a.T, part, float(alpha)
    return found


def _num_inputs(layer):
    return layer.input_spec.axes[-1]


def _pattern(patterns: Mapping[str, Any] | None, module, default):
    """Return the value of the pattern that fits a module, as PEFT chooses it."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _apart(adapters, folder):
    """Take joined adapters apart that `save_adapter` joined."""
    if not (folder / OURS).is_file():
        return adapters
    taken = {}
    try:
        ours = json.loads((folder / OURS).read_text(encoding="utf-8"))
        for path, own in ours.items():
            a, b, _ = adapters[path]
            columns = slice(own["first"], own["first"] + own["rank"])
            first = next(other for other in ours.values() if other["module"] == own["module"])
            scale = (own["lora_alpha"] / own["rank"]) / (first["lora_alpha"] / first["rank"])
            taken[path] = a[:, columns], b[columns] / np.float32(scale), own["lora_alpha"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(folder / OURS)!r} is damaged or belongs to another adapter: {error!r}."
        ) from error
    return taken


def _head(model):
    return getattr(model, "head", None)


def _head_tensors(model):
    head = _head(model)
    return {variable.name: np.array(variable) for variable in head.variables}


def _read_head(model, folder):
    """Return pairs of the head's variables and values."""
    if not (folder / HEAD).is_file():
        return []
    head, tensors = _head(model), read_tensors(folder / HEAD)
    if head is None:
        raise ValueError(
            f"{str(folder)!r} has the head of a task model: load it into a model of that task."
        )
    pairs = [(variable, tensors.get(variable.name)) for variable in head.variables]
    if any(value is None or tuple(variable.shape) != value.shape for variable, value in pairs):
        shapes = {name: value.shape for name, value in tensors.items()}
        raise ValueError(f"{str(folder)!r} has another head than the model: {shapes}.")
    return pairs


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
