"""Comparison of n-grams, an LSTM and a GPT by perplexity on Shakespeare.

    python scripts/compare_baselines.py

All models are trained on the same seven plays with the same tokenizer. They are scored on two
held-out plays: every token, and the end-of-text token after each play, exactly once. The context of
a play begins with the end-of-text token.

LSTM and GPT have the same number of parameters within 2%, and train on the same batches in the same
order for the same number of steps. Both are scored in windows that overlap by half. Except at the
beginning of a play, each token thus has at least half a window of context.
"""

import argparse
import time

import keras

import gpt_keras as gk

ORDERS = (1, 2, 3, 4, 5)
SEQUENCE_LENGTH, BATCH_SIZE = 64, 32
LEARNING_RATES = {"GPT": 3e-3, "LSTM": 1e-2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=600, help="training steps of each network")
    parser.add_argument("--vocabulary-size", type=int, default=512, help="of the BPE tokenizer")
    settings = parser.parse_args()

    plays = gk.datasets.corpora.load("shakespeare")
    training, held_out = plays[:-2], plays[-2:]
    tokenizer = gk.tokenizers.BytePairTokenizer.train(training, settings.vocabulary_size)
    rows = []

    def add(name, num_parameters, model, began):
        seconds = time.perf_counter() - began
        stride = None if isinstance(model, gk.NGramLM) else SEQUENCE_LENGTH // 2
        result = gk.evaluation.perplexity(model, held_out, stride=stride, batch_size=64)
        rows.append((name, num_parameters, seconds, result))
        print(f"{name}: perplexity {result.perplexity:.2f}", flush=True)

    for order in ORDERS:
        began = time.perf_counter()
        model = gk.NGramLM(order, tokenizer).fit(training)
        add(f"{order}-gram", model.num_parameters, model, began)

    config = gk.GPTConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        max_sequence_length=SEQUENCE_LENGTH,
        num_layers=4,
        num_heads=4,
        hidden_dim=96,
    )
    keras.utils.set_random_seed(0)
    backbones = {
        "LSTM": gk.LSTMBackbone.of_size(
            config.num_parameters,
            tokenizer.vocabulary_size,
            num_layers=2,
            max_sequence_length=SEQUENCE_LENGTH,
        ),
        "GPT": gk.GPT(config),
    }
    sizes = {name: backbone.count_params() for name, backbone in backbones.items()}
    if abs(sizes["LSTM"] / sizes["GPT"] - 1) > 0.02:
        raise SystemExit(f"the numbers of parameters differ by more than 2%: {sizes}")
    for name, backbone in backbones.items():
        data, _ = gk.datasets.language_modeling(
            training, tokenizer, sequence_length=SEQUENCE_LENGTH, batch_size=BATCH_SIZE,
            validation_fraction=0, seed=0,
        )  # fmt: skip
        model = gk.CausalLM(backbone, tokenizer=tokenizer)
        model.compile(
            gk.training.adamw(
                LEARNING_RATES[name], warmup_steps=settings.steps // 10, total_steps=settings.steps
            )
        )
        began = time.perf_counter()
        model.fit(data.repeat(), steps_per_epoch=settings.steps, verbose=0)
        add(name, sizes[name], model, began)

    tokens = rows[0][3].num_tokens
    print(
        f"\n{tokens:,} held-out tokens, vocabulary {tokenizer.vocabulary_size}, "
        f"{settings.steps} steps"
    )
    print(f"{'model':8}{'parameters':>12}{'seconds':>9}{'perplexity':>12}{'bits/char':>11}")
    for name, num_parameters, seconds, result in sorted(rows, key=lambda row: -row[3].loss):
        if result.num_tokens != tokens:
            raise SystemExit(f"{name} was scored on {result.num_tokens} tokens, not {tokens}")
        print(
            f"{name:8}{num_parameters:12,}{seconds:9.1f}{result.perplexity:12.2f}"
            f"{result.bits_per_character:11.3f}"
        )


if __name__ == "__main__":
    main()
