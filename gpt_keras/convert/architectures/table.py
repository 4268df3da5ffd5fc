"""The class of tables for Hugging Face: settings, tensor names, tensor layouts."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from gpt_keras.config import GPTConfig
from gpt_keras.convert.architecture import Architecture
from gpt_keras.convert.architectures.rope import read_rope, write_rope
from gpt_keras.convert.name_map import Source, sources

# The output projection; unlike other tensors, it has no prefix.
HEAD = "lm_head.weight"

# Settings without effect on the logits: of training, generation, other heads and files. Settings
# that begin with an underscore, which transformers uses internally, are ignored, too.
_WITHOUT_EFFECT = frozenset(
    """
    architectures attn_implementation auto_map bad_words_ids begin_suppress_tokens bos_token_id
    classifier_dropout decoder_start_token_id diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label initializer_range
    is_llama_config label2id length_penalty max_length min_length model_type n_ctx n_special
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions
    output_hidden_states output_router_logits output_scores pad_token_id predict_special_tokens
    prefix pretraining_tp problem_type remove_invalid_values reorder_and_upcast_attn
    repetition_penalty return_dict return_dict_in_generate router_jitter_noise sep_token_id
    summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
    suppress_tokens task_specific_params temperature tf_legacy_loss tokenizer_class top_k top_p
    torch_dtype torchscript transformers.js_config transformers_version typical_p unk_token_id
    unsloth_fixed unsloth_version use_bfloat16 use_cache
    """.split()  # noqa: SIM905 (one name per line would fill a page)
)

# Values that switch a setting off, and settings that are off if they are 1.
_EMPTY = (None, False, "", [], {})
_NEUTRAL_AT_1 = ("partial_rotary_factor",)

# Fields that do not occur in `config.json`; `write` and `write_rope` convert them.
_NOT_THEIRS = frozenset({"attention_windows", "rotary_scaling"})


def _unchanged(settings: dict[str, Any]) -> dict[str, Any]:
    return settings


def _nothing(config: GPTConfig) -> dict[str, Any]:
    return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFaceArchitecture(Architecture):
    """An architecture of transformers; its name is the `model_type` in `config.json`.

    Attributes:
        class_name: Name of the class in `transformers`.
        prefix: Prefix of the names of all tensors except the head.
        theirs: Settings with one supported value; another value is rejected.
        names: Function that returns the table of names for `name_map.sources`, without prefix.
        other_names: The same for a second layout, which some files have.
        read: Function that converts the settings of a file. It replaces settings without a field
            of their own by settings in `fields`.
        write: The inverse of `read`: a function that returns further settings for a config.
    """

    class_name: str
    prefix: str
    theirs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    names: Callable[[GPTConfig], Mapping[str, Source]]
    other_names: Callable[[GPTConfig], Mapping[str, Source]] | None = None
    read: Callable[[dict[str, Any]], dict[str, Any]] = _unchanged
    write: Callable[[GPTConfig], dict[str, Any]] = _nothing

    def to_config(self, settings: Mapping[str, Any]) -> GPTConfig:
        """Return the `GPTConfig` for the settings in a `config.json`.

        Raises:
            ValueError: Settings are not supported, contradict each other, or are missing. The
                message lists them.
        """
        return self.config_of(self.read(read_rope(dict(settings))), found={})

    def to_settings(self, config: GPTConfig) -> dict[str, Any]:
        """Return the content of `config.json` for a config without `misfits`."""
        settings = {"architectures": [self.class_name], "model_type": self.name}
        settings |= {key: value for key, value in self.theirs.items() if value is not None}
        for key, field in self.fields.items():
            value = getattr(config, field)
            if key in self.choices:
                back = {ours: theirs for theirs, ours in reversed(self.choices[key].items())}
                if value not in back:
                    continue
                value = back[value]
            if key not in _NOT_THEIRS:
                settings[key] = value
        settings |= self.write(config)
        return settings | (write_rope(config) if "rope_theta" in settings else {})

    def written_and_read(self, config: GPTConfig) -> GPTConfig:
        return self.to_config(self.to_settings(config))

    def objection(self, setting: str, value: Any) -> str | None:
        if setting in self.theirs:
            if value == self.theirs[setting]:
                return None
            return f"{setting} is {value!r} and should be {self.theirs[setting]!r}"
        if setting in _WITHOUT_EFFECT or setting.startswith("_") or value in _EMPTY:
            return None
        if setting in _NEUTRAL_AT_1 and value == 1:
            return None
        return f"{setting} is {value!r}, which a GPT does not have"

    def layer_sources(self, config: GPTConfig) -> Mapping[str, Source]:
        return self.names(config)

    def sources_among(
        self, config: GPTConfig, tensors: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Source]:
        """Return the `Source` of every weight, in the layout of a file.

        Args:
            config: Config of the model.
            tensors: Shapes of the tensors in the file, by name. The layout with the most matching
                names is chosen.
        """
        layouts = [self.sources(config)]
        if self.other_names is not None:
            layouts.append(sources(self.other_names(config), config))
        return max(
            layouts, key=lambda layout: sum(source.name in tensors for source in layout.values())
        )

    def full_name(self, name: str) -> str:
        """Return the name of a tensor with the prefix of the file."""
        return name if name == HEAD else self.prefix + name
