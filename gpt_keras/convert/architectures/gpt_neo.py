"""GPT-Neo (Black et al. 2021), with local attention layers and unscaled scores."""

from gpt_keras.convert.architectures import gpt2
from gpt_keras.convert.architectures.table import HEAD, HuggingFaceArchitecture
from gpt_keras.convert.name_map import Source


def _names(config):
    return {
        "token_embedding": Source("wte"),
        "position_embedding": Source("wpe"),
        "block_{i}/attention_norm": Source("h.{i}.ln_1"),
        # Our attention divides the scores by sqrt(head_dim), GPT-Neo's does not. So the queries
        # get this factor.
        "block_{i}/attention/query": Source(
            "h.{i}.attn.attention.q_proj", transpose=True, factor=config.head_dim**0.5
        ),
        "block_{i}/attention/key": Source("h.{i}.attn.attention.k_proj", transpose=True),
        "block_{i}/attention/value": Source("h.{i}.attn.attention.v_proj", transpose=True),
        "block_{i}/attention/output": Source("h.{i}.attn.attention.out_proj", transpose=True),
        "block_{i}/feed_forward_norm": Source("h.{i}.ln_2"),
        "block_{i}/feed_forward/up": Source("h.{i}.mlp.c_fc", transpose=True),
        "block_{i}/feed_forward/down": Source("h.{i}.mlp.c_proj", transpose=True),
        "final_norm": Source("ln_f"),
        "token_embedding/reverse_embeddings": Source(HEAD, transpose=True),
    }


def _read(settings):
    types = settings.pop("attention_types", [[["global", "local"], 12]])
    settings.pop("attention_layers", None)  # `attention_types` gives the same
    windows = {"global": None, "local": settings.pop("window_size", 256)}
    try:
        layers = [kind for kinds, times in types for kind in list(kinds) * times]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"attention_types is {types!r} and should be a list such as [[['global', 'local'], 6]]."
        ) from error
    if len(layers) != settings.get("num_layers") or set(layers) - windows.keys():
        raise ValueError(
            f"attention_types is {types!r}, which must name 'global' or 'local' for each of "
            f"{settings.get('num_layers')} layers."
        )
    return settings | {"attention_windows": tuple(windows[kind] for kind in layers)}


def _write(config):
    layers = [config.attention_window(i) for i in range(config.num_layers)]
    window = next((window for window in layers if window is not None), 256)
    kinds = ["global" if window is None else "local" for window in layers]
    return {"attention_types": [[kinds, 1]], "attention_layers": kinds, "window_size": window}


ARCHITECTURE = HuggingFaceArchitecture(
    name="gpt_neo",
    class_name="GPTNeoForCausalLM",
    prefix="transformer.",
    fields={
        "vocab_size": "vocabulary_size",
        "max_position_embeddings": "max_sequence_length",
        "num_layers": "num_layers",
        "num_heads": "num_heads",
        "hidden_size": "hidden_dim",
        "intermediate_size": "intermediate_dim",
        "activation_function": "activation",
        "layer_norm_epsilon": "norm_epsilon",
        "resid_dropout": "dropout",
        "embed_dropout": "dropout",
        "attention_dropout": "dropout",
        "tie_word_embeddings": "tie_embeddings",
        "attention_windows": "attention_windows",
    },
    choices={"activation_function": gpt2.ACTIVATIONS},
    ours={"use_qkv_bias": False},
    names=_names,
    read=_read,
    write=_write,
)
