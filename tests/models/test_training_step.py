"""One step of `fit` against a model written again in NumPy, in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

TOKEN_IDS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], "int32")
TARGETS = np.array([[1, 4, 1, 5, 9], [2, 6, 5, 3, 5]], "int32")
# The last two targets are padding.
WEIGHTS = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], "float32")


def reference_loss(weights, num_heads):
    """Mean cross-entropy of a one-block GPT-2; `weights` maps paths to float64 arrays."""

    def norm(x, name):
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def softmax(x):
        x = np.exp(x - x.max(-1, keepdims=True))
        return x / x.sum(-1, keepdims=True)

    embeddings = weights["token_embedding/embeddings"]
    batch, length = TOKEN_IDS.shape
    x = embeddings[TOKEN_IDS] + weights["position_embedding/embeddings"][:length]

    h = norm(x, "block_0/attention_norm")
    query, key, value = (
        dense(h, f"block_0/attention/{name}")
        .reshape(batch, length, num_heads, -1)
        .transpose(0, 2, 1, 3)
        for name in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1])
    scores = np.where(np.tril(np.ones((length, length), bool)), scores, -np.inf)
    mixed = (softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(batch, length, -1)
    x = x + dense(mixed, "block_0/attention/output")

    h = dense(norm(x, "block_0/feed_forward_norm"), "block_0/feed_forward/up")
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    x = x + dense(h, "block_0/feed_forward/down")

    probabilities = softmax(norm(x, "final_norm") @ embeddings.T)
    chosen = np.take_along_axis(probabilities, TARGETS[..., None], -1)[..., 0]
    return -(np.log(chosen) * WEIGHTS).sum() / WEIGHTS.sum()


@pytest.fixture(scope="module")
def model():
    return spread_weights(gk.GPTCausalLM(tiny_config(num_layers=1, vocabulary_size=11)))


def test_gradients_of_a_step_equal_finite_differences_of_the_reference(model):
    # Plain gradient descent of rate 1 makes the change of the weights the gradient itself.
    model.compile(keras.optimizers.SGD(1.0), jit_compile=False)
    before = {v.path: np.float64(v) for v in model.trainable_variables}
    names = {path: path.split("/", 1)[1] if path.startswith("gpt/") else path for path in before}
    weights = {names[path]: value.copy() for path, value in before.items()}
    loss = model.train_on_batch(TOKEN_IDS, TARGETS, sample_weight=WEIGHTS)[0]
    assert float(loss) == pytest.approx(reference_loss(weights, num_heads=2), abs=1e-5)

    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        gradient = before[variable.path] - np.float64(variable)
        # One random direction through the whole variable checks all of its entries at once.
        direction = generator.normal(size=variable.shape)
        values = weights[names[variable.path]]
        kept, step = values.copy(), 1e-5
        values[...] = kept + step * direction
        above = reference_loss(weights, num_heads=2)
        values[...] = kept - step * direction
        below = reference_loss(weights, num_heads=2)
        values[...] = kept
        expected = (above - below) / (2 * step)
        assert np.sum(gradient * direction) == pytest.approx(expected, abs=2e-4), variable.path
        variable.assign(before[variable.path])


def test_padding_is_not_learnt_from(model):
    model.compile(jit_compile=False)
    changed = np.where(WEIGHTS == 0, 7, TARGETS)
    evaluate = [
        model.evaluate(TOKEN_IDS, y, sample_weight=WEIGHTS, verbose=0, return_dict=True)
        for y in (TARGETS, changed)
    ]
    assert evaluate[0] == evaluate[1]
    assert evaluate[0]["perplexity"] == pytest.approx(np.exp(evaluate[0]["loss"]), rel=1e-5)


@pytest.mark.slow
def test_a_tiny_model_overfits_one_batch():
    model = gk.GPTCausalLM(tiny_config(num_layers=1))
    optimizer = gk.training.adamw(1e-2, warmup_steps=10, weight_decay=0.0)
    model.compile(optimizer, weighted_metrics=[])
    token_ids = np.random.default_rng(0).integers(0, 32, (4, 13)).astype("int32")
    data = tf.data.Dataset.from_tensors((token_ids[:, :-1], token_ids[:, 1:])).repeat(150)
    history = model.fit(data, verbose=0).history
    loss = model.evaluate(token_ids[:, :-1], token_ids[:, 1:], verbose=0)
    assert loss < 0.05 < history["loss"][0]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns(dtype):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), dtype=dtype)
    optimizer = gk.training.adamw(1e-2, warmup_steps=10)
    model.compile(optimizer, weighted_metrics=[], jit_compile=False)
    token_ids = np.random.default_rng(0).integers(0, 32, (4, 13)).astype("int32")
    data = tf.data.Dataset.from_tensors((token_ids[:, :-1], token_ids[:, 1:])).repeat(60)
    model.fit(data, verbose=0)
    assert model.evaluate(token_ids[:, :-1], token_ids[:, 1:], verbose=0) < 1.0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_training_step_is_traced_once(jit_compile, monkeypatch):
    traces = []

    def counted(self, *args, **kwargs):
        traces.append(kwargs.get("training"))
        return call(self, *args, **kwargs)

    call = gk.CausalLM.call
    model = gk.GPTCausalLM(tiny_config(num_layers=1))
    model.compile(jit_compile=jit_compile)
    monkeypatch.setattr(gk.CausalLM, "call", counted)
    model.fit(TOKEN_IDS, TARGETS, batch_size=2, verbose=0)
    assert traces == [True]
