"""DPO: the loss against NumPy and trl, what is trained, and what is refused."""

import itertools
import json
import pathlib
import random

import keras
import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.layers.lora import adapters_disabled
from gpt_keras.models.adapters import adapted_layers

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def make_model(**changes):
    random.seed(0)  # Keras draws the seeds of initializers
    return spread_weights(gk.GPTCausalLM(tiny_config(num_layers=1, **changes)), stddev=0.2)


def make_pairs(count=3, seed=0):
    generator = np.random.default_rng(seed)

    def ids(shortest, longest):
        return generator.integers(3, 32, generator.integers(shortest, longest)).astype("int32")

    parts = [(ids(2, 5), ids(1, 6), ids(1, 6)) for _ in range(count)]
    return gk.datasets.PreferencePairs(*map(tuple, zip(*parts)))


def make_dpo(model, optimizer=None, jit_compile=False, **settings):
    dpo = gk.finetuning.DPO(model, **settings)
    dpo.compile(optimizer or keras.optimizers.SGD(0.1), jit_compile=jit_compile)
    return dpo


def log_probability(model, prompt, answer):
    """Sum of the answer's log-probabilities, in NumPy, without padding."""
    ids = np.concatenate([prompt, answer])
    logits = np.array(model(ids[None, :-1]), "float64")[0]
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return sum(log_p[i - 1, ids[i]] for i in range(len(prompt), len(ids)))


def by_hand(model, reference, pairs, beta):
    rewards = beta * np.array(
        [
            [log_probability(model, p, a) - log_probability(reference, p, a) for a in answers]
            for p, *answers in zip(pairs.prompts, pairs.chosen, pairs.rejected)
        ]
    )
    margins = rewards[:, 0] - rewards[:, 1]
    return {
        "loss": np.mean(np.log(1 + np.exp(-margins))),
        "margin": margins.mean(),
        "accuracy": (margins > 0).mean(),
        "chosen_reward": rewards[:, 0].mean(),
        "rejected_reward": rewards[:, 1].mean(),
    }


def test_a_worked_example():
    """Log-probabilities of one pair: -1 and -4 under the model, -2 and -3 under the reference."""
    dpo = make_dpo(make_model(), beta=0.5)
    x = {"answer_mask": np.array([[[False, True, True], [False, True, False]]])}
    outputs = {
        "log_probabilities": np.array([[-1.0, -4.0]], "float32"),
        "reference": np.array([[-2.0, -3.0]], "float32"),
    }
    # The rewards are 0.5 and -0.5, the margin is 1: -log sigmoid(1) = 0.3133.
    assert float(dpo.compute_loss(x, y_pred=outputs)) == pytest.approx(0.313262, abs=1e-6)
    assert float(dpo.get_metrics_result()["margin"]) == pytest.approx(1.0)


@pytest.mark.parametrize("has_adapter", [True, False])
def test_loss_and_metrics_equal_numpy(has_adapter):
    model, pairs, beta = make_model(), make_pairs(5), 0.7
    reference = gk.GPTCausalLM(model.config)
    reference.set_weights(model.get_weights())
    if has_adapter:
        model.enable_lora(2)
    dpo = gk.finetuning.DPO(model, beta)
    if not has_adapter:
        pairs = dpo.with_reference(pairs)
    for variable in model.trainable_variables:
        noise = np.random.default_rng(1).normal(size=variable.shape)
        variable.assign_add(0.2 * noise.astype("float32"))
    dpo.compile(jit_compile=False)
    found = dpo.evaluate(pairs, batch_size=2, verbose=0, return_dict=True)  # the third is half full
    expected = by_hand(model, reference, pairs, beta)
    assert expected["margin"] != 0
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert ("kl" in found) == has_adapter
    rewards = dpo.rewards(pairs, batch_size=2)
    for i, column in enumerate(("chosen_reward", "rejected_reward")):
        assert rewards[:, i].mean() == pytest.approx(expected[column], abs=1e-4)
    if has_adapter:
        assert found["kl"] == pytest.approx(kl_by_hand(model, reference, pairs), rel=1e-3)


def kl_by_hand(model, reference, pairs):
    divergences = []
    for prompt, *answers in zip(pairs.prompts, pairs.chosen, pairs.rejected):
        for answer in answers:
            ids = np.concatenate([prompt, answer])[None, :-1]
            log_p, log_ref = (
                logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
                for logits in (np.array(m(ids), "float64")[0] for m in (model, reference))
            )
            per_token = (np.exp(log_p) * (log_p - log_ref)).sum(axis=-1)
            divergences += per_token[len(prompt) - 1 :].tolist()
    return np.mean(divergences)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_three_steps_equal_trl(kind):
    stored = json.loads((FIXTURES / "dpo" / "dpo.json").read_text())
    model = gk.CausalLM.from_preset(FIXTURES / "huggingface" / stored["model"])
    end = [stored["end_token_id"]]
    columns = zip(*((prompt, a + end, b + end) for prompt, a, b in stored["pairs"]))
    pairs = gk.datasets.PreferencePairs(*columns)
    settings = stored["settings"]
    if kind == "lora":
        model.load_adapter(FIXTURES / "dpo" / "lora" / "before")
    dpo = gk.finetuning.DPO(model, settings["beta"])
    if kind == "full":
        pairs = dpo.with_reference(pairs)
    rate = settings["learning_rates"][kind]
    dpo.compile(keras.optimizers.SGD(rate), jit_compile=False)
    epochs = settings["steps"]
    history = dpo.fit(pairs, batch_size=len(pairs), epochs=epochs, verbose=0).history
    names = {"loss": "loss", "margin": "rewards/margins"}
    names |= {"chosen_reward": "rewards/chosen", "rejected_reward": "rewards/rejected"}
    for ours, theirs in names.items():
        expected = [step[theirs] for step in stored["steps"][kind]]
        np.testing.assert_allclose(history[ours], expected, atol=2e-5, err_msg=ours)
    # At first all margins are 0; rounding decides their signs here, and trl counts none.
    expected = [step["rewards/accuracies"] for step in stored["steps"][kind]]
    assert history["accuracy"][1:] == expected[1:]

    base = FIXTURES / "huggingface" / stored["model"]
    after = gk.CausalLM.from_preset(FIXTURES / "dpo" / "full" / "after" if kind == "full" else base)
    if kind == "lora":
        after.load_adapter(FIXTURES / "dpo" / "lora" / "after")
    moved = 0
    untrained = gk.CausalLM.from_preset(base).get_weights()
    for i, (ours, theirs) in enumerate(zip(model.weights, after.weights, strict=True)):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=ours.path)
        moved += kind == "full" and not np.array_equal(ours, untrained[i])
    assert kind == "lora" or moved == len(untrained)


@pytest.fixture(scope="module")
def preference_data():
    """The answer to a letter is the next letter, and not the letter itself."""
    tokenizer = gk.tokenizers.CharacterTokenizer(LETTERS, end_of_text=True)
    model = gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=tokenizer)
    rows = [
        {"prompt": a, "chosen": b, "rejected": a * 2} for a, b in itertools.pairwise(LETTERS[:9])
    ]
    return tokenizer, gk.datasets.preferences(rows, model, validation_fraction=0.25)


@pytest.mark.parametrize("has_adapter", [True, False])
def test_a_model_learns_to_prefer(has_adapter, preference_data):
    tokenizer, data = preference_data
    model = gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=tokenizer)
    before = [np.array(variable) for variable in model.variables]
    paths = [variable.path for variable in model.variables]
    if has_adapter:
        model.enable_lora(4, ["query", "value", "output", "up", "down"])
    dpo = gk.finetuning.DPO(model, beta=0.1)
    train, validation = data.train, data.validation
    if not has_adapter:
        train, validation = map(dpo.with_reference, (train, validation))
    reference = dpo.with_reference(train).reference
    dpo.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    history = dpo.fit(train, validation_data=validation, epochs=12, batch_size=4, verbose=0).history
    assert history["accuracy"][-1] == 1
    assert history["loss"][-1] < history["loss"][0] - 0.04
    assert {"val_loss", "val_margin", "val_accuracy"} <= set(history)
    assert (dpo.rewards(train)[:, 0] > dpo.rewards(train)[:, 1]).all()
    if not has_adapter:
        return
    with adapters_disabled():
        np.testing.assert_array_equal(dpo.with_reference(train).reference, reference)
    with pytest.MonkeyPatch.context() as patch:  # the model itself was never compiled
        patch.setattr(model, "compiled", False)
        model.remove_adapter()
    after = {variable.path: np.array(variable) for variable in model.variables}
    for path, value in zip(paths, before):
        np.testing.assert_array_equal(after[path], value, err_msg=path)


def test_both_references_train_alike():
    runs = []
    for is_stored in (False, True):
        model = make_model()
        model.enable_lora(2)
        layers = adapted_layers(model).values()
        dpo = make_dpo(model)
        pairs = make_pairs()
        pairs = dpo.with_reference(pairs) if is_stored else pairs
        loss = dpo.fit(pairs, epochs=3, batch_size=2, verbose=0).history["loss"]
        runs.append([*loss, *(np.array(layer.lora_kernel_b).sum() for layer in layers)])
    np.testing.assert_allclose(*runs, atol=1e-5)


def test_dropout_is_inactive_and_comes_back():
    model = make_model(dropout=0.5)
    model.enable_lora(2)
    dpo = gk.finetuning.DPO(model)
    dpo.compile(run_eagerly=True)
    loss = dpo.fit(make_pairs(), verbose=0).history["loss"]
    assert loss[0] == pytest.approx(np.log(2), abs=1e-6)
    assert model.backbone.embedding_dropout.rate == 0.5


@pytest.mark.xla
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_step_compiled_by_xla(dtype):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), dtype=dtype)
    model.enable_lora(2)
    dpo = make_dpo(model, gk.training.adamw(0.1, warmup_steps=0), jit_compile=True)
    history = dpo.fit(make_pairs(), epochs=8, verbose=0).history
    assert history["loss"][0] == pytest.approx(np.log(2), abs=1e-3)
    assert history["loss"][-1] < 0.68
    is_scaled = isinstance(dpo.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (dtype == "mixed_float16")


@pytest.mark.parametrize("quantized", ["weights", "inputs too"])
def test_an_int8_model_with_an_adapter(quantized):
    model = make_model()
    config = keras.quantizers.Int8QuantizationConfig(
        **({"activation_quantizer": None} if quantized == "weights" else {})
    )
    model.quantize(config=config)
    pairs = make_pairs()
    expected = make_dpo(model).with_reference(pairs).reference
    model.enable_lora(2)
    dpo = make_dpo(model, keras.optimizers.Adam(0.05))
    loss = dpo.fit(pairs, epochs=5, verbose=0).history["loss"]
    assert loss[-1] < loss[0]
    with adapters_disabled():
        np.testing.assert_allclose(dpo.with_reference(pairs).reference, expected, atol=1e-5)
    assert np.abs(dpo.with_reference(pairs).reference - expected).max() > 0.1


def test_a_router_keeps_its_loss():
    model = make_model(num_experts=2, num_experts_per_token=1, router_loss_weight=0.5)
    dpo = gk.finetuning.DPO(model)
    pairs = dpo.with_reference(make_pairs())
    dpo.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    assert dpo.fit(pairs, verbose=0).history["loss"][0] > np.log(2) + 0.3
    assert dpo.evaluate(pairs, verbose=0, return_dict=True)["loss"] == pytest.approx(np.log(2))


def test_accumulated_batches_weigh_by_their_pairs():
    weights = []
    for batch_size, steps in ((4, None), (3, 2)):  # one batch of 4, or 3 and 1
        model = make_model()
        dpo = gk.finetuning.DPO(model)
        pairs = dpo.with_reference(make_pairs(4))
        optimizer = gk.training.AdamW(
            1e-2, epsilon=1.0, weight_decay=0.0, gradient_accumulation_steps=steps
        )
        dpo.compile(optimizer, run_eagerly=True)
        dpo.fit(pairs.batches(batch_size, num_lengths=1), verbose=0)
        weights.append(model.get_weights())
    for one, two in zip(*weights):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_the_model_itself_is_saved(tmp_path):
    model = make_model()
    model.enable_lora(2)
    dpo = make_dpo(model)
    callback = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    dpo.fit(make_pairs(), verbose=0, callbacks=[callback])
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, gk.GPTCausalLM)
    x = np.array([[3, 4, 5]])
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)


def test_callbacks(tmp_path, character_tokenizer):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=character_tokenizer)
    model.enable_lora(2)
    dpo = gk.finetuning.DPO(model)
    dpo.compile(run_eagerly=True)
    samples = gk.callbacks.SampleText("ab", max_new_tokens=3, print_fn=lambda text: None)
    record = gk.callbacks.RunRecord(tmp_path / "run", samples=samples)
    dpo.fit(make_pairs(), epochs=1, verbose=0, callbacks=[samples, record])
    assert samples.samples[0][1].startswith("ab")
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    assert written["model"]["config"]["num_layers"] == 1
    assert written["history"]["loss"] == [pytest.approx(np.log(2), abs=1e-5)]


def test_datasets_of_batches():
    model = make_model()
    model.enable_lora(2)
    dpo = make_dpo(model)
    batches = make_pairs().batches(2, seed=1)
    history = dpo.fit(batches.repeat(), steps_per_epoch=3, validation_data=batches, verbose=0)
    assert np.isfinite(history.history["val_loss"]).all()
    bad = make_pairs()
    bad.prompts[0][0] = 99
    with pytest.raises(ValueError, match=r"ids from .* to 99"):
        dpo.fit(bad.batches(2), verbose=0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda m: gk.finetuning.DPO(m.backbone), "`model` must be a CausalLM"),
        (lambda m: gk.finetuning.DPO(m, beta=0), "`beta` must be"),
        (lambda m: make_dpo(m).fit(make_pairs()), r"enable_lora.*with_reference"),
        (lambda m: make_dpo(m).fit(make_pairs().batches(2)), r"enable_lora.*with_reference"),
        (lambda m: make_dpo(m).evaluate(make_pairs()), r"enable_lora.*with_reference"),
        (lambda m: make_dpo(m).rewards(make_pairs()), r"enable_lora.*with_reference"),
        (lambda m: make_dpo(m).fit(np.zeros((2, 3))), "must be PreferencePairs"),
        (lambda m: make_dpo(m).fit(make_pairs(), np.zeros(3)), "`y` must be None"),
        (lambda m: gk.finetuning.DPO(m).compile(loss="mse"), "`loss` must not be given"),
        (
            lambda m: make_dpo(m).with_reference(
                gk.datasets.PreferencePairs(([1],), ([99],), ([2],))
            ),
            "99",
        ),
        (
            lambda m: make_dpo(m).with_reference(
                gk.datasets.PreferencePairs(([1] * 48,), ([3, 4],), ([2],))
            ),
            "a pair of 50 tokens",
        ),
    ],
)
def test_what_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act(make_model())


def test_both_parts_need_one_kind_of_reference():
    model = make_model()
    model.enable_lora(2)
    dpo = make_dpo(model)
    parts = make_pairs(), dpo.with_reference(make_pairs())
    with pytest.raises(ValueError, match="the same kind of reference"):
        dpo.fit(parts[0], validation_data=parts[1], verbose=0)
    found = [dpo.evaluate(part, verbose=0, return_dict=True) for part in parts]
    assert [("kl" in metrics) for metrics in found] == [True, False]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], abs=1e-6)


def test_a_change_of_the_weights_needs_another_compile():
    model = make_model()
    dpo = make_dpo(model)
    model.enable_lora(2)
    with pytest.raises(ValueError, match="compile `DPO` again"):
        dpo.fit(make_pairs(), verbose=0)
