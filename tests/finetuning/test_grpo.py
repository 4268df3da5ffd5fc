"""GRPO: advantages and loss against NumPy and trl, samples, and what is refused."""

import json
import pathlib
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.finetuning import grpo as module
from gpt_keras.finetuning.rollouts import (
    Completions,
    group_advantages,
    rewards_of,
    sample_completions,
    step_arrays,
    training_prompts,
)
from gpt_keras.layers.lora import adapters_disabled

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
LETTERS = "abcdefgh"


def make_model(stddev=0.2, **changes):
    random.seed(0)  # Keras draws the seeds of initializers
    tokenizer = changes.pop("tokenizer", None)
    config = tiny_config(num_layers=1, **changes)
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    return spread_weights(model, stddev=stddev) if stddev else model


def letters_model(**changes):
    tokenizer = gk.tokenizers.CharacterTokenizer(LETTERS, end_of_text=True)
    return make_model(tokenizer=tokenizer, **changes)


@pytest.fixture(scope="module")
def shared():
    """One model for most tests: XLA compiles its generation once."""
    return letters_model(), letters_model().get_weights()


@pytest.fixture
def letters(shared):
    model, weights = shared
    model.set_weights(weights)
    return model


def count_a(prompts, completions):
    return [completion.count("a") for completion in completions]


def zeros(prompts, completions):
    return np.zeros(len(completions))


def make_grpo(model, reward=count_a, optimizer=None, jit_compile=False, **settings):
    settings = {"num_generations": 4, "max_new_tokens": 4, **settings}
    grpo = gk.finetuning.GRPO(model, reward, **settings)
    grpo.compile(optimizer or keras.optimizers.SGD(0.1), jit_compile=jit_compile)
    return grpo


# The formula


def test_advantages_by_hand():
    # Mean 2, squared deviations 4, 0, 4: the variance is 8 / 2.
    expected = [[-2 / 2.0001, 0, 2 / 2.0001], [0, 0, 0]]
    found = group_advantages(np.array([[0.0, 2.0, 4.0], [0.1, 0.1, 0.1]]))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (found[1] == 0).all()


def step_by_hand(log_p, old, reference, advantages, mask, beta, epsilon):
    """Return loss, gradient by the log-probabilities, KL and clipped share."""
    rows, columns = mask.shape
    loss, gradient = 0.0, np.zeros(mask.shape)
    divergences, clipped = [], []
    for i in range(rows):
        length = mask[i].sum()
        for t in range(columns):
            if not mask[i, t]:
                continue
            ratio = np.exp(log_p[i, t] - old[i, t])
            limited = min(max(ratio, 1 - epsilon), 1 + epsilon)
            objective = min(ratio * advantages[i], limited * advantages[i])
            is_clipped = limited * advantages[i] < ratio * advantages[i]
            rest = np.exp(reference[i, t] - log_p[i, t])
            divergence = rest - np.log(rest) - 1
            loss -= (objective - beta * divergence) / length / rows
            slope = 0.0 if is_clipped else ratio * advantages[i]
            gradient[i, t] = -(slope - beta * (1 - rest)) / length / rows
            divergences.append(divergence)
            clipped.append(is_clipped)
    return loss, gradient, np.mean(divergences), np.mean(clipped)


def test_a_worked_example():
    """Ratio 1.5 with advantage 1 (clipped to 1.2), and 0.5 with -1 (to 0.8)."""
    grpo = make_grpo(make_model(), beta=0.0)
    x = {
        "completion_mask": np.array([[False, True]] * 2),
        "advantages": np.array([1.0, -1.0], "float32"),
        "is_row": np.ones(2, "float32"),
        "old": np.log([[0.2], [0.4]]).astype("float32"),
    }
    outputs = {"log_probabilities": np.log([[0.3], [0.2]]).astype("float32")}
    # -(1.2 - 0.8) / 2
    assert float(grpo.compute_loss(x, y_pred=outputs)) == pytest.approx(-0.2, abs=1e-6)
    assert float(grpo.get_metrics_result()["clip_ratio"]) == 1.0


def test_loss_and_gradient_equal_numpy():
    generator = np.random.default_rng(0)
    shape = (5, 7)
    log_p, old, reference = (-generator.uniform(0.5, 3, shape).astype("float32") for _ in range(3))
    old = log_p + generator.normal(0, 0.3, shape).astype("float32")
    advantages = generator.normal(size=5).astype("float32")
    mask = np.arange(7) < np.array([3, 7, 1, 2, 5])[:, None]
    beta, epsilon = 0.3, 0.1
    grpo = make_grpo(make_model(), beta=beta, epsilon=epsilon)
    x = {
        "completion_mask": np.pad(mask, [(0, 0), (1, 0)]),
        "advantages": advantages,
        "is_row": np.ones(5, "float32"),
        "old": old,
    }
    variable = tf.Variable(log_p)
    with tf.GradientTape() as tape:
        found = {"log_probabilities": tf.convert_to_tensor(variable), "reference": reference}
        loss = grpo.compute_loss(x, y_pred=found)
    expected = step_by_hand(log_p, old, reference, advantages, mask, beta, epsilon)
    assert 0.2 < expected[3] < 0.8
    assert float(loss) == pytest.approx(expected[0], abs=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, variable), expected[1], atol=1e-6)
    metrics = grpo.get_metrics_result()
    assert float(metrics["kl"]) == pytest.approx(expected[2], rel=1e-5)
    assert float(metrics["clip_ratio"]) == pytest.approx(expected[3], rel=1e-5)


@pytest.mark.parametrize("kind", ["kept", "masked"])
def test_two_updates_equal_trl(kind, monkeypatch):
    stored = json.loads((FIXTURES / "grpo" / "grpo.json").read_text())
    base = FIXTURES / "huggingface" / stored["model"]
    model = gk.CausalLM.from_preset(base)
    end = stored["end_token_id"]
    model.end_token_ids = [end]
    groups = stored["groups"]
    rewards = {(*prompt, *row): r for prompt, rows, rs in groups for row, r in zip(rows, rs)}

    def given(model, prompts, numbers, group_size, **settings):
        assert numbers.tolist() == [0, 1, 2]
        rows = [row for _, rows, _ in groups for row in rows]
        ended = np.array([row[-1] == end for row in rows])
        new = [row[:-1] if row[-1] == end else row for row in rows]
        of_rows = [prompt for prompt, rows, _ in groups for _ in rows]
        return Completions(of_rows, new, ended, (of_rows, rows))

    def reward(prompts, completions):
        return [rewards[(*prompt, *row)] for prompt, row in zip(prompts, completions)]

    monkeypatch.setattr(module, "sample_completions", given)
    settings = {**stored["settings"], "mask_truncated_completions": kind == "masked"}
    grpo = gk.finetuning.GRPO(model, reward, **settings)
    grpo.compile(keras.optimizers.SGD(stored["learning_rate"]), jit_compile=False)
    prompts = [prompt for prompt, _, _ in groups]
    history = grpo.fit(prompts, shuffle=False, verbose=0).history
    steps = stored["steps"][kind]
    names = {"loss": "loss", "kl": "kl", "clip_ratio": "clip_ratio/region_mean"}
    for ours, theirs in names.items():
        expected = np.mean([step[theirs] for step in steps])
        assert history[ours][0] == pytest.approx(expected, rel=1e-4, abs=1e-6), ours
    for ours, theirs in {
        "reward": "reward",
        "frac_reward_zero_std": "frac_reward_zero_std",
        "completion_length": "completions/mean_length",
    }.items():
        assert history[ours][0] == pytest.approx(steps[0][theirs], rel=1e-5), ours
    assert history["ended"][0] == pytest.approx(1 - steps[0]["completions/clipped_ratio"])
    after = gk.CausalLM.from_preset(FIXTURES / "grpo" / kind / "after")
    untrained = gk.CausalLM.from_preset(base).get_weights()
    for ours, theirs, before in zip(model.weights, after.weights, untrained, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-5, err_msg=ours.path)
        assert np.abs(np.array(ours) - before).max() > 1e-4, ours.path


# Samples


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_are_those_of_sampling(temperature, letters):
    """The model has 32 ids and the tokenizer 9: the others have probability 0."""
    model = letters
    grpo = make_grpo(model, beta=0.0, temperature=temperature)
    prompts = training_prompts("x", ["ab", "h"], model, 4)
    settings = {"max_new_tokens": 4, "temperature": temperature, "seed": 3}
    completions = sample_completions(model, prompts, np.array([0, 1]), 4, **settings)
    assert 0 < completions.has_ended.mean() < 1
    arrays = step_arrays(
        completions,
        np.zeros(8),
        end_token_id=model.end_token_ids[0],
        longest=48,
        fixed=None,
        uses_truncated=True,
    )
    found = np.array(grpo(arrays)["log_probabilities"])
    texts = model.generate_with_scores(["ab"] * 4 + ["h"] * 4, **settings)
    for i, [continuation] in enumerate(texts):
        assert completions.token_ids[i] == continuation.token_ids
        prompt, completion = (part[i] for part in completions.for_reward)
        assert prompt + completion == continuation.text
        own = found[i][np.array(arrays["completion_mask"])[i, 1:]]
        assert len(own) == completions.lengths[i]
        if temperature == 1:
            np.testing.assert_allclose(
                own[: len(continuation.log_probs)], continuation.log_probs, atol=1e-5
            )
            assert own.mean() == pytest.approx(continuation.score, abs=1e-5)
        else:
            ids = np.concatenate([prompts.rows[i // 4], continuation.token_ids])[None]
            logits = np.array(model(ids), "float64")[0, :, :9] / temperature
            log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            first = len(prompts.rows[i // 4])
            expected = [log_p[t - 1, ids[0, t]] for t in range(first, ids.shape[1])]
            np.testing.assert_allclose(own[: len(expected)], expected, atol=1e-5)


def test_several_end_tokens_count_as_one():
    model = make_model()
    model.end_token_ids = [7, 5, 9]
    grpo = make_grpo(model, zeros, beta=0.0)
    ids = np.array([[1, 2, 3, 7]], "int32")
    mask = np.array([[False, False, True, True]])
    found = np.array(grpo({"token_ids": ids, "completion_mask": mask})["log_probabilities"])[0]
    p = np.exp(np.array(model(ids), "float64")[0])
    p /= p.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(
        found, [0, np.log(p[1, 3]), np.log(p[2, [5, 7, 9]].sum())], atol=1e-5
    )


def test_the_reward_function_gets_texts_and_all_groups(letters):
    calls = []

    def reward(prompts, completions):
        calls.append((prompts, completions))
        return count_a(prompts, completions)

    grpo = make_grpo(letters, reward)
    history = grpo.fit(["ab", "c", "de"], batch_size=2, verbose=0).history
    assert sorted(len(prompts) for prompts, _ in calls) == [4, 8]  # one batch is filled up
    groups = [prompts[i : i + 4] for prompts, _ in calls for i in range(0, len(prompts), 4)]
    assert all(len(set(group)) == 1 for group in groups)
    assert sorted(group[0] for group in groups) == ["ab", "c", "de"]
    completions = [text for _, texts in calls for text in texts]
    assert set("".join(completions)) <= set(LETTERS)
    ended = np.array([len(text) < 4 for text in completions])
    assert history["reward"][0] == pytest.approx(np.mean(count_a(None, completions)))
    assert history["ended"][0] == pytest.approx(ended.mean())
    lengths = [len(text) + (len(text) < 4) for text in completions]
    assert history["completion_length"][0] == pytest.approx(np.mean(lengths))
    rewards = np.array(count_a(None, completions)).reshape(3, 4)
    assert history["reward_std"][0] == pytest.approx(rewards.std(axis=1, ddof=1).mean())
    assert history["frac_reward_zero_std"][0] == pytest.approx(
        (np.ptp(rewards, axis=1) == 0).mean()
    )


def make_arrays(num_counted, lengths=(2, 4, 1), longest=48, uses_truncated=True):
    prompts = [[3, 4]] * len(lengths)
    new = [[10 + t for t in range(length)] for length in lengths]
    completions = Completions(prompts, new, np.array(lengths) < 4, (prompts, new))
    advantages = np.array([1.0, -2.0, 0.5])[:num_counted]
    return step_arrays(
        completions,
        advantages,
        end_token_id=9,
        longest=longest,
        fixed=None,
        uses_truncated=uses_truncated,
    )


def test_arrays_of_a_step():
    arrays = make_arrays(2, uses_truncated=False)
    assert arrays["token_ids"].shape == (3, 33)
    assert arrays["token_ids"][0, :6].tolist() == [3, 4, 10, 11, 9, 0]
    # The second row is truncated, and the third only fills up the batch.
    assert arrays["completion_mask"].sum(axis=1).tolist() == [3, 0, 0]
    assert arrays["is_row"].tolist() == [1, 1, 0]
    assert arrays["advantages"].tolist() == [1, -2, 0]
    assert make_arrays(3)["completion_mask"].sum(axis=1).tolist() == [3, 4, 2]
    assert make_arrays(3, longest=20)["token_ids"].shape == (3, 21)
    widths = {make_arrays(1, lengths=(n,))["token_ids"].shape[1] - 1 for n in range(1, 46)}
    assert widths == {32, 48}


def test_rows_that_fill_up_change_nothing():
    grpo = make_grpo(make_model())
    losses = []
    for arrays in (make_arrays(2), make_arrays(2, lengths=(2, 4))):
        losses.append(float(grpo.compute_loss(arrays, y_pred=grpo(arrays))))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6) != 0


# Training


def loves_seven(prompts, completions):
    return [7 in completion for completion in completions]


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["adapter", "copy"])
def test_a_bandit_learns_its_arm(reference):
    """One token, 32 arms: the reward is 1 for the token 7."""
    # With small weights, no change of an adapter makes the frozen output layer certain.
    stddev = 0.5 if reference == "adapter" else 0
    model = make_model(stddev)
    base = model.get_weights()
    if reference == "adapter":
        model.enable_lora(4, ["query", "value", "output", "up", "down"])
    grpo = make_grpo(
        model,
        loves_seven,
        keras.optimizers.Adam(0.03),
        num_generations=16,
        max_new_tokens=1,
        beta=0.001,
    )
    grpo.fit([[1], [2], [3]], epochs=35 if reference == "adapter" else 25, verbose=0)
    found = grpo.evaluate([[1], [2], [3]], verbose=0, return_dict=True)
    assert found["reward"] > 0.9
    if reference == "adapter":
        ids = np.array([[1]])
        untrained = make_model(stddev)
        untrained.set_weights(base)
        with adapters_disabled():
            np.testing.assert_array_equal(model(ids), untrained(ids))
    else:
        for one, two in zip(base, grpo._reference.func.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
        assert len(grpo.trainable_variables) == len(model.trainable_variables)
        assert found["kl"] > 0.5


@pytest.mark.parametrize("num_iterations", [1, 3])
def test_same_seed_same_run(num_iterations, letters, shared):
    runs = []
    for seed in (0, 0, 1):
        letters.set_weights(shared[1])
        grpo = make_grpo(letters, seed=seed, num_iterations=num_iterations)
        histories = [grpo.fit(["a", "bc", "d"], batch_size=2, verbose=0).history for _ in range(2)]
        runs.append([*histories, grpo.model.get_weights()[0].sum()])
        if num_iterations > 1:
            assert histories[0]["clip_ratio"][0] > 0
        else:
            assert histories[0]["clip_ratio"][0] == 0
        assert histories[0] != histories[1]
    assert runs[0] == runs[1] != runs[2]


def test_reference_in_several_updates_is_the_same():
    """One pass gives the reference of all updates with a batch."""
    model = letters_model()
    model.enable_lora(2)
    grpo = make_grpo(model, num_iterations=2, beta=0.5)
    arrays = {name: tf.constant(a) for name, a in make_arrays(3).items()}
    stored = grpo._score(arrays)
    np.testing.assert_allclose(stored["reference"], grpo(arrays)["reference"], atol=1e-6)
    np.testing.assert_allclose(stored["old"], grpo(arrays)["log_probabilities"], atol=1e-6)


def test_equal_rewards_change_nothing_without_a_reference(letters):
    before = letters.get_weights()
    history = make_grpo(letters, zeros, beta=0.0).fit(["a", "b"], verbose=0).history
    assert history["frac_reward_zero_std"] == [1.0]
    assert history["loss"] == [0.0]
    for one, two in zip(before, letters.get_weights()):
        np.testing.assert_array_equal(one, two)


def test_evaluation_is_repeatable_and_trains_nothing(letters):
    grpo = make_grpo(letters)
    prompts = ["a", "b", "cd"]
    before = grpo.model.get_weights()
    first, second = (grpo.evaluate(prompts, batch_size=2, verbose=0) for _ in range(2))
    assert first == second
    for one, two in zip(before, grpo.model.get_weights()):
        np.testing.assert_array_equal(one, two)
    history = grpo.fit(
        ["e", "f"], validation_data=prompts, epochs=2, batch_size=2, verbose=0
    ).history
    after = grpo.evaluate(prompts, batch_size=2, verbose=0, return_dict=True)
    assert history["val_reward"][-1] == after["reward"]
    assert history["val_kl"][-1] == pytest.approx(after["kl"], rel=1e-5)


def test_dropout_is_inactive():
    """Else the ratio of the first update would not be 1."""
    grpo = make_grpo(letters_model(dropout=0.5), zeros, num_iterations=1)
    assert grpo.fit(["a", "b"], verbose=0).history["kl"][0] == pytest.approx(0, abs=1e-6)


def test_containers_of_prompts(letters):
    import pandas as pd

    model = letters
    texts = ["ab", "c"]
    for prompts in (
        texts,
        tuple(texts),
        np.array(texts),
        pd.Series(texts),
        iter(texts),
        tf.data.Dataset.from_tensor_slices(texts),
    ):
        found = training_prompts("x", prompts, model, 4)
        assert found == ([[0, 1], [2]], texts, True)
    assert training_prompts("x", "ab", model, 4).given == ["ab"]
    for ids in ([[0, 1], [2, 3]], np.array([[0, 1], [2, 3]])):
        assert training_prompts("x", ids, model, 4) == ([[0, 1], [2, 3]],) * 2 + (False,)


def test_messages_go_through_the_chat_template(letters, monkeypatch):
    template = "{% for m in messages %}{{ m.content }}{% endfor %}h"
    monkeypatch.setattr(letters, "chat_template", template)
    conversations = [[{"role": "user", "content": "ab"}], [{"role": "user", "content": "c"}]]
    seen = []

    def reward(prompts, completions):
        seen.extend(prompts)
        return count_a(prompts, completions)

    make_grpo(letters, reward).fit(conversations, shuffle=False, verbose=0)
    assert seen == [conversations[0]] * 4 + [conversations[1]] * 4
    assert training_prompts("x", conversations, letters, 4).rows == [[0, 1, 7], [2, 7]]


@pytest.mark.xla
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_step_compiled_by_xla(dtype):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), dtype=dtype)
    model.enable_lora(2)
    grpo = make_grpo(
        model, loves_seven, gk.training.adamw(0.01), jit_compile=True, num_iterations=2
    )
    history = grpo.fit([[1], [2, 3, 4]], epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["kl"][-1] > 0


def test_the_model_itself_is_saved(tmp_path, letters):
    grpo = make_grpo(letters)
    samples = gk.callbacks.SampleText("ab", max_new_tokens=3, print_fn=lambda text: None)
    record = gk.callbacks.RunRecord(tmp_path / "run", samples=samples)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    grpo.fit(["a", "b"], verbose=0, callbacks=[samples, record, checkpoint])
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, gk.GPTCausalLM)
    x = np.array([[3, 4, 5]])
    np.testing.assert_allclose(loaded(x), grpo.model(x), atol=1e-6)
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {"reward", "kl", "ended"} <= set(written["history"])


# What is refused


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1.0, float("nan")], r"all finite; got nan for the completion 'c' of the prompt 'b'"),
        ([1.0, float("inf")], "got inf"),
        ([1.0], r"must return 2 numbers, one for each completion, got 1\."),
        ([1.0, 2.0, 3.0], r"got 3\."),
        (["1", "2"], r"must return 2 numbers.*got \['1', '2'\]"),
        ([1.0, None], "got .*None"),
        (None, "got None"),
        (0.5, "got 0.5"),
        ([[1.0], [2.0]], r"got \[\[1.0\], \[2.0\]\]"),
        ([[1.0], [2.0, 3.0]], r"got \[\[1.0\], \[2.0, 3.0\]\]"),
    ],
)
def test_rewards_that_are_refused(result, message):
    with pytest.raises(ValueError, match=message):
        rewards_of(lambda prompts, completions: result, ["a", "b"], ["d", "c"])


def test_rewards_of_any_container(letters):
    for result in ([True, False], (1, 0), np.array([1, 0]), tf.constant([1.0, 0.0])):
        found = rewards_of(lambda prompts, completions: result, ["a", "a"], ["b", "c"])  # noqa: B023
        assert found.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="must return 8 numbers, one for each completion, got 3"):
        make_grpo(letters, lambda prompts, completions: [1, 2, 3]).fit(["a", "b"], verbose=0)


def fit(model, prompts, **keywords):
    return make_grpo(model).fit(prompts, verbose=0, **keywords)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda m: make_grpo(m.backbone), "`model` must be a CausalLM"),
        (
            lambda m: make_grpo(m, num_generations=1),
            "`num_generations` must be at least 2",
        ),
        (lambda m: make_grpo(m, temperature=0), "`temperature` must be"),
        (lambda m: make_grpo(m, beta=-1), "`beta` must be"),
        (lambda m: make_grpo(m, epsilon=0), "`epsilon` must be"),
        (lambda m: make_grpo(m, num_iterations=0), "`num_iterations` must be"),
        (lambda m: make_grpo(m, max_new_tokens=0), "`max_new_tokens` must be"),
        (lambda m: make_grpo(m, seed=-1), "`seed` must be"),
        (lambda m: make_grpo(m, "length"), "`reward_function` must be a function"),
        (lambda m: make_grpo(m, lambda text: 1), "`reward_function` must be a function"),
        (lambda m: fit(m, []), "`x` must hold at least one prompt"),
        (lambda m: fit(m, ["a", ""]), "`x` must not be empty; number 1 is ''"),
        (lambda m: fit(m, ["a", 3]), "`x` must hold strings, got 3"),
        (lambda m: fit(m, [[1], []]), "`x` must not be empty; number 1"),
        (lambda m: fit(m, [[1], [99]]), "99"),
        (lambda m: fit(m, ["a" * 45]), r"room for max_new_tokens=4 .*=48; number 0 has 45 tokens"),
        (lambda m: fit(make_model(), ["a"]), "need a tokenizer"),
        (lambda m: fit(m, [[{"role": "user", "content": "a"}]]), "chat_template"),
        (lambda m: fit(m, ["a"], y=[1]), "`y` must be None"),
        (lambda m: fit(m, ["a"], batch_size=0), "`batch_size` must be"),
        (lambda m: fit(m, ["a"], validation_data=[]), "`validation_data` must hold"),
        (lambda m: fit(m, {"a": 1}), "`x` must be"),
        (lambda m: gk.finetuning.GRPO(m, zeros).compile(loss="mse"), "GRPO has its own"),
        (
            lambda m: gk.finetuning.GRPO(m, zeros).compile(steps_per_execution=2),
            "`steps_per_execution` must be 1",
        ),
    ],
)
def test_what_is_refused(act, message, letters):
    with pytest.raises(ValueError, match=message):
        act(letters)


def test_a_change_of_the_weights_needs_another_compile():
    grpo = make_grpo(letters_model())
    grpo.model.enable_lora(2)
    with pytest.raises(ValueError, match="compile `GRPO` again"):
        grpo.fit(["a"], verbose=0)
