import json
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.generation import PROCESSORS
from gpt_keras.generation.settings import SequenceBiases, TokenSequences, Vocabulary

PROMPTS = ["hello there", "a", "the cat sat on the mat, and"]
SAMPLING = {"temperature": 0.8, "top_k": 7, "top_p": 0.9}


def example_of(processor):
    """A value for a setting that changes texts; a processor that is new gets one, too."""
    if isinstance(processor.setting, SequenceBiases):
        return {3: 2.5, 7: -float("inf"), (11, 4): 9.0}
    if isinstance(processor.setting, TokenSequences):
        return ["e", "is", " so", "what is"]
    return 2 if isinstance(processor.setting.off, int) else 0.7


def as_input(name, value, model):
    """The setting as the SavedModel takes it: texts as they are, of all else the tensors."""
    if isinstance(value, list):
        return {name: value}
    return PROCESSORS[name].setting.read(name, value, Vocabulary(None, model.vocabulary_size))


def texts_of(output):
    return [text.decode() for text in output["text"].numpy()]


@pytest.fixture(scope="module")
def exported(spread_model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "1"
    gk.export.saved_model(spread_model, directory)
    return directory


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported))


@pytest.fixture(scope="module")
def plain(spread_model):
    return spread_model.generate(PROMPTS, max_new_tokens=18, seed=11)


def test_nothing_but_what_is_served_is_in_it(loaded):
    assert hasattr(loaded, "generate")
    assert not hasattr(loaded, "_generator")  # its functions are for calls from Python


def test_what_is_left_out_is_off(loaded, plain, spread_model):
    assert texts_of(loaded.generate(text=PROMPTS, max_new_tokens=18, seed=11)) == plain
    assert texts_of(loaded.generate(PROMPTS[:1], 18, 11)) == plain[:1]
    greedy = spread_model.generate(PROMPTS, max_new_tokens=18, temperature=0)
    assert texts_of(loaded.generate(text=PROMPTS, max_new_tokens=18, temperature=0.0)) == greedy


@pytest.mark.parametrize("name", PROCESSORS)
def test_each_processor_does_what_it_does_in_generate(spread_model, loaded, plain, name):
    value = example_of(PROCESSORS[name])
    expected = spread_model.generate(PROMPTS, max_new_tokens=18, seed=11, **{name: value})
    inputs = as_input(name, value, spread_model)
    assert texts_of(loaded.generate(PROMPTS, 18, 11, **inputs)) == expected
    assert expected != plain or name == "min_new_tokens"  # none of them ends so early


def test_all_processors_together(spread_model, loaded):
    settings = {name: example_of(processor) for name, processor in PROCESSORS.items()}
    settings |= {"choices": None, "no_repeat_ngram_size": 3}
    settings = {name: value for name, value in settings.items() if value is not None}
    expected = spread_model.generate(PROMPTS, max_new_tokens=18, seed=11, **settings)
    inputs = {}
    for name, value in settings.items():
        inputs |= as_input(name, value, spread_model)
    assert texts_of(loaded.generate(PROMPTS, 18, 11, **inputs)) == expected


def test_stop_strings_cut_as_in_generate(spread_model, loaded, plain):
    new = plain[1][len(PROMPTS[1]) :]
    # The first character; one that ends with another; what only the prompts hold; none.
    for stop in ([new[0]], [new[2:4], new[3]], ["hello", "cat"], ["zq"]):
        expected = spread_model.generate(PROMPTS, max_new_tokens=18, seed=11, stop=stop)
        assert texts_of(loaded.generate(PROMPTS, 18, 11, stop=stop)) == expected
        assert texts_of(loaded.generate(PROMPTS, 18, 11, stop=stop[::-1])) == expected


def test_time_is_limited(loaded, plain):
    assert texts_of(loaded.generate(PROMPTS, 18, 11, time_limit=60.0)) == plain
    for _ in range(40):  # one call in fourteen, on a busy machine, read the clock too early
        short = texts_of(loaded.generate(PROMPTS, 18, 11, time_limit=1e-9))
        assert [len(text) for text in short] == [len(prompt) + 1 for prompt in PROMPTS]


def test_signatures_serve_the_same(spread_model, loaded):
    assert set(loaded.signatures) == {"serving_default", "generate", "logits", "text_only"}
    dtypes = {"max_new_tokens": "int32", "top_k": "int32", "seed": "int64"}
    inputs = {**SAMPLING, "max_new_tokens": 18, "seed": 11}
    tensors = {key: tf.constant(v, dtypes.get(key, "float32")) for key, v in inputs.items()}
    output = loaded.signatures["serving_default"](text=tf.constant(PROMPTS), **tensors)
    expected = spread_model.generate(PROMPTS, **inputs)
    assert texts_of(output) == expected
    token_ids = np.arange(12, dtype="int32").reshape(2, 6)
    logits = loaded.signatures["logits"](token_ids=tf.constant(token_ids))["logits"]
    np.testing.assert_allclose(logits, spread_model(token_ids), atol=1e-5)


def test_numbers_and_texts_of_any_kind_bind(spread_model, loaded):
    expected = spread_model.generate("hello", max_new_tokens=4, seed=2, temperature=0.5)
    served, signature = loaded.generate, loaded.signatures["serving_default"]
    for call, rest in ((served, {}), (signature, {"top_k": 0, "top_p": 1.0})):
        for text in (["hello"], np.array(["hello"]), tf.constant(["hello"])):
            for integer, real in ((int, float), (np.int64, np.float64), (np.int32, np.float32)):
                output = call(
                    text=text,
                    max_new_tokens=integer(4),
                    seed=integer(2),
                    temperature=real(0.5),
                    **rest,
                )
                assert texts_of(output) == [expected]
    assert texts_of(served(text="hello", max_new_tokens=4, seed=2, temperature=0.5)) == [expected]


def test_an_empty_batch_gives_an_empty_result(loaded):
    assert texts_of(loaded.generate(text=[])) == []
    assert texts_of(loaded.signatures["text_only"](text=tf.zeros([0], tf.string))) == []


def test_text_alone_is_enough(spread_model, loaded):
    expected = [spread_model.generate("hello", seed=0)]
    assert texts_of(loaded.serving_default(["hello"])) == expected
    assert texts_of(loaded.signatures["text_only"](text=["hello"])) == expected


def test_keras_calls_it_as_a_layer(spread_model, exported):
    layer = keras.layers.TFSMLayer(str(exported), call_endpoint="serving_default")
    text = keras.Input((), dtype="string")
    output = keras.Model(text, layer(text)).predict(tf.constant(["hello"]), verbose=0)
    assert output["text"][0].decode() == spread_model.generate("hello", seed=0)


# A restored `tf.function` that is called with a wrong type keeps its lock (TensorFlow 2.21).
WRONG = [
    {"max_new_tokens": tf.constant(2, tf.int64)},
    {"max_new_tokens": "2"},
    {"max_new_tokens": [2]},
    {"max_new_tokens": -1},
    {"temperature": tf.constant(0.5, tf.float64)},
    {"temperature": None},
    {"text": [3]},
    {"text": [""]},
    {"text": ["x" * 99]},
    {"beams": 3},
    {"seed": object()},
]


def test_no_wrong_request_makes_others_wait(spread_model, loaded):
    signature = loaded.signatures["serving_default"]
    usual = {"max_new_tokens": 2, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    expected = {seed: spread_model.generate("a", max_new_tokens=2, seed=seed) for seed in range(8)}
    answers = {}

    def send(seed):
        for i in range(25):
            wrong = i % 2 == 1
            request = {
                "text": ["a"],
                "seed": seed,
                **usual,
                **(WRONG[i // 2 % 11] if wrong else {}),
            }
            try:
                answers[seed, i] = texts_of(signature(**request))
            except (TypeError, ValueError, tf.errors.InvalidArgumentError):
                answers[seed, i] = None

    threads = [threading.Thread(target=send, args=[seed], daemon=True) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(answers) == 200
    for (seed, i), answer in answers.items():
        assert answer == (None if i % 2 else [expected[seed]])


@pytest.mark.parametrize(
    ("token_ids", "message"),
    [
        (np.zeros((1, 49), "int32"), "at most 48 columns"),
        (np.full((1, 2), 32, "int32"), r"token_ids must be in \[0, 32\)"),
        (np.full((1, 2), -1, "int32"), r"token_ids must be in \[0, 32\)"),
    ],
)
def test_logits_of_what_the_model_cannot_take(loaded, token_ids, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        loaded.logits(token_ids)


def test_generation_stops_where_the_context_is_full(spread_model, loaded):
    (text,) = texts_of(loaded.generate(["hello"], 500, 1))
    assert text == spread_model.generate("hello", max_new_tokens=500, seed=1)


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("hi", {"temperature": -1.0}, "temperature must be a number of at least 0"),
        ("hi", {"temperature": float("nan")}, "temperature must be a number of at least 0"),
        ("hi", {"top_p": 0.0}, r"top_p must be a number in \(0, 1]"),
        ("hi", {"top_p": 1.5}, r"top_p must be a number in \(0, 1]"),
        ("hi", {"top_k": -1}, "top_k must be an integer of at least 1, or 0 for off"),
        ("hi", {"choices": ["a", ""]}, "choices must be rows of token ids, none empty"),
        ("hi", {"logit_bias": [1.0]}, "logit_bias must be one number for each row"),
        ("hi", {"stop": ["a", ""]}, "stop must not hold an empty string"),
        ("hi", {"time_limit": -1.0}, "time_limit must be at least 0"),
        ("hi", {"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ("h" * 48, {}, "text is too long: it must have fewer than 48 tokens"),
        ("", {}, "text must not be empty"),
    ],
)
def test_bad_requests_end_in_an_error(loaded, text, changes, message):
    inputs = {"max_new_tokens": 3, **changes}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        loaded.generate(text=[text], **inputs)


FRESH_PROCESS = """
import json, sys
for name in ("keras", "gpt_keras", "tensorflow_text", "tokenizers"):
    sys.modules[name] = None  # importing it fails
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
inputs = json.loads(sys.argv[2])
output = loaded.generate(text=tf.constant(inputs.pop("text")), **inputs)
print(json.dumps([text.decode() for text in output["text"].numpy()]))
"""


@pytest.mark.slow
def test_a_process_with_tensorflow_alone_gives_the_same_text(spread_model, exported):
    settings = {**SAMPLING, "bad_words": ["e", "is"], "stop": ["q"], "repetition_penalty": 1.2}
    inputs = {"text": PROMPTS, "max_new_tokens": 18, "seed": 11, **settings}
    result = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(exported), json.dumps(inputs)],
        capture_output=True,
        text=True,
        check=True,
        cwd=exported,
    )
    expected = spread_model.generate(PROMPTS, max_new_tokens=18, seed=11, **settings)
    assert json.loads(result.stdout.splitlines()[-1]) == expected


@pytest.mark.slow
def test_without_xla_the_text_is_the_same(spread_model, tmp_path):
    gk.export.saved_model(spread_model, tmp_path / "1", jit_compile=False)
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    expected = spread_model.generate(PROMPTS, max_new_tokens=18, seed=11, **SAMPLING)
    assert texts_of(loaded.generate(PROMPTS, 18, 11, **SAMPLING)) == expected


@pytest.fixture(scope="module")
def byte_pair(tmp_path_factory):
    """A model of bytes and pairs of them, and what it serves."""
    tokenizer = gk.tokenizers.BytePairTokenizer.train(
        gk.datasets.corpora.load("tang_poems")[:40], 400
    )
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size, num_layers=1)
    model = spread_weights(gk.GPTCausalLM(config, tokenizer=tokenizer))
    directory = tmp_path_factory.mktemp("byte_pair") / "1"
    gk.export.saved_model(model, directory, jit_compile=False)
    return model, tf.saved_model.load(str(directory))


@pytest.mark.slow
def test_a_byte_pair_model_exports_chinese(byte_pair):
    model, loaded = byte_pair
    prompt = gk.datasets.corpora.load("tang_poems")[0][:6]
    # Random weights give bytes that are no characters; `decode` shows U+FFFD in their place.
    text = loaded.generate([prompt], 20, 3)["text"].numpy()[0].decode("utf-8", errors="replace")
    assert text == model.generate(prompt, max_new_tokens=20, seed=3)
    assert text.startswith(prompt)


def test_without_a_tokenizer_logits_are_exported(tmp_path):
    model = gk.GPTCausalLM(tiny_config(num_layers=1))
    model.export(tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    assert set(loaded.signatures) == {"serving_default", "logits"}
    token_ids = tf.constant([[1, 2, 3]])
    np.testing.assert_allclose(loaded.logits(token_ids)["logits"], model(token_ids), atol=1e-5)
    with pytest.raises(ValueError, match="`logits_processors` must be empty"):
        model.export(tmp_path / "2", logits_processors=[lambda logits, context: logits])


def test_a_failed_export_leaves_nothing(spread_model, tmp_path, monkeypatch):
    def fail(module, path, **kwargs):
        (tmp_path / path / "half").write_text("written")
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        gk.export.saved_model(spread_model, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_half_a_character_is_replaced_as_in_generate(byte_pair):
    model, loaded = byte_pair
    expected = model.generate(["床", "a"], max_new_tokens=12, seed=0)
    assert "\ufffd" in expected[0] + expected[1]
    texts = loaded.generate(text=["床", "a"], max_new_tokens=12, seed=0)["text"].numpy()
    assert [text.decode() for text in texts] == expected


TASK_MODELS = [(gk.GPTClassifier, (2, 5)), (gk.GPTMultipleChoice, (2, 3, 5))]


@pytest.mark.parametrize(("kind", "shape"), TASK_MODELS)
def test_a_task_model_exports_before_it_is_called(kind, shape, character_tokenizer, tmp_path):
    backbone = gk.GPT(tiny_config(vocabulary_size=36, num_layers=1))
    arguments = [2] if kind is gk.GPTClassifier else []
    model = kind(backbone, *arguments, tokenizer=character_tokenizer)
    model.export(tmp_path / "1", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "1"))
    signature = served.signatures["serving_default"].structured_input_signature[1]
    assert {name: spec.dtype for name, spec in signature.items()} == {"token_ids": tf.int32}
    token_ids = np.random.default_rng(0).integers(0, 36, shape).astype("int32")
    np.testing.assert_allclose(served.serve(token_ids), model(token_ids), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_litert_takes_token_ids_before_the_model_is_called(tmp_path):
    model = spread_weights(gk.GPTCausalLM(tiny_config(num_layers=1)))
    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    interpreter = tf.lite.Interpreter(str(tmp_path / "model.tflite"))
    (inputs,) = interpreter.get_signature_list().values()
    assert inputs["inputs"] == ["token_ids"]
    token_ids = np.array([[1, 2, 3, 4]], "int32")
    (logits,) = interpreter.get_signature_runner()(token_ids=token_ids).values()
    np.testing.assert_allclose(logits, model(token_ids), atol=1e-4)


@pytest.mark.slow
def test_onnx_takes_token_ids_before_the_model_is_called(tmp_path):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    model = spread_weights(gk.GPTCausalLM(tiny_config(num_layers=1)))
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    for length in (3, 7):
        token_ids = np.arange(length, dtype="int32")[None]
        (logits,) = session.run(None, {"token_ids": token_ids})
        np.testing.assert_allclose(logits, model(token_ids), atol=1e-4)
