"""Adapters on the command line, and training that goes on with a saved model."""

import functools
import io
import json
import shlex

import numpy as np
import pytest
from tiny_models import spread_weights

import gpt_keras as gk

TEXT = "the cat sat on the mat. the dog sat on the log. " * 20


@pytest.fixture(scope="module")
def adapter(language_model, tmp_path_factory):
    """A folder of an adapter whose factors are not zero."""
    model = gk.GPTCausalLM.from_preset(language_model)
    model.enable_lora(3, lora_alpha=6)
    spread_weights(model)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    model.save_adapter(folder)
    return folder


def test_generate_with_an_adapter(run, language_model, adapter):
    model = gk.GPTCausalLM.from_preset(language_model)
    plain = np.array(model(np.arange(5)[None]))
    model.load_adapter(adapter)
    assert np.abs(model(np.arange(5)[None]) - plain).max() > 0.1
    expected = model.generate("the cat", max_new_tokens=8, temperature=0)
    options = ["--max-new-tokens", 8, "--temperature", 0, "--adapter", adapter]
    assert run("generate", language_model, "the cat", *options) == (0, expected + "\n", "")


def test_chat_with_an_adapter(run, language_model, adapter, tmp_path, monkeypatch):
    model = gk.GPTCausalLM.from_preset(language_model)
    template = "{% for m in messages %}{{ m.content }}, {% endfor %}"
    tokenizer = model.tokenizer
    model = gk.GPTCausalLM(model.config, tokenizer=tokenizer, chat_template=template)
    model.set_weights(gk.GPTCausalLM.from_preset(language_model).get_weights())
    model.save_to_preset(tmp_path / "model")
    model.load_adapter(adapter)
    settings = {"max_new_tokens": 4, "temperature": 0}
    expected = "".join(gk.chat.Conversation(model, **settings).say("hello"))
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    options = ["--adapter", adapter, "--max-new-tokens", 4, "--temperature", 0]
    assert run("chat", tmp_path / "model", *options) == (0, expected + "\n", "")


BAD_ADAPTERS = """
{model} --adapter nothing | `adapter` must be the folder of a LoRA adapter, got 'nothing'
{model} --adapter {model} | holds no adapter: it lacks adapter_config.json
{model} --adapter head    | has the head of a task model
{model} --adapter damaged | adapter_config.json' is damaged
other --adapter {adapter} | does not fit the model
"""


@pytest.mark.parametrize("command", ["generate", "chat"])
@pytest.mark.parametrize("case", BAD_ADAPTERS.strip().split("\n"))
def test_bad_adapters(
    run, language_model, adapter, classifier, tmp_path, monkeypatch, command, case
):
    monkeypatch.chdir(tmp_path)
    if "head" in case:
        gk.GPTClassifier.from_preset(classifier).save_adapter(tmp_path / "head")
    if "damaged" in case:
        (tmp_path / "damaged").mkdir()
        (tmp_path / "damaged" / "adapter_config.json").write_text("{")
        (tmp_path / "damaged" / "adapter_model.safetensors").touch()
    if "other" in case:
        model = gk.GPTCausalLM.from_preset(language_model)
        config = model.config.replace(hidden_dim=8)
        gk.GPTCausalLM(config, tokenizer=model.tokenizer).save_to_preset(tmp_path / "other")
    line, expected = case.rsplit("|", 1)
    words = shlex.split(line.format(model=language_model, adapter=adapter))
    words[1:1] = ["the cat"] if command == "generate" else []
    code, out, err = run(command, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected.strip() in err


# train --init


SMALL = ["--steps", 2, "--batch-size", 2, "--evaluations", 1, "--prompt", "", "--optimizer"]
SMALL += ["adamw", "--warmup-steps", 0]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT)
    return path


def test_training_begins_with_the_weights_of_init(
    run, language_model, corpus, tmp_path, monkeypatch
):
    compile_model = functools.partialmethod(gk.CausalLM.compile, run_eagerly=True)
    monkeypatch.setattr(gk.CausalLM, "compile", compile_model)
    folder = tmp_path / "new"
    # Steps of nearly no length: the loss is that of the model itself.
    options = ["--init", language_model, "--sequence-length", 16, "--learning-rate", 1e-9]
    code, out, err = run("train", corpus, folder, *SMALL, *options)
    assert (code, err) == (0, "")
    old, new = (gk.GPTCausalLM.from_preset(path) for path in (language_model, folder))
    assert f"35 tokens, {old.count_params():,} parameters" in out
    assert (new.config, new.max_sequence_length) == (old.config, 48)
    assert new.tokenizer == old.tokenizer
    for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    _, validation = gk.datasets.language_modeling(
        corpus, old.tokenizer, sequence_length=16, batch_size=2, validation_fraction=0.1
    )
    old.compile()
    record = json.loads((folder / "run.json").read_text())
    expected = old.evaluate(validation, return_dict=True, verbose=0)["loss"]
    assert record["history"]["val_loss"][0] == pytest.approx(expected, rel=1e-5)
    assert record["settings"]["init"] == str(language_model)


def test_the_default_learning_rate_is_a_tenth(run, language_model, corpus, tmp_path, monkeypatch):
    rates = []
    monkeypatch.setattr(
        gk.CausalLM, "fit", lambda self, *_, **__: rates.append(self.optimizer) or _stop()
    )
    run("train", corpus, tmp_path / "a", *SMALL, "--init", language_model, "--sequence-length", 16)
    run(
        "train", corpus, tmp_path / "b", *SMALL, "--sequence-length", 16, "--tokenizer", "character"
    )
    found = [float(optimizer.learning_rate) for optimizer in rates]
    assert found == pytest.approx([1e-4, 1e-3])


def _stop():
    raise KeyboardInterrupt


BAD = """
--init {model} --tokenizer gpt2            | `tokenizer` must be left out with `init`
--init {model} --vocabulary-size 99        | `vocabulary_size` must be left out
--init {model} --preset tiny --dropout 0.1 | `preset`, `dropout` must be left out
--init {model} --num-layers 1              | `num_layers` must be left out
--init {model} --num-heads 1               | `num_heads` must be left out
--init {model} --hidden-dim 8              | `hidden_dim` must be left out
--init {model} --sequence-length 49        | `sequence_length` must be at most 48
--init {model} --sequence-length 0         | `sequence_length` must be
--init nothing                             | got 'nothing'
--init {classifier}                        | holds a GPTClassifier, not a CausalLM
--init no_tokenizer                        | `init` must be a model with a tokenizer
"""


@pytest.mark.parametrize("case", BAD.strip().split("\n"))
def test_flags_that_contradict_init(
    run, language_model, classifier, corpus, tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    if "no_tokenizer" in case:
        model = gk.CausalLM.from_preset(language_model)
        gk.CausalLM(model.backbone).save_to_preset(tmp_path / "no_tokenizer")
    line, expected = case.rsplit("|", 1)
    words = shlex.split(line.format(model=language_model, classifier=classifier))
    code, out, err = run("train", corpus, "new", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected.strip() in err
    assert not (tmp_path / "new").exists()
