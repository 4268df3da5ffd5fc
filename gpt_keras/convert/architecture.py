"""What a table about one architecture of Hugging Face says, and what follows from it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from gpt_keras.config import GPTConfig
from gpt_keras.convert.name_map import Source, listed, sources

# Settings of training, generation, other heads and files, which leave the logits as they are.
# Those that begin with an underscore are notes of transformers to itself.
_WITHOUT_EFFECT = frozenset(
    """
    architectures attn_implementation auto_map bad_words_ids begin_suppress_tokens bos_token_id
    classifier_dropout decoder_start_token_id diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label initializer_range
    is_llama_config label2id length_penalty max_length min_length model_type n_ctx n_special
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions
    output_hidden_states output_router_logits output_scores pad_token_id
    predict_special_tokens prefix pretraining_tp problem_type remove_invalid_values
    reorder_and_upcast_attn repetition_penalty return_dict return_dict_in_generate sep_token_id
    summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
    suppress_tokens task_specific_params temperature tf_legacy_loss tokenizer_class top_k top_p
    torch_dtype torchscript transformers.js_config transformers_version typical_p unk_token_id
    unsloth_fixed unsloth_version use_bfloat16 use_cache
    """.split()  # noqa: SIM905 (one a line would be a page)
)

# Fields of a GPTConfig that say nothing unless others have a certain value.
_NEEDED_BY = {
    "rotary_base": lambda config: config.position_embedding == "rotary",
    "num_experts_per_token": lambda config: config.num_experts is not None,
    "router_loss_weight": lambda config: config.num_experts is not None,
}


def _unchanged(settings: dict[str, Any]) -> dict[str, Any]:
    return settings


def _nothing(config: GPTConfig) -> dict[str, Any]:
    return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """One architecture: its settings as fields of a `GPTConfig`, its tensors as our weights.

    Attributes:
        model_type: what `config.json` calls it.
        class_name: name of the class in `transformers`.
        prefix: what the names of all tensors but the head begin with.
        fields: their settings and the fields of `GPTConfig` that they are.
        choices: for settings whose values have other names, by setting: their value, ours.
        ours: fields of `GPTConfig` that it always has, or has where the setting is left out.
        theirs: settings that may have no other value than this one.
        names: a function that gives the table of names for `name_map.sources`, without prefix.
        read: for settings that are not one field each: a function that changes all the settings
            to such as stand in `fields`.
        write: the way back: a function that gives further settings for a config.
    """

    model_type: str
    class_name: str
    prefix: str
    fields: Mapping[str, str]
    choices: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    ours: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    theirs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    names: Callable[[GPTConfig], Mapping[str, Source]]
    read: Callable[[dict[str, Any]], dict[str, Any]] = _unchanged
    write: Callable[[GPTConfig], dict[str, Any]] = _nothing

    def to_config(self, settings: Mapping[str, Any]) -> GPTConfig:
        """Return the `GPTConfig` of the settings in a `config.json`.

        Raises:
            ValueError: settings ask for what a `GPT` does not have, are not known, contradict each
                other or are missing; the message lists them.
        """
        settings = self.read(_without_rope_parameters(dict(settings)))
        refused, given = [], {}
        for key, value in settings.items():
            if key in self.fields:
                choices = self.choices.get(key)
                if choices is not None and value not in choices:
                    refused.append(f"{key} is {value!r} and should be {_one_of(choices)}")
                    continue
                value = value if choices is None else choices[value]
                first, before = given.setdefault(self.fields[key], (key, value))
                if before != value:
                    refused.append(f"{key} is {value!r} and {first} is {before!r}, but are one")
            elif key in self.theirs:
                if value != self.theirs[key]:
                    refused.append(f"{key} is {value!r} and should be {self.theirs[key]!r}")
            elif not (key in _WITHOUT_EFFECT or key.startswith("_") or value in _EMPTY):
                refused.append(f"{key} is {value!r}, which a GPT does not have")
        if refused:
            raise ValueError(
                "; ".join(listed(f"settings of {self.model_type} that are not supported", refused))
                + "."
            )
        ours = {**self.ours, **{field: value for field, (_, value) in given.items()}}
        theirs = {field: key for key, field in self.fields.items()}
        missing = [key for field, key in theirs.items() if field in _REQUIRED - ours.keys()]
        if missing:
            raise ValueError(f"settings of {self.model_type} are missing: {', '.join(missing)}.")
        return GPTConfig(**ours)

    def to_settings(self, config: GPTConfig) -> dict[str, Any]:
        """Return the settings of a config, as `config.json` has them.

        Raises:
            ValueError: the architecture cannot hold the config; the message says why.
        """
        settings = {"architectures": [self.class_name], "model_type": self.model_type}
        settings |= {key: value for key, value in self.theirs.items() if value is not None}
        for key, field in self.fields.items():
            value = getattr(config, field)
            if key in self.choices:
                back = {ours: theirs for theirs, ours in reversed(self.choices[key].items())}
                if value not in back:
                    continue
                value = back[value]
            settings[key] = value
        for key in settings.keys() & _NOT_THEIRS:
            del settings[key]
        settings |= self.write(config)
        misfits = self._misfits(config, settings)
        if misfits:
            raise ValueError("; ".join(misfits))
        if "rope_theta" in settings:  # where transformers looks since its version 5
            rope = {"rope_theta": settings["rope_theta"], "rope_type": "default"}
            settings["rope_parameters"] = rope
        return settings

    def _misfits(self, config, settings):
        """What would come back differently; so there is no second list of what can be held."""
        try:
            back = self.to_config(settings)
        except ValueError as error:
            return [str(error).rstrip(".")]
        ours, theirs = _meaning(config), _meaning(back)
        return [
            f"{field} is {value!r} and there {theirs[field]!r}"
            for field, value in ours.items()
            if field in theirs and value != theirs[field]
        ]

    def sources(self, config: GPTConfig) -> dict[str, Source]:
        """Return where every weight stands, by `variable.path`, without the prefix."""
        return sources(self.names(config), config)

    def full_name(self, name: str) -> str:
        """Return a tensor's name with the prefix that it has in the file."""
        return name if name == HEAD else self.prefix + name


# The output projection, which stands beside the model and not in it.
HEAD = "lm_head.weight"

_EMPTY = (None, False, "", [], {})
_NOT_THEIRS = {"attention_windows"}
_REQUIRED = {
    field.name for field in dataclasses.fields(GPTConfig) if field.default is dataclasses.MISSING
}


def _without_rope_parameters(settings):
    """Give the base of the rotary angles its own setting, as before transformers 5."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = settings.pop(name, None)
        if not isinstance(rope, Mapping):
            settings |= {} if rope is None else {name: rope}
            continue
        rope = dict(rope)
        if "rope_theta" in rope:
            settings["rope_theta"] = rope.pop("rope_theta")
        if rope.get("rope_type", rope.get("type", "default")) == "default":
            rope = {k: v for k, v in rope.items() if k not in ("rope_type", "type")}
        if rope:
            settings[name] = rope  # scaled: not known, and so refused by this name
    return settings


def _one_of(values):
    return " or ".join(repr(value) for value in values)


def _meaning(config):
    """The fields that have an effect, windows layer by layer."""
    fields = config.to_dict()
    fields["attention_windows"] = tuple(map(config.attention_window, range(config.num_layers)))
    return {
        name: value
        for name, value in fields.items()
        if name not in _NEEDED_BY or _NEEDED_BY[name](config)
    }
