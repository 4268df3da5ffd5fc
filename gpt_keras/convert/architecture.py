"""Base class of the architecture tables for Hugging Face and for GGUF."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from gpt_keras.checks import check_rate
from gpt_keras.config import GPTConfig
from gpt_keras.convert.name_map import Source, listed, sources
from gpt_keras.rotary_scaling import wave_frequencies

# Fields of a GPTConfig that have an effect only under a condition on other fields.
_NEEDED_BY = {
    "rotary_base": lambda config: config.position_embedding == "rotary",
    "rotary_scaling": lambda config: config.position_embedding == "rotary",
    "num_experts_per_token": lambda config: config.num_experts is not None,
    "router_loss_weight": lambda config: config.num_experts is not None,
}

# Fields that affect only training. A file may have several settings for one such field, with
# different values.
_TRAINING = ("dropout",)

_REQUIRED = frozenset(
    field.name for field in dataclasses.fields(GPTConfig) if field.default is dataclasses.MISSING
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture(abc.ABC):
    """A table that maps one architecture of another library to a `GPT`.

    It maps settings to fields of `GPTConfig`, and tensors to weights. Reading rejects every
    setting that changes the logits and is not in the table. Writing accepts only a config that
    would read back unchanged.

    Attributes:
        name: Name of the architecture in the files.
        fields: The field of `GPTConfig` for each setting. If several settings give a dropout rate,
            the largest rate counts.
        choices: For settings whose values have other names here: our value for each of theirs.
        ours: Values of `GPTConfig` fields that the files leave out: properties of the architecture
            and defaults of settings.
    """

    name: str
    fields: Mapping[str, str]
    choices: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    ours: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    # `required`: fields that a file must give. `not_held`: fields that the format cannot store
    # and that do not affect the logits.
    required = _REQUIRED
    not_held = frozenset()

    @abc.abstractmethod
    def layer_sources(self, config: GPTConfig) -> Mapping[str, Source]:
        """Return the table of names for `name_map.sources`."""

    @abc.abstractmethod
    def objection(self, setting: str, value: Any) -> str | None:
        """Return why a setting outside `fields` is rejected, or None to ignore it."""

    @abc.abstractmethod
    def written_and_read(self, config: GPTConfig) -> GPTConfig:
        """Return the config that results from writing and reading `config`.

        Raises:
            ValueError: The written settings cannot be read.
        """

    def sources(self, config: GPTConfig) -> dict[str, Source]:
        """Return the `Source` of every weight, by `variable.path`."""
        return sources(self.layer_sources(config), config)

    def config_of(self, settings: Mapping[str, Any], found: Mapping[str, Any]) -> GPTConfig:
        """Return the `GPTConfig` for the settings of a file.

        Args:
            settings: Values by setting. `objection` decides about settings outside `fields`.
            found: Fields inferred from the tensors; `ours` and `settings` override them.

        Raises:
            ValueError: Settings are not supported, contradict each other, or are missing. The
                message lists them.
        """
        refused, given = [], {}
        for key, value in settings.items():
            field = self.fields.get(key)
            if field is None:
                objection = self.objection(key, value)
                refused += [] if objection is None else [objection]
                continue
            choices = self.choices.get(key)
            if choices is not None and value not in choices:
                allowed = " or ".join(map(repr, choices))
                refused.append(f"{key} is {value!r} and should be {allowed}")
                continue
            value = value if choices is None else choices[value]
            first, before = given.setdefault(field, (key, value))
            if field in _TRAINING:
                check_rate(key, value)
                given[field] = first, max(before, value)
            elif before != value:
                refused.append(f"{key} is {value!r} and {first} is {before!r}, but must be equal")
        fields = {**found, **self.ours, **{field: value for field, (_, value) in given.items()}}
        missing = [
            key for key, field in self.fields.items() if field in self.required - fields.keys()
        ]
        problems = listed(f"settings of {self.name} that are not supported", refused)
        problems += listed(f"settings of {self.name} are missing", missing)
        if problems:
            raise ValueError("; ".join(problems) + ".")
        return GPTConfig(**fields)

    def misfits(self, config: GPTConfig) -> list[str]:
        """Return a text for each field that writing and reading would change."""
        try:
            back = self.written_and_read(config)
        except ValueError as error:
            return [str(error).rstrip(".")]
        ours, theirs = _meaning(config), _meaning(back)
        return [
            f"{field} is {getattr(config, field)!r}, read back as {getattr(back, field)!r}"
            for field, value in ours.items()
            if field in theirs and not _equal(value, theirs[field]) and field not in self.not_held
        ]


Table = TypeVar("Table", bound=Architecture)


def first_that_fits(architectures: Mapping[str, Table], config: GPTConfig, whose: str) -> Table:
    """Return the first architecture that can represent a config.

    Args:
        architectures: Architectures by name, in order of preference.
        config: The config to represent.
        whose: Owner of the architectures for the message, such as `"GGUF's"`.

    Raises:
        ValueError: No architecture can represent it; the message says why, for each.
    """
    misfits = {}
    for name, architecture in architectures.items():
        misfits[name] = "; ".join(architecture.misfits(config))
        if not misfits[name]:
            return architecture
    best = sorted(misfits, key=lambda name: len(misfits[name]))  # the best fit first
    raise ValueError(
        f"`model` fits none of {whose} architectures.\n"
        + "\n".join(f"{name}: {misfits[name]}" for name in best)
    )


def _meaning(config):
    """Return the fields with an effect; windows per layer, rotary scaling as numbers."""
    fields = config.to_dict()
    fields["attention_windows"] = tuple(map(config.attention_window, range(config.num_layers)))
    if config.rotary_scaling is not None:
        base, head_dim = config.rotary_base, config.head_dim
        scaled = config.rotary_scaling.frequencies(base, head_dim)
        factors = wave_frequencies(base, head_dim) / scaled
        fields["rotary_scaling"] = np.append(factors, config.rotary_scaling.amplitude)
    elif config.position_embedding == "rotary":
        fields["rotary_scaling"] = np.ones(config.head_dim // 2 + 1)
    return {
        name: value
        for name, value in fields.items()
        if name not in _NEEDED_BY or _NEEDED_BY[name](config)
    }


def _equal(ours, theirs):
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-6, atol=0)
    return type(ours) is type(theirs) and ours == theirs
