"""Where a text ends: stop strings for every kind of tokenizer, time, callbacks; and streaming."""

import functools
import gc
import io
import json
import pathlib
import time

import keras
import pytest
import tensorflow as tf
from keras import ops

import gpt_keras as gk
from gpt_keras.generation.compiled import Generators
from gpt_keras.generation.text_pieces import TextPieces

pytestmark = pytest.mark.graph  # one small graph, many long texts
FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
TEXT = "hello there. the cat sat 床前明月光 on the mat, hello again. "


class Reciter(keras.Model):
    """Knows one text by heart: what comes next depends on how many tokens there are before."""

    def __init__(self, token_ids, vocabulary_size):
        super().__init__(name="reciter")
        self.token_ids, self.vocabulary_size = [*token_ids, token_ids[0]], vocabulary_size
        self.max_sequence_length = len(token_ids)
        self(keras.KerasTensor((None, None), dtype="int32"))

    def next_logits(self, positions):
        script = ops.convert_to_tensor(self.token_ids, "int32")
        return ops.one_hot(ops.take(script, positions + 1), self.vocabulary_size)

    def call(self, token_ids):
        return self.next_logits(0 * token_ids + ops.arange(ops.shape(token_ids)[1]))

    def initial_cache(self, batch_size, length):
        return ops.zeros((batch_size, 1, length, 1))

    def extend(self, token_ids, cache, index, starts):
        positions = index + ops.arange(ops.shape(token_ids)[1]) - starts[:, None]
        update = ops.cast(token_ids, "float32")[:, None, :, None]
        return self.next_logits(ops.clip(positions, 0, self.max_sequence_length - 1)), update

    def write(self, cache, update, index):
        return gk.layers.write_cache(cache, update, index)


def gpt1():
    fixture = json.loads((FIXTURES / "gpt1_tokenizer.json").read_text(encoding="utf-8"))
    merges = [tuple(merge) for merge in fixture["merges"]]
    return gk.tokenizers.GPT1Tokenizer.from_vocabulary(fixture["vocabulary"], merges)


def sentencepiece():
    package = pytest.importorskip("sentencepiece")
    pytest.importorskip("tensorflow_text")
    model = io.BytesIO()
    package.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello there. the cat sat on the mat, again"] * 9),
        model_writer=model,
        model_type="bpe",
        vocab_size=290,
        byte_fallback=True,
        minloglevel=2,
    )
    return gk.tokenizers.SentencePieceTokenizer(model.getvalue())


def other_split():
    """A byte-pair tokenizer from a file, whose way to split words no graph here has."""
    content = json.loads(gk.tokenizers.BytePairTokenizer.train([TEXT], 290).to_json())
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"\s?\w+|\W"}, "behavior": "Isolated"}
            | {"invert": False},
            {"type": "ByteLevel", "use_regex": False}
            | {"add_prefix_space": False, "trim_offsets": False},
        ],
    }
    tokenizer = gk.tokenizers.BytePairTokenizer.from_json(json.dumps(content))
    with pytest.raises(ValueError, match="in_graph"):
        tokenizer.in_graph()
    return tokenizer


TOKENIZERS = {
    "character": lambda: gk.tokenizers.CharacterTokenizer.train([TEXT], end_of_text=True),
    "byte_pair": lambda: gk.tokenizers.BytePairTokenizer.train([TEXT], 290),
    "other_split": other_split,
    "sentencepiece": sentencepiece,
    "gpt1": gpt1,
}


@functools.cache
def reciter(kind):
    """A model, and the text that it recites."""
    tokenizer = TOKENIZERS[kind]()
    token_ids = tokenizer.encode(TEXT)
    model = gk.CausalLM(Reciter(token_ids, tokenizer.vocabulary_size), tokenizer=tokenizer)
    model._generators = Generators(model, jit_compile=False)
    return model, tokenizer.decode(token_ids)


def until(model, text, prompt, stop):
    """The text before the first stop string that its tokens, one by one, bring."""
    start, ids = len(prompt), model.backbone.token_ids[:-1]
    for count in range(len(model.tokenizer.encode(prompt)) + 1, len(ids) + 1):
        shown = model.tokenizer.decode(ids[:count])
        ends = [shown.find(string, start) for string in stop if string in shown[start:]]
        if ends:
            return shown[: min(ends)]
    return text


STOPS = [
    [" the"],  # at once
    [" there.", " there ."],
    ["t sat"],  # across tokens
    ["hello"],  # in the prompt, too
    ["mat,", "cat", "the c"],  # of several the first in the text
    ["at", "cat s"],  # a short one that is there before a longer one that begins earlier
    ["明月"],
    ["前明"],  # bytes of characters may be tokens
    ["x", "catsat"],  # never
]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_text_ends_before_the_first_stop_string(kind):
    model, text = reciter(kind)
    prompt = model.tokenizer.decode(model.tokenizer.encode("hello"))
    assert text.startswith(prompt)
    for stop in STOPS:
        steps = []
        given = model.generate(prompt, temperature=0, stop=stop, callback=steps.append)
        expected = until(model, text, prompt, stop)
        assert given == expected
        assert prompt + "".join(model.stream(prompt, temperature=0, stop=stop)) == expected
        # No token comes after the one with which the string is there.
        ids = model.tokenizer.encode(prompt)
        texts = [model.tokenizer.decode(ids + new)[len(prompt) :] for (new,) in steps]
        if kind == "gpt1":  # the space before the first word belongs to the prompt's last token
            texts = [text.lstrip() for text in texts]
        assert not any(string in text for text in texts[:-1] for string in stop)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in TOKENIZERS if kind != "other_split"])
def test_a_saved_model_cuts_at_the_same_place(kind, tmp_path):
    model, _ = reciter(kind)
    gk.export.saved_model(model, tmp_path / "1", jit_compile=False)
    served = tf.saved_model.load(tmp_path / "1")
    prompts = [model.tokenizer.decode(model.tokenizer.encode(p)) for p in ("hello", "hello there")]
    settings = [{"stop": stop} for stop in STOPS]
    settings += [{"bad_words": ["cat", "the", " on"]}, {"choices": ["the mat", "hello", "hell"]}]
    for given in settings:
        output = served.generate(text=prompts, temperature=0.0, **given)["text"].numpy()
        expected = model.generate(prompts, temperature=0, **given)
        assert [row.decode("utf-8", errors="replace") for row in output] == expected


@pytest.mark.parametrize("kind", ["character", "sentencepiece"])
def test_each_row_of_a_batch_has_its_own_end(kind):
    model, text = reciter(kind)
    prompts = [text[: text.index(before)] for before in (" there", " sat", " on", " again")]
    for stop in (["cat", "again"], ["光"], []):
        expected = [until(model, text, prompt, stop) for prompt in prompts]
        assert model.generate(prompts, temperature=0, stop=stop) == expected
        pieces = list(model.stream(prompts, temperature=0, stop=stop))
        assert [p + "".join(row) for p, row in zip(prompts, zip(*pieces), strict=True)] == expected
    assert pieces[-1][1:] == ["", "", ""]  # these ended before the first


def test_what_may_begin_a_stop_string_waits_and_all_else_comes_at_once():
    model, text = reciter("character")
    pieces = list(model.stream("hello", temperature=0, stop=["cat nap", " sit"]))
    assert pieces[:13] == [" t", *"here.", " t", *"he", " ", "cat", " sa", "t"]
    assert "hello" + "".join(pieces) == text


@pytest.mark.parametrize("stop", [["cat"], ["光", "on"]])
def test_of_token_ids_those_with_the_stop_string_are_returned(stop):
    model, text = reciter("byte_pair")
    prompt = model.tokenizer.encode("hello there.")
    ids = model.generate(prompt, temperature=0, stop=stop)
    given = model.tokenizer.decode(ids)
    assert text.startswith(given)
    assert any(string in given for string in stop)
    assert not any(string in model.tokenizer.decode(ids[:-1]) for string in stop)
    pieces = model.stream(prompt, temperature=0, stop=stop)
    assert "hello there." + "".join(pieces) == until(model, text, "hello there.", stop)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stop": ""}, "`stop` must be .*, none of them empty, got ''"),
        ({"stop": ["a", ""]}, "`stop` must be a text or .*''"),
        ({"stop": [3]}, "`stop` must be a text or .*3"),
        ({"stop": 3}, "`stop` must.*3"),
        ({"stop": b"a"}, "`stop` must"),
        ({"time_limit": 0}, "`time_limit` must be.*0"),
        ({"time_limit": "soon"}, "`time_limit` must be.*soon"),
        ({"callback": 3}, "`callback` must be a function"),
    ],
)
def test_ends_that_are_refused(settings, message):
    model, _ = reciter("character")
    for verb in (model.generate, model.stream):
        with pytest.raises(ValueError, match=message):
            verb("hello", **settings)


def test_a_stop_string_needs_a_tokenizer():
    model = gk.CausalLM(Reciter([1, 2, 3], 4))
    with pytest.raises(ValueError, match="need a tokenizer"):
        model.generate([1], stop="a")
    with pytest.raises(ValueError, match="need a tokenizer"):
        model.stream([1])


def test_time_ends_a_text():
    model, text = reciter("character")
    started = time.monotonic()

    def wait(new):
        time.sleep(0.1)

    given = model.generate("hello", temperature=0, time_limit=0.35, callback=wait)
    assert len("hello") < len(given) <= len("hello") + 5
    assert text.startswith(given)
    assert time.monotonic() - started < 5
    assert model.generate("hello", temperature=0, time_limit=600) == text
    assert model.generate("hello", temperature=0, time_limit=1e-9) == "hello "
    assert list(model.stream(["hello", "hell"], temperature=0, time_limit=1e-9)) == [[" ", "o"]]


def test_a_callback_sees_each_step_and_may_end_it():
    model, text = reciter("character")
    encode = model.tokenizer.encode
    seen = []

    def count(new):
        seen.append(new)
        return len(seen) == 3

    prompts = [text[:5], text[:-1]]  # the second one ends after its first token
    expected = [text[:8], text]
    assert model.generate(prompts, temperature=0, callback=count) == expected
    assert seen == [[encode(text[5 : 6 + i]), encode(" ")] for i in range(3)]
    seen.clear()
    pieces = model.stream(prompts, temperature=0, callback=count)
    assert list(pieces) == [[text[5], " "], [text[6], ""], [text[7], ""]]
    assert len(seen) == 3


def test_prompts_may_be_as_long_as_the_context_allows():
    model, text = reciter("character")
    assert model.generate(text[:-1], temperature=0) == text
    assert list(model.stream(text[:-1], temperature=0)) == [" "]
    with pytest.raises(ValueError, match="leaves no room"):
        model.stream(text)


def test_a_text_without_tokens_is_no_prompt():
    model, _ = reciter("sentencepiece")
    assert model.tokenizer.encode(" ") == []
    for prompts in (" ", ["hello", " "]):
        with pytest.raises(ValueError, match=r"must not be empty; number \d is ' '"):
            model.generate(prompts)


def test_what_is_half_a_stop_string_at_the_end_is_given():
    model, text = reciter("character")
    for limit in (1, 2, 3):
        settings = dict(temperature=0, max_new_tokens=limit, stop=[text[5:9]])
        assert "".join(model.stream("hello", **settings)) == text[5 : 5 + limit]


def test_a_stop_string_that_only_the_text_has_ends_its_pieces_too():
    # The bytes of these tokens are no text: they are shown as U+FFFD, which they do not hold.
    tokenizer = gk.tokenizers.BytePairTokenizer.train([TEXT], 290)
    pieces = TextPieces(tokenizer, tokenizer.encode("a"), ["\ufffdb"])
    first_byte = tokenizer.encode("é")[:1]
    given = [pieces.take(ids, False) for ids in (first_byte, tokenizer.encode("b"), [5])]
    assert "".join(given) + pieces.take([6], True) == ""


def test_steps_leave_no_caches_behind():
    model, _ = reciter("character")
    numbers = []

    def count(new):
        eager = [x for x in gc.get_objects() if isinstance(x, tf.__internal__.EagerTensor)]
        numbers.append(sum(len(x.shape) == 4 for x in eager))

    model.generate("hello", temperature=0, max_new_tokens=10, callback=count)
    assert max(numbers) <= numbers[0] + 1
