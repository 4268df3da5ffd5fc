import functools
import math

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.evaluation import likelihood, perplexity

traced_once = functools.cache(likelihood.compiled_log_probabilities)


@pytest.fixture(autouse=True)
def one_trace_of_a_model(monkeypatch):
    monkeypatch.setattr(likelihood, "compiled_log_probabilities", traced_once)


def losses_of_windows(model, windows):
    """The losses of several windows, which one batch gives: padding behind them changes nothing."""
    rows = np.zeros((len(windows), max(map(len, windows)) - 1), int)
    for row, window in zip(rows, windows, strict=True):
        row[: len(window) - 1] = window[:-1]
    logits = np.array(model.backbone(rows), np.float64)
    logits -= logits.max(-1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return [
        -row[np.arange(len(window) - 1), window[1:]]
        for row, window in zip(log_probabilities, windows, strict=True)
    ]


def losses(model, token_ids):
    """Of each token but the first, from logits in NumPy."""
    return losses_of_windows(model, [token_ids])[0]


def stream(model, text):
    end = [] if (i := model.tokenizer.end_of_text_id) is None else [i]
    return [*end, *model.tokenizer.encode(text), *end]


def test_short_texts(spread_model):
    texts = ["hello there", "a", "the cat sat on the mat."]
    expected = np.concatenate([losses(spread_model, stream(spread_model, text)) for text in texts])
    result = perplexity(spread_model, texts, batch_size=2)
    assert result.num_tokens == len(expected) == sum(map(len, texts)) + len(texts)
    assert result.loss == pytest.approx(expected.mean(), rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(expected.mean()), rel=1e-5)
    bits = expected.sum() / math.log(2)
    assert result.bits_per_character == pytest.approx(bits / sum(map(len, texts)), rel=1e-5)
    ids = [spread_model.tokenizer.encode(text) for text in texts]
    assert perplexity(spread_model, ids, batch_size=2) == result


@pytest.mark.parametrize(
    ("length", "stride"), [(48, None), (48, 48), (48, 20), (16, 5), (16, 1), (7, 7)]
)
@pytest.mark.parametrize("size", [6, 7, 47, 48, 49, 95])
def test_every_token_is_scored_once_with_the_context_of_its_window(
    spread_model, length, stride, size
):
    text = "".join(np.random.default_rng(size).choice(list("abcdefg ,."), size))
    ids = stream(spread_model, text)
    windows = {}
    for begin in range(0, len(ids), stride or length):
        windows[begin] = ids[begin : begin + length + 1]
        if begin + len(windows[begin]) == len(ids):
            break
    expected = {}
    every = losses_of_windows(spread_model, list(windows.values()))
    for begin, values in zip(windows, every, strict=True):
        for place, loss in enumerate(values):
            expected.setdefault(begin + place + 1, loss)  # the first window that has it
    assert sorted(expected) == list(range(1, len(ids)))
    sequence_length = None if length == 48 else length
    result = perplexity(spread_model, text, stride=stride, sequence_length=sequence_length)
    assert result.num_tokens == size + 1
    assert result.loss == pytest.approx(np.mean(list(expected.values())), rel=1e-5)


def test_without_an_end_of_text_the_first_token_is_not_scored():
    tokenizer = gk.tokenizers.CharacterTokenizer("abc詩")
    model = spread_weights(gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=tokenizer))
    texts = ["詩abc", "a詩"]
    expected = np.concatenate([losses(model, tokenizer.encode(text)) for text in texts])
    result = perplexity(model, texts)
    assert result.num_tokens == 4
    assert result.loss == pytest.approx(expected.mean(), rel=1e-5)
    bits = expected.sum() / math.log(2)
    assert result.bits_per_character == pytest.approx(bits / 4, rel=1e-5)
    assert result.bits_per_byte == pytest.approx(bits / 6, rel=1e-5)  # "abc" and a character of 3
    # A model of ids alone says nothing of characters.
    bare = gk.CausalLM(model.backbone)
    assert perplexity(bare, [tokenizer.encode(text) for text in texts]) == result._replace(
        bits_per_character=None, bits_per_byte=None
    )


def test_a_dataset_is_scored_as_evaluate_scores_it(spread_model):
    model = gk.CausalLM(spread_model.backbone, tokenizer=spread_model.tokenizer)
    model.compile(jit_compile=False)
    texts = ["hello there", "a", "the cat sat on the mat."] * 2
    data = gk.datasets.padded(texts, model.tokenizer, sequence_length=16, batch_size=4)
    result = perplexity(model, data)
    evaluated = model.evaluate(data, return_dict=True, verbose=0)
    assert result.perplexity == pytest.approx(evaluated["perplexity"], rel=1e-4)
    assert result.num_tokens == sum(map(len, texts))
    assert result.bits_per_byte is None
    unweighted = data.map(lambda inputs, targets, weights: (inputs, targets))
    assert perplexity(model, unweighted).num_tokens > result.num_tokens


def test_ngrams_are_scored_on_the_same_tokens(spread_model):
    texts = ["hello there", "a", "the cat sat on the mat."]
    model = gk.NGramLM(3, spread_model.tokenizer).fit(texts)
    result = perplexity(model, texts)
    other = perplexity(spread_model, texts)
    assert result.num_tokens == other.num_tokens
    assert result.perplexity == pytest.approx(model.perplexity(texts))
    # Bits are the same sum in another unit, over characters.
    ratio = result.bits_per_character / other.bits_per_character
    assert ratio == pytest.approx(result.loss / other.loss)
    tokenizer = gk.tokenizers.CharacterTokenizer("abc")  # no end of text
    model = gk.NGramLM(2, tokenizer).fit("abcabc")
    assert perplexity(model, ["ab", "cab"]).num_tokens == 3


def test_a_backbone_without_a_limit_has_windows_too():
    backbone = gk.LSTMBackbone(32, num_layers=1, hidden_dim=8)
    model = spread_weights(gk.CausalLM(backbone))
    ids = np.random.default_rng(0).integers(0, 32, 40)
    whole = perplexity(model, ids)
    assert whole.loss == pytest.approx(losses(model, ids).mean(), rel=1e-5)
    assert perplexity(model, ids, sequence_length=10).loss != pytest.approx(whole.loss, rel=1e-5)


@pytest.mark.parametrize(
    ("documents", "settings", "message"),
    [
        ("", {}, "`corpus` holds no text"),
        ("hello", {"stride": 0}, "`stride`.*0"),
        ("hello", {"stride": 49}, "`stride` must be at most `sequence_length`=48, got 49"),
        ("hello", {"sequence_length": 49}, "at most the model's max_sequence_length=48, got 49"),
        ("hello", {"batch_size": 0}, "`batch_size`.*0"),
        ([[1, 32]], {}, r"\[0, 32\)"),
        ([[1], ["a"]], {}, "`corpus` must be texts, files, or lists of token ids"),
        (3, {}, "`corpus` must be str .*type int"),
    ],
)
def test_bad_arguments(spread_model, documents, settings, message):
    with pytest.raises(ValueError, match=message):
        perplexity(spread_model, documents, **settings)


def test_bad_models(spread_model):
    with pytest.raises(ValueError, match="must be a CausalLM or an NGramLM"):
        perplexity(spread_model.backbone, "hello")
    data = gk.datasets.padded(["ab"], spread_model.tokenizer, sequence_length=4, batch_size=1)
    with pytest.raises(ValueError, match="leave out `stride`"):
        perplexity(spread_model, data, stride=3)
    ngrams = gk.NGramLM(2, spread_model.tokenizer).fit("hello")
    with pytest.raises(ValueError, match="not a dataset"):
        perplexity(ngrams, data)
    with pytest.raises(ValueError, match="no windows"):
        perplexity(ngrams, "hello", stride=3)
    with pytest.raises(ValueError, match="no tokenizer for texts"):
        perplexity(gk.CausalLM(spread_model.backbone), "hello")
    with pytest.raises(ValueError, match="a token to score"):
        perplexity(gk.CausalLM(spread_model.backbone), [[1]])


def dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays)


def test_weights_of_rows_count_for_every_token(spread_model):
    ids = np.random.default_rng(0).integers(0, 32, (3, 9))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    rows = np.array([losses(spread_model, row).sum() for row in ids])
    weights = np.array([1.0, 0.0, 2.0])
    expected = (rows * weights).sum() / (8 * weights.sum())
    for shaped in (weights, weights[:, None], np.repeat(weights[:, None], 8, 1)):
        data = dataset(inputs, targets, shaped).batch(3)
        result = perplexity(spread_model, data)
        assert result.num_tokens == 24
        assert result.loss == pytest.approx(expected, rel=1e-5)


def test_ids_in_any_container():
    model = gk.NGramLM(2, vocabulary_size=32).fit([[1, 2, 3, 4], [1, 3, 5]])
    rows = [[1, 2, 3, 4], [5, 6, 7, 8]]
    for given, containers in (
        (rows, (tuple, np.array, tf.constant, tf.ragged.constant, np.uint8)),
        (rows[0], (tuple, np.array, tf.constant, np.uint8)),
    ):
        expected = perplexity(model, given)
        assert all(perplexity(model, make(given)) == expected for make in containers)


def test_datasets_that_cannot_be_scored(spread_model):
    good = np.ones((2, 4), int)
    with pytest.raises(ValueError, match="endless"):
        perplexity(spread_model, dataset(good, good).batch(2).repeat())
    with pytest.raises(ValueError, match=r"\[0, 32\)"):
        perplexity(spread_model, dataset(good, good + 40).batch(2))
    with pytest.raises(ValueError, match=r"\[0, 32\)"):
        perplexity(spread_model, dataset(good + 40, good).batch(2))
    with pytest.raises(ValueError, match="longer than the model's max_sequence_length=48"):
        perplexity(spread_model, dataset(np.ones((2, 49), int), np.ones((2, 49), int)).batch(2))
    with pytest.raises(ValueError, match="no targets"):
        perplexity(spread_model, tf.data.Dataset.from_tensor_slices(good).batch(2))
    with pytest.raises(ValueError, match=r"shape \(2, 4\) or \(2,\), got \(2, 3\)"):
        perplexity(spread_model, dataset(good, good, np.ones((2, 3))).batch(2))
