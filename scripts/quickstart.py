"""Train a small GPT on Shakespeare, generate, save, export and serve it.

`scripts/quickstart.sh` installs what this needs and runs it.
"""

import itertools
import pathlib
import subprocess
import sys
import time

import keras

import gpt_keras as gk

PROMPT = "DUKE.\nWhat news"
STEPS_PER_EPOCH, EPOCHS = 110, 5

# All that a server needs to know about the model.
SERVE = """
import sys
sys.modules.update(dict.fromkeys(["gpt_keras", "keras", "tensorflow_text", "tokenizers"]))
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
output = model.generate(text=tf.constant([sys.argv[2]]), max_new_tokens=60, temperature=0.8,
                        top_k=50, top_p=1.0, seed=1)
print(output["text"].numpy()[0].decode("utf-8", errors="replace"))
"""


def new_directory() -> pathlib.Path:
    """Return quickstart_output/1, or the first number that is not taken."""
    root = pathlib.Path("quickstart_output").resolve()
    return next(root / str(n) for n in itertools.count(1) if not (root / str(n)).exists())


def main() -> None:
    began = time.perf_counter()
    keras.utils.set_random_seed(0)
    output = new_directory()
    output.mkdir(parents=True)

    print("== A tokenizer, trained on nine plays of Shakespeare")
    plays = gk.datasets.corpora.load("shakespeare")
    tokenizer = gk.tokenizers.BytePairTokenizer.train(plays, vocabulary_size=1024)
    print(f"{PROMPT!r} -> {[tokenizer.decode([i]) for i in tokenizer.encode(PROMPT)]}")

    train, validation = gk.datasets.language_modeling(
        plays, tokenizer, sequence_length=128, batch_size=16, seed=0
    )
    config = gk.presets.get("nano").replace(vocabulary_size=tokenizer.vocabulary_size)
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    model.backbone.summary()

    print("\n== Training with model.fit")
    model.compile(gk.training.muon(total_steps=EPOCHS * STEPS_PER_EPOCH))
    fit_began = time.perf_counter()
    history = model.fit(
        train.repeat(),
        validation_data=validation,
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=EPOCHS,
        callbacks=[
            gk.callbacks.SampleText(PROMPT, max_new_tokens=40, temperature=0.8, top_k=50),
            gk.callbacks.Throughput(),
            gk.callbacks.CompileNotice(),
        ],
    )
    fit_seconds = time.perf_counter() - fit_began
    gk.plots.training(history).savefig(output / "loss.png", dpi=120)

    print("\n== Generating")
    text = model.generate(PROMPT, max_new_tokens=60, temperature=0.8, top_k=50, seed=1)
    print(text)

    print("\n== Saving, reloading, exporting")
    model.save(output / "model.keras")
    reloaded = keras.saving.load_model(output / "model.keras")
    again = reloaded.generate(PROMPT, max_new_tokens=60, temperature=0.8, top_k=50, seed=1)
    print("the reloaded model writes the same text:", again == text)
    gk.export.saved_model(reloaded, output / "saved_model")

    print("\n== A fresh process with TensorFlow alone: no gpt_keras, no keras, no tensorflow-text")
    serve_began = time.perf_counter()
    served = subprocess.run(
        [sys.executable, "-c", SERVE, str(output / "saved_model"), PROMPT],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=output,
    )
    if served.returncode:
        raise SystemExit(f"the fresh process failed:\n{served.stderr}")
    print(f"sent:     {PROMPT!r}\nreceived: {served.stdout.rstrip()!r}")
    print("the same text again:", served.stdout.rstrip("\n") == text.rstrip("\n"))

    serve_seconds = time.perf_counter() - serve_began
    all_seconds = time.perf_counter() - began

    print("\n== Summary")
    print(f"parameters         {config.num_parameters:,}")
    print(f"validation loss    {history.history['val_loss'][-1]:.4f} nats per token")
    print(f"tokens per second  {history.history['tokens_per_second'][-1]:,.0f} in training")
    print(
        f"seconds            {all_seconds:.0f} in all: {fit_seconds:.0f} in fit, "
        f"{serve_seconds:.0f} in the fresh process"
    )
    for path in ("loss.png", "model.keras", "saved_model"):
        print(f"written            {output / path}")
    if again != text or served.stdout.rstrip("\n") != text.rstrip("\n"):
        raise SystemExit("the texts differ: this is a bug")


if __name__ == "__main__":
    main()
