"""Write tests/fixtures/: tiny models with results of transformers, PEFT and trl.

Run this script once, in a separate environment. The tests need only the files that it writes:

    pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2 trl==1.16.0 gguf '.[hub, harness]'
    python scripts/make_fixtures.py [SmolLM2-135M-Instruct.Q4_1.gguf]
"""

import functools
import hashlib
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import peft
import tokenizers
import torch
import transformers
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

import gpt_keras as gk

FIXTURES = pathlib.Path(__file__).parent.parent / "tests" / "fixtures"

# Training text of a small GPT-1 tokenizer, and texts to encode with it.
GPT1_CORPUS = """
The lowest of the newer towers is lower than the new one, the tower's keeper told the others.
"Newest towers," they answered, "are the widest; the oldest ones were lower (and wider)!"
Were there others? There were: 12 towers, 3 of them low, 1 wide... x-ray, quiz, jump, vague.
naïve ω 가나 가 詩 ½ ☃ \U0001f600 ꦀ꧀ x\u302ey
"""
GPT1_TEXTS = [
    "",
    " \n\t ",
    "The lowest tower is the newest.",
    'THE OTHERS\' TOWERS: (low-lower-lowest)... "wide"?!',
    "thethethe lowerlower tttttt",
    "NAÏVE nai\u0308ve na\u0131\u0308ve Ånew e\u0301e",
    "unknown: Ж€жш и ß",
    "詩詩the 가나다 각 the詩 \uf900",
    "the\u00adre\u200b new\x00est lo\x1cwer to\x85wer to\ufffdwer \ue000one",
    "a\u00a0the\u2003new\u2028one\u3000low\ttower\r\nwide",
    "½ ☃☃ \U0001f600the \u2460 ², ∞ + $1 ~ `",
    "x\u302ey x\u302e\u0301\u1dfb\u05b0y \ua9c0\u302ex ꦀ꧀\u302e x\u302e\u0903\ua9c0",
    # Canonical ordering sorts the first two marks. In the second word, the mark between them, which
    # is removed later, prevents that.
    "x\u302e\ua9c0y x\u302e\u0941\ua9c0y",
    "İ ΩΣ ẞ ǅ ﬁ \u212b \u2126 \u1e9b\u0323",
]


def gpt2(name: str, seed: int, **shape: int) -> None:
    """Store a random Hugging Face GPT-2: config, weights, token ids, logits, loss."""
    torch.manual_seed(seed)
    config = transformers.GPT2Config(**shape, attn_implementation="eager")
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        # The default initialization is so small that a wrong norm or bias would hardly change the
        # logits.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    token_ids = torch.randint(config.vocab_size, (3, config.n_positions))
    with torch.no_grad():
        output = model(token_ids, labels=token_ids)
    np.savez_compressed(
        FIXTURES / f"{name}.npz",
        made_with=f"torch {torch.__version__}, transformers {transformers.__version__}",
        token_ids=token_ids.numpy().astype("int32"),
        logits=output.logits.numpy(),
        loss=output.loss.numpy(),
        **{f"config/{key}": value for key, value in shape.items()},
        **{f"weight/{key}": value.numpy() for key, value in model.state_dict().items()},
    )


def gpt1_tokenizer(vocabulary_size: int) -> None:
    """Store a small GPT-1 vocabulary, texts, their ids, and the decoded texts."""
    # All characters are passed as special tokens: the trainer itself would add the characters with
    # an end-of-word suffix in an arbitrary order.
    stock = transformers.OpenAIGPTTokenizer()
    engine = stock.backend_tokenizer
    characters = sorted(set(engine.normalizer.normalize_str(GPT1_CORPUS)) - {" "})
    symbols = ["<unk>", *characters, *(character + "</w>" for character in characters)]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        show_progress=False,
        end_of_word_suffix="</w>",
        special_tokens=symbols,
    )
    engine.train_from_iterator([GPT1_CORPUS], trainer)
    model = json.loads(engine.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = transformers.OpenAIGPTTokenizer(vocab=model["vocab"], merges=merges)
    ids = [tokenizer(text)["input_ids"] for text in GPT1_TEXTS]
    content = {
        "made_with": f"transformers {transformers.__version__}, "
        f"tokenizers {tokenizers.__version__}",
        "vocabulary": model["vocab"],
        "merges": merges,
        "texts": GPT1_TEXTS,
        "ids": ids,
        "decoded": [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in ids],
    }
    file = FIXTURES / "gpt1_tokenizer.json"
    file.write_text(json.dumps(content) + "\n", encoding="utf-8")


def huggingface(
    name: str,
    seed: int,
    config: transformers.PretrainedConfig,
    dtype: torch.dtype = torch.float32,
    **how,
) -> None:
    """Store a random model with `save_pretrained`, and its logits in `expected.npz`."""
    folder = FIXTURES / "huggingface" / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = model.eval().float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.to(dtype).save_pretrained(folder, **how)
    # Load the weights, which may have been rounded to `dtype`, and compute in float32.
    load = transformers.AutoModelForCausalLM.from_pretrained
    model = load(folder, dtype=torch.float32, attn_implementation="eager").eval()
    token_ids = torch.randint(config.vocab_size, (3, config.max_position_embeddings))
    expected = {}
    with torch.no_grad():
        if config.model_type == "mixtral":
            output = model(token_ids, output_router_logits=True)
            expected["load_balancing_loss"] = load_balancing_loss_func(
                output.router_logits, config.num_local_experts, config.num_experts_per_tok
            ).numpy()
        else:
            output = model(token_ids)
    np.savez_compressed(
        folder / "expected.npz",
        made_with=f"torch {torch.__version__}, transformers {transformers.__version__}",
        token_ids=token_ids.numpy().astype("int32"),
        logits=output.logits.numpy(),
        **expected,
    )


def all_huggingface() -> None:
    """Store several shapes of each architecture.

    Together they contain at least two values of every setting that the converter reads.
    """
    gpt2 = functools.partial(transformers.GPT2Config, vocab_size=50, n_positions=20)
    huggingface("gpt2", 10, gpt2(n_embd=16, n_layer=2, n_head=4))
    other = {"n_inner": 20, "activation_function": "relu", "layer_norm_epsilon": 1e-3}
    other |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    untied = gpt2(n_embd=12, n_layer=3, n_head=1, tie_word_embeddings=False, **other)
    huggingface("gpt2_untied", 11, untied)

    gpt1 = functools.partial(transformers.OpenAIGPTConfig, vocab_size=50, n_positions=20)
    huggingface("openai_gpt", 20, gpt1(n_embd=16, n_layer=3, n_head=4))
    huggingface("openai_gpt_relu", 21, gpt1(n_embd=12, n_layer=1, n_head=2, afn="relu"))

    neo = functools.partial(transformers.GPTNeoConfig, vocab_size=50, max_position_embeddings=20)
    alternating = {"attention_types": [[["global", "local"], 2]], "num_layers": 4}
    config = neo(hidden_size=16, num_heads=4, window_size=5, **alternating)
    huggingface("gpt_neo", 30, config)
    mixed = {"attention_types": [[["local"], 2], [["global"], 1]], "num_layers": 3}
    config = neo(hidden_size=24, num_heads=2, window_size=3, intermediate_size=20, **mixed)
    huggingface("gpt_neo_mixed", 31, config)

    modern = {"vocab_size": 50, "max_position_embeddings": 20, "hidden_size": 16}
    modern |= {"intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4}
    llama = functools.partial(transformers.LlamaConfig, **modern)
    untied = llama(num_key_value_heads=2, head_dim=6)
    huggingface("llama", 40, untied)
    huggingface("llama_bfloat16", 41, untied, dtype=torch.bfloat16)
    huggingface("llama_float16", 42, untied, dtype=torch.float16)
    huggingface("llama_sharded", 43, untied, max_shard_size="6KB")
    rope = {"rope_type": "default", "rope_theta": 500.0}
    huggingface("llama_tied", 44, llama(tie_word_embeddings=True, rope_parameters=rope))
    biases = {"attention_bias": True, "mlp_bias": True}
    huggingface("llama_biases", 45, llama(num_key_value_heads=1, rms_norm_eps=1e-3, **biases))
    huggingface("llama_attention_bias", 46, llama(num_key_value_heads=2, attention_bias=True))
    huggingface("llama_mlp_bias", 47, llama(num_key_value_heads=2, mlp_bias=True))

    qwen2 = functools.partial(transformers.Qwen2Config, **modern)
    huggingface("qwen2", 50, qwen2(num_key_value_heads=2, tie_word_embeddings=True))
    huggingface("qwen2_untied", 51, qwen2(num_key_value_heads=4, rope_parameters=rope))
    window = {"use_sliding_window": True, "sliding_window": 5}
    late = qwen2(num_key_value_heads=2, max_window_layers=1, **window)
    huggingface("qwen2_window", 52, late)

    qwen3 = functools.partial(transformers.Qwen3Config, **modern, num_key_value_heads=2)
    huggingface("qwen3", 55, qwen3(head_dim=6, tie_word_embeddings=True, rope_parameters=rope))
    types = ["sliding_attention", "full_attention"]
    biased = qwen3(head_dim=4, attention_bias=True, layer_types=types, **window)
    huggingface("qwen3_window", 56, biased)

    mistral = functools.partial(transformers.MistralConfig, **modern)
    huggingface("mistral", 60, mistral(num_key_value_heads=2, sliding_window=5))
    dense = mistral(num_key_value_heads=1, head_dim=10, sliding_window=None)
    huggingface("mistral_dense", 61, dense)

    mixtral = functools.partial(transformers.MixtralConfig, **modern, num_key_value_heads=2)
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    huggingface("mixtral", 70, mixtral(**experts))
    huggingface("mixtral_one_layer", 71, mixtral(**experts, num_hidden_layers=1))
    one_each = {"num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 6}
    huggingface("mixtral_window", 72, mixtral(**one_each, head_dim=6))
    fused = mixtral(num_local_experts=3, num_experts_per_tok=2, num_hidden_layers=1)
    huggingface("mixtral_fused", 73, fused, save_original_format=False)


def peft_adapter(name: str, base: str, seed: int, **settings) -> None:
    """Store a random LoRA adapter of PEFT for a stored model, and the logits with it."""
    folder = FIXTURES / "peft" / name
    shutil.rmtree(folder, ignore_errors=True)
    model = _stored_model(base)
    torch.manual_seed(seed)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    _store_logits(folder, base, model)


def our_adapter(name: str, base: str, seed: int, targets: list[str]) -> None:
    """Store an adapter of this package, and the logits that PEFT computes with it."""
    folder = FIXTURES / "peft" / name
    shutil.rmtree(folder, ignore_errors=True)
    model = gk.CausalLM.from_preset(FIXTURES / "huggingface" / base)
    model.enable_lora(3, targets, lora_alpha=5)
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(random.normal(size=variable.shape) * 0.3)
    model.save_adapter(folder)
    _store_logits(folder, base, peft.PeftModel.from_pretrained(_stored_model(base), folder))


def _stored_model(base):
    folder = FIXTURES / "huggingface" / base
    load = transformers.AutoModelForCausalLM.from_pretrained
    return load(folder, dtype=torch.float32, attn_implementation="eager").eval()


def _store_logits(folder, base, model):
    with np.load(FIXTURES / "huggingface" / base / "expected.npz") as stored:
        token_ids = stored["token_ids"]
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(token_ids).long()).logits.numpy()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    np.savez_compressed(
        folder / "expected.npz",
        made_with=f"{versions}, peft {peft.__version__}",
        token_ids=token_ids,
        logits=logits,
    )


def all_peft() -> None:
    """Store adapters for a joined projection, several ranks, and a Llama-type model."""
    patterns = {"rank_pattern": {"c_proj": 2}, "alpha_pattern": {"h.1.attn.c_attn": 16}}
    peft_adapter(
        "gpt2", "gpt2", 90, r=4, lora_alpha=8, target_modules=["c_attn", "c_proj"], **patterns
    )
    llama = ["q_proj", "v_proj", "down_proj"]
    peft_adapter("llama", "llama", 91, r=4, lora_alpha=6, use_rslora=True, target_modules=llama)
    our_adapter("ours_gpt2", "gpt2", 92, ["query", "value", "block_1/feed_forward/up"])
    our_adapter("ours_llama", "llama", 93, ["query", "key", "gate"])


# Token ids of prompts, chosen and rejected answers, without the end token.
PREFERENCES = [
    ([5, 6, 7], [8, 9], [10]),
    ([11, 4], [12], [13, 14, 15, 16]),
    ([20, 21, 22, 23, 24, 25], [26, 27, 28], [29, 30, 31]),
    ([33], [34, 35, 36, 37, 38, 39, 40], [41]),
]
DPO_SETTINGS = {"beta": 0.3, "steps": 3, "learning_rates": {"full": 0.05, "lora": 3.0}}
DPO_COLUMNS = ("prompt", "chosen", "rejected")
DPO_METRICS = ("chosen", "rejected", "margins", "accuracies")


def direct_preference_optimization() -> None:
    """Store three SGD steps of trl's `DPOTrainer`: all weights, and a LoRA adapter."""
    folder = FIXTURES / "dpo"
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = _word_tokenizer()
    found = {
        "full": _dpo_run(folder / "full", tokenizer, None),
        "lora": _dpo_run(
            folder / "lora",
            tokenizer,
            peft.LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=6, target_modules=["q_proj"]),
        ),
    }
    import trl

    content = {
        "made_with": f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"peft {peft.__version__}, trl {trl.__version__}",
        "model": "llama",
        "end_token_id": 2,
        "settings": DPO_SETTINGS,
        "pairs": PREFERENCES,
        "steps": found,
    }
    text = json.dumps(content) + "\n"
    (folder / "dpo.json").write_text(text, encoding="utf-8")


def _word_tokenizer():
    """Return a tokenizer whose id i is the word `t` and i."""
    words = {{0: "<pad>", 2: "</s>"}.get(i, f"t{i}"): i for i in range(50)}
    engine = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t1"))
    engine.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=engine, eos_token="</s>", pad_token="<pad>"
    )


def _dpo_run(folder, tokenizer, peft_config):
    """Train, save the model before and after, and return the log of each step."""
    import datasets  # the whole script does not need these two
    import trl

    def text(ids):
        return "".join(f" t{i}" for i in ids)

    columns = {name: [text(row[i]) for row in PREFERENCES] for i, name in enumerate(DPO_COLUMNS)}
    arguments = trl.DPOConfig(
        str(folder / "run"),
        beta=DPO_SETTINGS["beta"],
        learning_rate=DPO_SETTINGS["learning_rates"][folder.name],
        max_steps=DPO_SETTINGS["steps"],
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        per_device_train_batch_size=len(PREFERENCES),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    trainer = trl.DPOTrainer(
        _stored_model("llama"),
        None if peft_config else _stored_model("llama"),
        arguments,
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=tokenizer,
        peft_config=peft_config,
    )
    for row, expected in zip(trainer.train_dataset, PREFERENCES):
        assert [row["prompt_ids"], row["chosen_ids"][:-1], row["rejected_ids"][:-1]] == [*expected]
        assert row["chosen_ids"][-1] == row["rejected_ids"][-1] == 2
    if peft_config:
        trainer.model.peft_config["default"].base_model_name_or_path = "llama"
        trainer.model.save_pretrained(folder / "before")
    trainer.train()
    trainer.model.save_pretrained(folder / "after")
    for unused in (*folder.glob("*/README.md"), *folder.glob("*/generation_config.json")):
        unused.unlink()
    shutil.rmtree(folder / "run", ignore_errors=True)
    names = ["loss", *(f"rewards/{name}" for name in DPO_METRICS)]
    return [{name: log[name] for name in names} for log in trainer.state.log_history[:-1]]


# Token ids of prompts, and of four completions of each; without its end token 2, a completion is
# truncated.
COMPLETIONS = [
    ([5, 6, 7], [[8, 9, 2], [10, 2], [11, 12, 13, 2], [2]], [1.0, 0.0, 0.5, -2.0]),
    ([11, 4], [[12, 2], [13, 2], [14, 15, 2], [16, 17, 2]], [0.25, 0.25, 0.25, 0.25]),
    (
        [20, 21, 22, 23, 24],
        [[25, 26, 27, 28, 29], [30, 2], [31, 32, 2], [33, 2]],
        [3.0, 0.0, 1.0, 0.0],
    ),
]
GRPO_SETTINGS = {
    "num_generations": 4,
    "max_new_tokens": 5,
    "temperature": 0.7,
    "beta": 0.3,
    "epsilon": 0.2,
    "num_iterations": 2,
}
GRPO_LEARNING_RATE = 0.2
GRPO_METRICS = ("reward", "reward_std", "frac_reward_zero_std", "kl", "clip_ratio/region_mean")
GRPO_METRICS += ("completions/mean_length", "completions/clipped_ratio")


def group_relative_policy_optimization() -> None:
    """Store two SGD steps of trl's `GRPOTrainer` with given completions."""
    folder = FIXTURES / "grpo"
    shutil.rmtree(folder, ignore_errors=True)
    steps = {name: _grpo_run(folder / name, name == "masked") for name in ("kept", "masked")}
    import trl

    content = {
        "made_with": f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"trl {trl.__version__}",
        "model": "llama",
        "end_token_id": 2,
        "settings": GRPO_SETTINGS,
        "learning_rate": GRPO_LEARNING_RATE,
        "groups": COMPLETIONS,
        "steps": steps,
    }
    (folder / "grpo.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def _grpo_run(folder, is_masked):
    """Train, save the weights, and return the log of each step."""
    import datasets
    import trl

    def text(ids):
        return " ".join(f"t{i}" for i in ids)

    groups = {text(prompt): (rows, rewards) for prompt, rows, rewards in COMPLETIONS}

    class Trainer(trl.GRPOTrainer):
        def _generate_single_turn(self, prompt_ids, *arguments, **keywords):
            # The rows of a group follow each other.
            return [
                groups[text(ids)][0][i % GRPO_SETTINGS["num_generations"]]
                for i, ids in enumerate(prompt_ids)
            ], None

    def reward(prompts, completion_ids, **columns):
        return [
            groups[prompt][1][groups[prompt][0].index([*ids])]
            for prompt, ids in zip(prompts, completion_ids)
        ]

    settings = dict(GRPO_SETTINGS)
    arguments = trl.GRPOConfig(
        str(folder / "run"),
        max_completion_length=settings.pop("max_new_tokens"),
        **settings,
        loss_type="grpo",
        use_bias_correction_kl=False,  # as in the paper
        mask_truncated_completions=is_masked,
        learning_rate=GRPO_LEARNING_RATE,
        max_steps=2,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        per_device_train_batch_size=12,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        shuffle_dataset=False,
    )
    trainer = Trainer(
        _stored_model("llama"),
        reward,
        arguments,
        train_dataset=datasets.Dataset.from_dict({"prompt": [*groups]}),
        processing_class=_word_tokenizer(),
    )
    trainer.train()
    trainer.model.save_pretrained(folder / "after")
    (folder / "after" / "generation_config.json").unlink()
    shutil.rmtree(folder / "run", ignore_errors=True)
    return [
        {name: log[name] for name in ("loss", *GRPO_METRICS) if name in log}
        for log in trainer.state.log_history[:-1]
    ]


# RoPE scalings for a model that was trained for 10 positions and is used for 40.
SCALINGS = [
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 10, "beta_fast": 4.0}
    | {"beta_slow": 0.5, "mscale": 0.7, "mscale_all_dim": 0.4, "truncate": False},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10}
    | {"attention_factor": 0.8},
]


# Text of the tokenizers, the tasks and the answers of the models for lm-evaluation-harness.
HARNESS_TEXT = """
The cat sat on the mat, and the dog lay on the rug. The sun was warm. Rain fell on the hill.
A bird sang in the tree; a fish swam in the pond. The cow ate the grass and the hen ate the corn.
Who sat on the mat? The cat did. Who lay on the rug? The dog did. What fell on the hill? Rain.
"""
HARNESS_TASKS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "num_fewshot": 2,
        "fewshot_split": "train",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "last_word": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
        "doc_to_target": "{{' ' + text.split(' ')[-1]}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "whole_text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "answer": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}} ",
        "doc_to_target": "{{choices[label]}}",
        "generation_kwargs": {"until": ["\n", "e"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}
HARNESS_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def harness(num_items: int = 100) -> None:
    """Store two tiny models with results of lm-evaluation-harness on transformers.

    Four tasks, once with the chat template, and log-likelihoods of single continuations without
    the harness.
    """
    import lm_eval  # the whole script does not need it

    folder = FIXTURES / "harness"
    shutil.rmtree(folder, ignore_errors=True)
    shape = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2}
    llama = transformers.LlamaConfig(
        **shape,
        max_position_embeddings=128,
        intermediate_size=20,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    gpt2 = transformers.GPT2Config(
        vocab_size=300, n_positions=128, n_embd=16, n_layer=2, n_head=4, eos_token_id=0
    )
    models = {
        "llama": _harness_model(folder / "llama", llama, 120, ["<unk>", "<s>", "</s>"]),
        "gpt2": _harness_model(folder / "gpt2", gpt2, 121, ["<|endoftext|>"]),
    }
    words = HARNESS_TEXT.split()
    draw = np.random.default_rng(122)

    def text(shortest, longest):
        return " ".join(draw.choice(words, draw.integers(shortest, longest)))

    rows = [
        {
            "question": f"{text(2, 7)}?",
            "choices": [text(1, 5), text(1, 3), *draw.choice(words, 2)],
            "label": int(draw.integers(4)),
            "text": text(2, 120),
        }
        for _ in range(16)
    ]
    content = {
        "made_with": f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"lm-eval {lm_eval.__version__}",
        "tasks": HARNESS_TASKS,
        "train": rows[:4],
        "test": rows[4:],
        "results": {
            f"{name}{' chat' * has_chat}": _harness_results(content, rows, has_chat)
            for name, content in models.items()
            for has_chat in (False, True)
            if name == "llama" or not has_chat
        },
        "items": _likelihoods(models["llama"], num_items, draw),
    }
    text = json.dumps(content, indent=None) + "\n"
    (folder / "harness.json").write_text(text, encoding="utf-8")


def _harness_model(folder, config, seed, special_tokens):
    """Store a random model with a byte-level tokenizer, and return its folder."""
    engine = tokenizers.Tokenizer(tokenizers.models.BPE())
    engine.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator([HARNESS_TEXT], trainer)
    boundaries = {"eos_token": special_tokens[-1], "pad_token": special_tokens[-1]}
    if "<s>" in special_tokens:
        engine.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
        boundaries |= {"bos_token": "<s>", "chat_template": HARNESS_TEMPLATE}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=engine, **boundaries)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = model.eval().float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return folder


def _harness_results(folder, rows, has_chat):
    """Return the responses and the metrics of all tasks, by HFLM."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    with tempfile.TemporaryDirectory() as directory:
        files = {"train": rows[:4], "test": rows[4:]}
        paths = {name: str(pathlib.Path(directory) / f"{name}.jsonl") for name in files}
        for name, part in files.items():
            lines = "".join(json.dumps(row) + "\n" for row in part)
            pathlib.Path(paths[name]).write_text(lines, encoding="utf-8")
        common = {
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": paths},
            "test_split": "test",
        }
        tasks = [{"task": name} | common | task for name, task in HARNESS_TASKS.items()]
        found = lm_eval.simple_evaluate(
            model=HFLM(str(folder), dtype="float32", batch_size=4, device="cpu"),
            tasks=tasks,
            apply_chat_template=has_chat,
            bootstrap_iters=0,
        )
    return {
        name: {
            "responses": [sample["resps"] for sample in found["samples"][name]],
            "metrics": {
                key: value
                for key, value in found["results"][name].items()
                if isinstance(value, float) and "stderr" not in key
            },
        }
        for name in HARNESS_TASKS
    }


def _likelihoods(folder, number, draw):
    """Return contexts and continuations with their log-likelihoods, by transformers."""
    load = transformers.AutoModelForCausalLM.from_pretrained
    model = load(folder, dtype=torch.float32, attn_implementation="eager").eval()
    items = []
    for i in range(number):
        context, continuation = (
            draw.integers(3, 300, draw.integers(1, longest)).tolist() for longest in (24, 9)
        )
        if i % 4 == 0:  # the most likely continuation
            with torch.no_grad():
                row = model.generate(
                    torch.tensor([context]), max_new_tokens=3, do_sample=False, eos_token_id=None
                )
            continuation = row[0, len(context) :].tolist()
        with torch.no_grad():
            logits = model(torch.tensor([(context + continuation)[:-1]])).logits[0]
        log_probs = torch.log_softmax(logits, -1)[-len(continuation) :]
        chosen = log_probs[range(len(continuation)), continuation]
        is_greedy = log_probs.argmax(-1).tolist() == continuation
        items.append([context, continuation, float(chosen.double().sum()), is_greedy])
    return items


def scaled_rotary_angles() -> None:
    """Store a Llama with Llama 3.1's RoPE scaling, and its logits with other scalings."""
    llama3 = {"rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": 10}
    llama3 |= {"low_freq_factor": 0.5, "high_freq_factor": 1.2, "rope_theta": 100.0}
    shape = {"vocab_size": 30, "max_position_embeddings": 40, "hidden_size": 16}
    shape |= {"intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 1, "head_dim": 16}
    config = transformers.LlamaConfig(**shape, rope_parameters=llama3)
    huggingface("llama_llama3", 48, config)
    folder = FIXTURES / "huggingface" / "llama_llama3"
    token_ids = torch.randint(30, (1, 40), generator=torch.Generator().manual_seed(0))
    logits = []
    for scaling in SCALINGS:
        config = transformers.LlamaConfig.from_pretrained(folder)
        config.rope_parameters = {"rope_theta": 100.0, **scaling}
        if scaling["rope_type"] == "dynamic":  # it takes the original context from this setting
            config.max_position_embeddings = 10
        load = transformers.LlamaForCausalLM.from_pretrained
        model = load(folder, config=config, attn_implementation="eager").eval()
        with torch.no_grad():
            logits.append(model(token_ids).logits.numpy())
    np.savez_compressed(
        FIXTURES / "rotary_scaling.npz",
        made_with=f"torch {torch.__version__}, transformers {transformers.__version__}",
        token_ids=token_ids.numpy().astype("int32"),
        scalings=[json.dumps(scaling) for scaling in SCALINGS],
        logits=np.stack(logits),
    )


# Arguments of `GenerationConfig`; each dict is one case of `logits_processors`.
LOGITS_SETTINGS = [
    *({"temperature": t} for t in (0.3, 1.7)),
    *({"top_k": k} for k in (1, 3, 11, 40)),
    *({"top_p": p} for p in (0.05, 0.5, 0.9, 0.99)),
    *({"min_p": p} for p in (0.02, 0.3, 1.0)),
    *({"typical_p": p} for p in (0.05, 0.2, 0.6, 0.95)),
    *({"repetition_penalty": p} for p in (0.6, 1.3)),
    *({"no_repeat_ngram_size": n} for n in (1, 2, 3, 4, 5, 9, 10, 30)),
    {"bad_words_ids": [[3]]},
    {"bad_words_ids": [[3], [7], [0, 5], [1, 0, 4], [1, 0, 4, 6], [2] * 12]},
    {"sequence_bias": [[[3], 2.5], [[8], -float("inf")]]},
    {"sequence_bias": [[[3], 2.5], [[0, 3], -4.0], [[1, 0, 3], 1.5], [[1, 1, 0, 6], 8.0]]},
    *({"min_new_tokens": n} for n in (1, 5, 6, 20)),
    {"temperature": 0.7, "top_k": 8, "top_p": 0.8},
    {"temperature": 1.5, "top_k": 9, "top_p": 0.95, "min_p": 0.1, "typical_p": 0.8},
    {"repetition_penalty": 1.4, "sequence_bias": [[[3], 2.5], [[0, 6], -4.0]], "min_p": 0.05},
    {
        "repetition_penalty": 0.7,
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[5], [1, 0, 4]],
        "min_new_tokens": 8,
        "sequence_bias": [[[9], 1.0], [[1, 0, 2], 3.0]],
        "temperature": 3.0,
        "top_k": 7,
        "top_p": 0.95,
        "min_p": 0.02,
        "typical_p": 0.9,
    },
]


def logits_processors(seed: int) -> None:
    """Store random logits and tokens, and the results of transformers' processors."""
    rng = np.random.default_rng(seed)
    vocabulary_size, prompt_length, length, end_token_ids = 12, 5, 10, [2, 10]
    shape = {"vocab_size": vocabulary_size, "n_embd": 4, "n_layer": 1, "n_head": 1}
    ends = {"bos_token_id": 2, "eos_token_id": 2}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **ends))
    # Few different tokens, so that they repeat. All rows end in 1, 0, which begin some of the
    # sequences in the settings above.
    token_ids = rng.integers(5, size=(8, length))
    token_ids[:, -2:] = [1, 0]
    token_ids[:4, -5:-2] = [1, 0, 1]
    logits = rng.normal(scale=2, size=(8, vocabulary_size)).astype("float32")
    logits[6, rng.permutation(vocabulary_size)[:5]] = -np.inf
    logits[7] = np.round(logits[7] / 2)  # creates ties
    expected = []
    for settings in LOGITS_SETTINGS:
        config = transformers.GenerationConfig(
            do_sample=True, eos_token_id=end_token_ids, pad_token_id=0, top_k=0
        )
        config.update(**settings)
        model._prepare_special_tokens(config, kwargs_has_attention_mask=True, device="cpu")
        processors = model._get_logits_processor(config, prompt_length, device="cpu")
        # Each row is processed separately, so that rows cannot influence each other.
        rows = zip(torch.tensor(token_ids), torch.tensor(logits), strict=True)
        expected.append(
            torch.cat([processors(ids[None], row[None].clone()) for ids, row in rows]).numpy()
        )
    np.savez_compressed(
        FIXTURES / "logits_processors.npz",
        made_with=f"torch {torch.__version__}, transformers {transformers.__version__}",
        token_ids=token_ids.astype("int32"),
        prompt_length=prompt_length,
        end_token_ids=end_token_ids,
        logits=logits,
        settings=[json.dumps(settings) for settings in LOGITS_SETTINGS],
        expected=np.stack(expected),
    )


# Cases of beam search: prompts, strategies and settings, as arguments of transformers' `generate`.
BEAM_PROMPTS = [[3, 1, 4, 1, 5, 9], [26], [5, 35, 8]]
BEAM_STRATEGIES = [
    {"num_beams": 3, "length_penalty": penalty, "early_stopping": early}
    for penalty in (1.0, 0.0, 2.0, -1.0)
    for early in (False, True, "never")
]
BEAM_SETTINGS = [
    {"repetition_penalty": 1.7},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 4},
    {"bad_words_ids": [[7], [27, 27], [12, 31]]},
    {"repetition_penalty": 0.8, "no_repeat_ngram_size": 3, "min_new_tokens": 7},
]


def beam_search() -> None:
    """Store the results of beam search with two of the models stored by `huggingface`."""
    cases = []
    for name in ("gpt2", "llama"):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            FIXTURES / "huggingface" / name, attn_implementation="eager"
        ).eval()
        model.generation_config = transformers.GenerationConfig()
        search = functools.partial(_beam_search, name, model)
        for strategy in BEAM_STRATEGIES:
            cases += [search(strategy, ends) for ends in ([16], [3, 27, 37])]
        cases.append(search(BEAM_STRATEGIES[0], []))
        cases.append(search({**BEAM_STRATEGIES[0], "num_beams": 1}, [16]))
        cases.append(search({**BEAM_STRATEGIES[0], "num_beams": 7}, [3, 27, 37]))
        for strategy in (BEAM_STRATEGIES[0], BEAM_STRATEGIES[8]):
            cases += [search(strategy, [3, 27, 37], settings) for settings in BEAM_SETTINGS]
    lines = ",\n".join(map(json.dumps, cases))
    made_with = f"torch {torch.__version__}, transformers {transformers.__version__}"
    text = f'{{"made_with": "{made_with}",\n"cases": [\n{lines}\n]}}\n'
    (FIXTURES / "beam_search.json").write_text(text, encoding="utf-8")


def _beam_search(name, model, strategy, end_token_ids, settings=None):
    options = {"do_sample": False, "max_new_tokens": 10, "pad_token_id": 0}
    options |= {"num_return_sequences": strategy["num_beams"], "output_scores": True}
    options |= {"eos_token_id": end_token_ids or None, "return_dict_in_generate": True}
    # Penalties and bans of transformers treat padding as text. With them, prompts run separately.
    batches = [[prompt] for prompt in BEAM_PROMPTS] if settings else [BEAM_PROMPTS]
    found = []
    for prompts in batches:
        longest = max(map(len, prompts))
        padded = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        with torch.no_grad():
            output = model.generate(
                padded, attention_mask=mask, **options, **strategy, **(settings or {})
            )
        scores = getattr(output, "sequences_scores", None)  # None with a single beam
        for i, row in enumerate(output.sequences[:, longest:].tolist()):
            ends = [place for place, token_id in enumerate(row) if token_id in end_token_ids]
            score = None if scores is None else float(scores[i])
            found.append({"new_ids": row[: min(ends, default=len(row))], "score": score})
    count = strategy["num_beams"]
    return {
        "model": name,
        "strategy": strategy,
        "end_token_ids": end_token_ids,
        "settings": settings or {},
        "prompts": BEAM_PROMPTS,
        "found": [found[i : i + count] for i in range(0, len(found), count)],
    }


SMOLLM2_PROMPTS = [
    "The capital of France is",
    "Once upon a time",
    "The three primary colors are",
    "Water boils at 100 degrees",
    "def fibonacci(n):\n",
    "import numpy as np\n\nx = np.",
    "Q: What is 12 + 30?\nA:",
    "1, 2, 3, 4, 5,",
    "Dear Sir or Madam,\n\n",
    "The opposite of hot is",
    "In 1969, Neil Armstrong",
    "Shakespeare wrote",
    "床前明月光,",
    "中国的首都是",
    "Il était une fois",
    "To make tea, first",
    '{"name": "Alice", "age":',
    "| city | country |\n|---|---|\n| Paris |",
    "The quick brown fox",
    "Photosynthesis is the process by which",
]
SMOLLM2_CHATS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "user", "content": "Give me three words that rhyme with cat."}],
    [
        {"role": "system", "content": "You answer in one word."},
        {"role": "user", "content": "Is the sky blue?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "And grass?"},
    ],
    [{"role": "user", "content": "你好!"}],
]


def assistant_masks(folder: pathlib.Path) -> None:
    """Write the ids and masks that transformers makes of conversations."""
    sys.path.insert(0, str(FIXTURES.parent / "chat"))
    import mask_cases

    file = mask_cases.tokenizer().save(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(file), eos_token="<|endoftext|>"
    )
    entries = []
    for name, case in mask_cases.MARKED:
        conversation = mask_cases.CONVERSATIONS[case]
        made = tokenizer.apply_chat_template(
            conversation["messages"],
            tools=conversation.get("tools"),
            chat_template=mask_cases.TEMPLATES[name],
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        ids, mask = made["input_ids"], made["assistant_masks"]
        entries.append({"template": name, "case": case, "ids": ids, "mask": mask})
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    text = f'{{"made_with": "transformers {transformers.__version__}", "entries": [\n{lines}\n]}}\n'
    (FIXTURES / "assistant_masks.json").write_text(text, encoding="utf-8")


def smollm2(gguf_file: pathlib.Path, num_tokens: int = 20) -> None:
    """Store the results of transformers for the GGUF file of SmolLM2-135M-Instruct."""
    where = {"pretrained_model_name_or_path": gguf_file.parent, "gguf_file": gguf_file.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    # transformers ignores the file's pre-tokenizer setting, which splits digits one by one.
    engine, split = tokenizer.backend_tokenizer, tokenizers.pre_tokenizers
    engine.pre_tokenizer = split.Sequence(
        [split.Digits(individual_digits=True), split.ByteLevel(add_prefix_space=False)]
    )
    entries = [{"prompt": p, "ids": engine.encode(p).ids} for p in SMOLLM2_PROMPTS]
    for messages in SMOLLM2_CHATS:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        entries.append({"messages": messages, "text": text, "ids": engine.encode(text).ids})
    for entry in entries:
        ids = torch.tensor([entry["ids"]])
        with torch.no_grad():
            top = model(ids).logits[0, -1].topk(5)
            new = model.generate(ids, max_new_tokens=num_tokens, do_sample=False)
        entry["top_ids"], entry["top_logits"] = top.indices.tolist(), top.values.tolist()
        entry["new_ids"] = new[0, ids.shape[1] :].tolist()
    content = {
        "made_with": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "file_sha256": hashlib.sha256(gguf_file.read_bytes()).hexdigest(),
        "entries": entries,
    }
    file = FIXTURES / "smollm2_135m_instruct.json"
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    FIXTURES.mkdir(parents=True, exist_ok=True)
    gpt1_tokenizer(260)
    gpt2("gpt2_tiny", 0, vocab_size=61, n_positions=24, n_embd=32, n_layer=2, n_head=4)
    gpt2("gpt2_one_head", 1, vocab_size=17, n_positions=9, n_embd=12, n_layer=3, n_head=1)
    all_huggingface()
    all_peft()
    direct_preference_optimization()
    group_relative_policy_optimization()
    harness()
    scaled_rotary_angles()
    logits_processors(80)
    beam_search()
    with tempfile.TemporaryDirectory() as folder:
        assistant_masks(pathlib.Path(folder))
    if len(sys.argv) > 1:  # the GGUF file of SmolLM2-135M-Instruct
        smollm2(pathlib.Path(sys.argv[1]))
