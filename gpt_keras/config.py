"""The config of a GPT: its architecture, and the counts that follow from it."""

import dataclasses
import json
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_keras.checks import (
    check_at_least_0,
    check_choice,
    check_head_groups,
    check_positive,
    check_positive_int,
    check_rate,
)
from gpt_keras.rotary_scaling import RotaryScaling, make_rotary_scaling
from gpt_keras.weight_shapes import weight_shapes

# Allowed values of the string fields. Layers and models read the same tuples.
ACTIVATIONS = ("relu", "relu_squared", "gelu", "gelu_tanh", "swiglu")
NORMS = ("layer_norm", "rms_norm")
NORM_POSITIONS = ("pre", "post")
POSITION_EMBEDDINGS = ("learned", "sinusoidal", "rotary", "none")

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Architecture of a GPT-style decoder; the defaults are GPT-2's.

    The constructor checks every field, alone and together with the others. So a model can be
    built from every config that exists. A config is immutable; `replace` makes a variant.

    Args:
        vocabulary_size: Number of token ids; ids run from 0 to `vocabulary_size - 1`.
        max_sequence_length: Length of the context in tokens: the longest input of the model.
        num_layers: Number of transformer blocks.
        num_heads: Number of query heads in each attention layer.
        hidden_dim: Width of the residual stream.
        num_key_value_heads: Number of key and value heads, a divisor of `num_heads`. Fewer than
            `num_heads` is grouped-query attention (Ainslie et al. 2023), 1 is multi-query
            attention. Default: `num_heads`.
        head_dim: Width of one head. Default: `hidden_dim / num_heads`; `num_heads` must then
            divide `hidden_dim`.
        intermediate_dim: Inner width of the feed-forward layer. Default: `4 * hidden_dim`.
        activation: `"gelu_tanh"` (GPT-1, GPT-2), `"gelu"` (exact), `"relu"`, `"relu_squared"`
            (Primer, So et al. 2021) or `"swiglu"`.
        dropout: Rate, in [0, 1), of the three dropouts of GPT-2: on the embeddings, on the
            attention weights, and on the output of each sub-layer.
        position_embedding: `"learned"`, `"sinusoidal"`, `"rotary"` or `"none"`. With
            `"sinusoidal"`, the token embeddings are multiplied by `sqrt(hidden_dim)` (Vaswani et
            al. 2017, section 3.4). Otherwise the positions would outweigh them.
        rotary_base: Base of the rotary angles (RoFormer, Su et al. 2021, section 3.4.3).
        rotary_scaling: Change of the rotary angles for contexts longer than in pretraining. None,
            a `RotaryScaling`, or a mapping with the keys of transformers' `rope_scaling`, such as
            `{"rope_type": "linear", "factor": 2.0}`. See `RotaryEmbedding`.
        norm: `"layer_norm"` or `"rms_norm"`.
        norm_position: `"pre"` (GPT-2: before each sub-layer, and a final norm) or `"post"`
            (GPT-1: after each residual sum).
        norm_epsilon: Number added to the variance in each norm.
        use_bias: Whether the linear projections of attention and feed-forward have biases.
        use_qkv_bias: Whether the query, key and value projections have biases. Qwen2 has biases
            only there. Default: `use_bias`.
        use_feed_forward_bias: Whether the projections of the feed-forward layer have biases.
            Default: `use_bias`.
        use_qk_norm: Whether an RMSNorm normalizes the queries and keys of each head (Henry et al.
            2020; Qwen3). It bounds the attention logits.
        tie_embeddings: Weight tying: whether the output projection is the transposed token
            embedding (Press and Wolf 2016).
        causal: Whether attention has a causal mask: a token sees only itself and earlier tokens.
            With False the model is an encoder, as BERT is, and takes a padding mask.
        attention_windows: Sliding-window attention: the number of tokens that a token sees, itself
            included; None for all. The values repeat over the layers. `(None, 256)` alternates
            dense and locally banded layers (GPT-3, Brown et al. 2020, section 2.1). `(4096,)`
            has a window in every layer (Mistral). Default: all layers are dense.
        num_experts: Number of experts in a mixture of experts: feed-forward layers among which a
            router chooses for each token. Default: None, one feed-forward layer and no router.
        num_experts_per_token: Number of experts that the router chooses for each token.
        router_loss_weight: Weight of the router's load-balancing loss in training.

    Raises:
        ValueError: A field or a combination of fields is not allowed. The message gives the field,
            the allowed values and the value.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=50257, max_sequence_length=1024,
        ...                       num_layers=12, num_heads=12, hidden_dim=768)
        >>> config.num_parameters
        124439808
        >>> config.kv_cache_bytes(batch_size=1, length=1024) / 2**20   # MiB
        72.0
    """

    vocabulary_size: int
    max_sequence_length: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    intermediate_dim: int | None = None
    activation: str = "gelu_tanh"
    dropout: float = 0.0
    position_embedding: str = "learned"
    rotary_base: float = 10000.0
    rotary_scaling: RotaryScaling | Mapping[str, Any] | None = None
    norm: str = "layer_norm"
    norm_position: str = "pre"
    norm_epsilon: float = 1e-5
    use_bias: bool = True
    use_qkv_bias: bool | None = None
    use_feed_forward_bias: bool | None = None
    use_qk_norm: bool = False
    tie_embeddings: bool = True
    causal: bool = True
    attention_windows: tuple[int | None, ...] | None = None
    num_experts: int | None = None
    num_experts_per_token: int = 2
    router_loss_weight: float = 0.01

    def __post_init__(self):
        # Convert NumPy numbers to Python numbers, because JSON rejects NumPy's. A frozen
        # dataclass can set its fields only through object.__setattr__.
        optional = ("num_key_value_heads", "head_dim", "intermediate_dim", "num_experts")
        sizes = ("vocabulary_size", "max_sequence_length", "num_layers", "num_heads", "hidden_dim")
        for name in (*sizes, *optional, "num_experts_per_token"):
            value = getattr(self, name)
            if value is not None or name not in optional:
                check_positive_int(name, value)
                object.__setattr__(self, name, operator.index(value))
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("position_embedding", self.position_embedding, POSITION_EMBEDDINGS)
        check_choice("norm", self.norm, NORMS)
        check_choice("norm_position", self.norm_position, NORM_POSITIONS)
        check_rate("dropout", self.dropout)
        check_positive("rotary_base", self.rotary_base)
        check_positive("norm_epsilon", self.norm_epsilon)
        for name in ("use_qkv_bias", "use_feed_forward_bias"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.use_bias)
        check_at_least_0("router_loss_weight", self.router_loss_weight)
        biases = ("use_bias", "use_qkv_bias", "use_feed_forward_bias")
        for name in (*biases, "use_qk_norm", "tie_embeddings", "causal"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` must be True or False, got {getattr(self, name)!r}.")

        for name in ("dropout", "rotary_base", "norm_epsilon", "router_loss_weight"):
            object.__setattr__(self, name, float(getattr(self, name)))

        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", self.num_heads)
        if self.intermediate_dim is None:
            object.__setattr__(self, "intermediate_dim", 4 * self.hidden_dim)
        if self.head_dim is None:
            if self.hidden_dim % self.num_heads:
                raise ValueError(
                    f"`hidden_dim` must be a multiple of `num_heads` unless `head_dim` is given, "
                    f"got hidden_dim={self.hidden_dim} and num_heads={self.num_heads}."
                )
            object.__setattr__(self, "head_dim", self.hidden_dim // self.num_heads)
        check_head_groups(self.num_heads, self.num_key_value_heads)
        if self.num_experts is not None and self.num_experts_per_token > self.num_experts:
            raise ValueError(
                f"`num_experts_per_token` must be at most `num_experts`={self.num_experts}, "
                f"got {self.num_experts_per_token}."
            )
        if self.attention_windows is not None:
            object.__setattr__(self, "attention_windows", _windows(self.attention_windows))
        if self.position_embedding == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"`head_dim` must be even for rotary positions, got {self.head_dim} "
                f"(hidden_dim={self.hidden_dim}, num_heads={self.num_heads})."
            )
        self._check_rotary_scaling()
        if self.position_embedding == "sinusoidal" and self.hidden_dim % 2:
            raise ValueError(
                f"`hidden_dim` must be even for sinusoidal positions, got {self.hidden_dim}."
            )

    def _check_rotary_scaling(self):
        scaling = make_rotary_scaling(self.rotary_scaling)
        object.__setattr__(self, "rotary_scaling", scaling)
        if scaling is None:
            return
        if self.position_embedding != "rotary":
            raise ValueError(
                f"`rotary_scaling` must be None unless `position_embedding` is 'rotary', "
                f"got position_embedding={self.position_embedding!r} and {scaling}."
            )
        scaling.frequencies(self.rotary_base, self.head_dim)  # raises if the two do not fit

    def attention_window(self, layer: int) -> int | None:
        """Return the attention window of one layer.

        Args:
            layer: Number of the layer, from 0.

        Returns:
            The number of tokens that a token sees, itself included; None for all.

        Example:
            >>> import gpt_keras as gk
            >>> config = gk.presets.get("gpt3_small")
            >>> [config.attention_window(layer) for layer in range(4)]
            [None, 256, None, 256]
        """
        windows = self.attention_windows or (None,)
        return windows[layer % len(windows)]

    @property
    def num_parameters(self) -> int:
        """Exact number of trainable parameters of the `GPT` of this config."""
        return sum(map(math.prod, weight_shapes(self).values()))

    def flops_per_token(self, sequence_length: int | None = None) -> int:
        """Return the floating-point operations (FLOPs) per token of a forward pass.

        Each weight of a matrix product counts two operations. This includes the output projection,
        but not the embedding look-up. Attention adds the products of queries with keys and of
        attention weights with values, over `sequence_length` keys or a shorter window. The causal
        mask gives no discount (PaLM, Chowdhery et al. 2022, appendix B). All experts count, because
        all are computed. A training step costs three times as much.

        Args:
            sequence_length: Number of keys that a token attends to. Default:
                `max_sequence_length`.

        Returns:
            Number of floating-point operations for one token.

        Raises:
            ValueError: `sequence_length` is not an integer of at least 1.

        Example:
            >>> import gpt_keras as gk
            >>> gk.presets.get("gpt2_small").flops_per_token() / 1e6
            284.8128
        """
        length = self.max_sequence_length if sequence_length is None else sequence_length
        check_positive_int("sequence_length", length)
        shapes = weight_shapes(self)
        kernels = sum(math.prod(shapes[path]) for path in shapes if path.endswith("/kernel"))
        kernels += self.vocabulary_size * self.hidden_dim  # the output projection, tied or not
        windows = [self.attention_window(i) for i in range(self.num_layers)]
        num_keys = sum(length if window is None else min(window, length) for window in windows)
        return 2 * kernels + 4 * self.num_heads * self.head_dim * num_keys

    def kv_cache_bytes(self, batch_size: int, length: int, dtype: str = "float32") -> int:
        """Return the size of the KV cache in bytes.

        A layer with a window caches all positions, too.

        Args:
            batch_size: Number of sequences.
            length: Number of cached positions per sequence.
            dtype: Dtype of the cache: `"float32"`, `"bfloat16"`, `"float16"` or `"int8"`.

        Returns:
            Number of bytes.

        Raises:
            ValueError: A size is not an integer of at least 1, or `dtype` is unknown.

        Example:
            >>> import gpt_keras as gk
            >>> config = gk.presets.get("llama3_8b")
            >>> config.kv_cache_bytes(batch_size=1, length=8192, dtype="bfloat16") / 2**30  # GiB
            1.0
        """
        check_positive_int("batch_size", batch_size)
        check_positive_int("length", length)
        check_choice("dtype", dtype, tuple(_BYTES))
        numbers = 2 * self.num_layers * self.num_key_value_heads * self.head_dim
        return numbers * batch_size * length * _BYTES[dtype]

    def replace(self, **changes: Any) -> "GPTConfig":
        """Return a variant with some fields changed and derived defaults recomputed.

        A field that equals its derived default, such as `head_dim` or `intermediate_dim`, follows
        the changed fields. `dataclasses.replace` would keep its old value.

        Args:
            **changes: New values by field name.

        Returns:
            A new `GPTConfig`.

        Raises:
            ValueError: A field is unknown, or its value is not allowed.

        Example:
            >>> import gpt_keras as gk
            >>> config = gk.presets.get("gpt2_small").replace(hidden_dim=96, num_heads=4)
            >>> config.head_dim, config.intermediate_dim
            (24, 384)
        """
        derived = {
            "num_key_value_heads": self.num_heads,
            # GPT-3 13B has 5,140 / 40 = 128.5, and says 128: a value that was chosen.
            "head_dim": self.hidden_dim / self.num_heads,
            "intermediate_dim": 4 * self.hidden_dim,
            "use_qkv_bias": self.use_bias,
            "use_feed_forward_bias": self.use_bias,
        }
        kept = {k: v for k, v in self.to_dict().items() if v != derived.get(k)}
        return GPTConfig.from_dict({**kept, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, for `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "GPTConfig":
        """Return the config with the given fields.

        Args:
            fields: Values by field name, as `to_dict` returns them.

        Returns:
            A `GPTConfig`.

        Raises:
            ValueError: A field is unknown, a required field is missing, or a value is not allowed.

        Example:
            >>> import gpt_keras as gk
            >>> config = gk.presets.get("tiny")
            >>> gk.GPTConfig.from_dict(config.to_dict()) == config
            True
        """
        if not isinstance(fields, Mapping):
            raise ValueError(f"`fields` must be a mapping, got {type(fields).__name__}.")
        known = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - set(known))
        missing = [
            name
            for name, field in known.items()
            if field.default is dataclasses.MISSING and name not in fields
        ]
        if unknown or missing:
            raise ValueError(
                f"Not the fields of a GPTConfig: unknown {unknown}, missing {missing}; "
                f"allowed are {sorted(known)}."
            )
        return cls(**fields)

    def to_json(self) -> str:
        """Return the fields as indented JSON text, for `from_json`."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "GPTConfig":
        """Return the config in the JSON text of `to_json`.

        Args:
            text: JSON text of an object with the fields.

        Returns:
            A `GPTConfig`.

        Raises:
            ValueError: The text is not JSON, or `from_dict` rejects its fields.

        Example:
            >>> import gpt_keras as gk
            >>> config = gk.presets.get("tiny")
            >>> gk.GPTConfig.from_json(config.to_json()) == config
            True
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"`text` is not JSON: {error}.") from error
        return cls.from_dict(fields)


def _windows(windows: Any) -> tuple[int | None, ...]:
    if not isinstance(windows, Sequence) or isinstance(windows, str) or not windows:
        raise ValueError(
            f"`attention_windows` must be a sequence of integers and None, got {windows!r}."
        )
    for window in windows:
        if window is not None:
            check_positive_int("attention_windows", window)
    return tuple(None if window is None else operator.index(window) for window in windows)
