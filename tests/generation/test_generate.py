"""What `generate` and `stream` give, against the slow way: a whole `call` for each token."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk
from gpt_keras.generation.processors import ARGUMENTS
from gpt_keras.generation.sampling import uniforms


def slowly(model, token_ids, count, temperature=0.0, top_k=None, top_p=None, row_seed=0):
    """Generate in NumPy from full calls; return the ids with the prompt, without end of text."""
    token_ids = list(token_ids)
    numbers = uniforms(tf.constant([row_seed], tf.int64), count).numpy()[0]
    end = None if model.tokenizer is None else model.tokenizer.end_of_text_id
    for step in range(min(count, model.max_sequence_length - len(token_ids))):
        logits = np.float64(model(np.array([token_ids]))[0, -1])
        if temperature == 0:
            drawn = int(logits.argmax())
        else:
            logits = logits / temperature
            if top_k is not None:
                logits[logits < np.sort(logits)[-top_k]] = -np.inf
            probabilities = np.exp(logits - logits.max())
            probabilities /= probabilities.sum()
            if top_p is not None:
                order = np.argsort(-probabilities)
                before = np.cumsum(probabilities[order]) - probabilities[order]
                probabilities[order[before >= top_p]] = 0
                probabilities /= probabilities.sum()
            drawn = int(np.searchsorted(np.cumsum(probabilities), numbers[step], side="right"))
        if drawn == end:
            break
        token_ids.append(drawn)
    return token_ids


SETTINGS = [
    {"temperature": 0},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 5},
    {"temperature": 1.3, "top_p": 0.8},
    {"temperature": 0.9, "top_k": 12, "top_p": 0.6},
]


@pytest.mark.xla
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_cached_generation_equals_the_slow_way(compiled_model, settings):
    prompt = compiled_model.tokenizer.encode("hello, ")
    for seed in (1, 2):
        ours = compiled_model.generate(prompt, max_new_tokens=30, seed=[seed], **settings)
        assert ours == slowly(compiled_model, prompt, 30, row_seed=seed, **settings)


PROCESSORS = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "bad_words": ["e", "th"]}
PROCESSORS |= {"min_new_tokens": 4, "min_p": 0.02, "logit_bias": {5: 1.0}}


@pytest.mark.graph
@pytest.mark.parametrize("settings", [*SETTINGS[:4], PROCESSORS], ids=str)
def test_each_row_of_a_ragged_batch_equals_its_own_run(spread_model, settings):
    prompts = ["a", "hello there", "what is this thing, and why is it so long", "a"]
    batch = spread_model.generate(prompts, max_new_tokens=20, seed=7, **settings)
    for row, prompt in enumerate(prompts):
        seed = int(gk.generation.fold_in(7, row))
        alone = spread_model.generate(prompt, max_new_tokens=20, seed=[seed], **settings)
        assert batch[row] == alone
        assert batch[row].startswith(prompt)


@pytest.mark.xla
@pytest.mark.parametrize(
    "changes",
    [
        {"position_embedding": "rotary", "norm": "rms_norm", "activation": "swiglu"}
        | {"num_heads": 4, "num_key_value_heads": 2, "tie_embeddings": False},
        {"position_embedding": "sinusoidal", "norm_position": "post"},
    ],
    ids=lambda changes: changes["position_embedding"],
)
def test_other_shapes_of_gpt_generate_too(changes):
    model = spread_weights(gk.GPTCausalLM(tiny_config(num_layers=1, **changes)))
    prompts = [[1, 2, 3, 4, 5, 6, 7], [8]]
    rows = model.generate(prompts, max_new_tokens=12, temperature=0)
    assert rows == [slowly(model, prompt, 12) for prompt in prompts]


def test_rows_of_a_batch_draw_apart_and_again(spread_model):
    texts = spread_model.generate(["once "] * 4, max_new_tokens=25, seed=3)
    assert len(set(texts)) == 4
    assert spread_model.generate(["once "] * 4, max_new_tokens=25, seed=3) == texts
    assert spread_model.generate(["once "] * 2, max_new_tokens=25, seed=3) == texts[:2]
    assert spread_model.generate(["once "] * 4, max_new_tokens=25, seed=4) != texts
    same = spread_model.generate(["once "] * 2, max_new_tokens=25, seed=[5, 5])
    assert same[0] == same[1]
    unseeded = {spread_model.generate("once ", max_new_tokens=25) for _ in range(3)}
    assert len(unseeded) == 3


def test_more_tokens_continue_the_same_text(spread_model):
    texts = [spread_model.generate("ab", max_new_tokens=n, seed=2) for n in (3, 10, 40)]
    assert texts[1].startswith(texts[0])
    assert texts[2].startswith(texts[1])


def test_top_k_of_one_is_greedy(spread_model):
    greedy = spread_model.generate("hello", max_new_tokens=20, temperature=0)
    assert spread_model.generate("hello", max_new_tokens=20, top_k=1, seed=9) == greedy


def test_generation_stops_at_end_of_text(spread_model):
    end = spread_model.tokenizer.end_of_text_id
    prompts = [[i] for i in range(20)]
    rows = spread_model.generate(prompts, max_new_tokens=40, seed=0)
    assert all(end not in row for row in rows)
    lengths = [len(row) for row in rows]
    assert min(lengths) < 41 == max(lengths)  # some ended by themselves, some at their limit
    shortest = sorted(range(20), key=lambda row: lengths[row])[:4]
    for row in [*shortest, 19]:
        expected = slowly(
            spread_model,
            prompts[row],
            40,
            temperature=1.0,
            row_seed=int(gk.generation.fold_in(0, row)),
        )
        assert rows[row] == expected


def test_limits_of_length(spread_model):
    model = gk.GPTCausalLM(spread_model.config)  # no tokenizer, so no end of text
    model.set_weights(spread_model.get_weights())
    prompts = [[1] * 10, [2] * 40]
    assert [len(row) for row in model.generate(prompts, max_new_tokens=5)] == [15, 45]
    assert [len(row) for row in model.generate(prompts, max_length=43)] == [43, 43]
    # Generation stops where the context is full.
    assert [len(row) for row in model.generate(prompts, max_new_tokens=100)] == [48, 48]
    assert len(model.generate([1] * 47, max_new_tokens=9)) == 48


@pytest.mark.xla
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 0.9, "seed": 5}])
def test_stream_gives_the_text_of_generate(compiled_model, settings):
    pieces = list(compiled_model.stream("hello", max_new_tokens=15, **settings))
    assert len(pieces) > 5
    whole = compiled_model.generate("hello", max_new_tokens=15, **settings)
    assert "hello" + "".join(pieces) == whole


@pytest.mark.slow
def test_stream_never_breaks_a_chinese_character():
    # Bytes as tokens: each Chinese character is three of them.
    tokenizer = gk.tokenizers.BytePairTokenizer.train(["床前明月光，疑是地上霜。"], 257)
    assert len(tokenizer.encode("床")) == 3
    model = gk.GPTCausalLM(
        tiny_config(vocabulary_size=tokenizer.vocabulary_size, num_layers=1), tokenizer=tokenizer
    )
    text = "床前明月光，疑是"
    model.compile(gk.training.adamw(3e-2, warmup_steps=5, weight_decay=0.0), jit_compile=False)
    model.fit([text], epochs=60, verbose=0)
    pieces = list(model.stream("床", max_new_tokens=15, temperature=0))
    assert "".join(pieces) == "前明月光，"
    assert all("\ufffd" not in piece for piece in pieces)


@pytest.mark.slow
def test_learning_after_generating_changes_the_text(character_tokenizer):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=character_tokenizer)
    before = model.generate("ab", max_new_tokens=10, temperature=0)
    model.compile(gk.training.adamw(3e-2, warmup_steps=5), jit_compile=False)
    model.fit(["abcabcabcabcabcabc"] * 4, epochs=30, verbose=0)
    after = model.generate("ab", max_new_tokens=10, temperature=0)
    assert after != before
    assert after == "abcabcabcabc"


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ("a", {"temperature": -0.1}, "temperature.*-0.1"),
        ("a", {"temperature": float("nan")}, "temperature.*nan"),
        ("a", {"top_p": 0.0}, r"top_p.*\(0, 1\].*0.0"),
        ("a", {"top_p": 1.1}, "top_p.*1.1"),
        ("a", {"top_k": 0}, "top_k.*at least 1.*0"),
        ("a", {"max_new_tokens": 0}, "max_new_tokens.*0"),
        ("a", {"max_new_tokens": 1, "max_length": 9}, "not both"),
        ("abc", {"max_length": 3}, "3 tokens leaves no room.*max_length` is 3"),
        ([1] * 48, {}, "48 tokens leaves no room.*max_sequence_length 48"),
        ("", {}, "must not be empty; number 0"),
        ([], {}, "at least one prompt"),
        (["a", ""], {}, "must not be empty; number 1"),
        (["a", [1]], {}, "all texts or all lists.*number 1"),
        ([[1, 32]], {}, r"\[0, 32\)"),
        ([[0.5]], {}, "integers"),
        ("é", {}, "é"),
        (["a", "b"], {"seed": [1]}, "one for each of the 2 prompts"),
        ("a", {"seed": 2**63}, "seed.*2.*63"),
        ("a", {"seed": 1.5}, "seed.*integer.*1.5"),
        ("a", {"seed": "7"}, "seed"),
        ("a", {"temperature": "hot"}, "temperature.*hot"),
        ("a", {"temperature": True}, "temperature.*True"),
        ("a", {"top_p": "much"}, "top_p.*much"),
        (None, {}, "prompts.*None"),
        ({"a": 1}, {}, "prompts"),
        ([1, [2]], {}, "all texts or all lists"),
    ],
)
def test_bad_requests(spread_model, prompts, settings, message):
    with pytest.raises(ValueError, match=message):
        spread_model.generate(prompts, **settings)
    if isinstance(prompts, str):
        with pytest.raises(ValueError, match=message):
            spread_model.stream(prompts, **settings)  # at once, before the first piece


def test_ids_that_the_tokenizer_does_not_have_are_never_drawn():
    tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
    model = spread_weights(gk.GPTCausalLM(tiny_config(), tokenizer=tokenizer))
    texts = model.generate(["a"] * 5, max_new_tokens=20, temperature=2.0, seed=0)
    assert {len(text) for text in texts} == {21}
    assert len("".join(model.stream("a", max_new_tokens=20, seed=0))) == 20


def test_a_tiny_top_p_or_temperature_is_greedy(spread_model):
    greedy = spread_model.generate("hello", max_new_tokens=10, temperature=0)
    for settings in ({"top_p": 1e-30}, {"temperature": 1e-37}):
        assert spread_model.generate("hello", max_new_tokens=10, seed=1, **settings) == greedy


@pytest.mark.slow
def test_replaced_variables_are_noticed(character_tokenizer):
    model = spread_weights(gk.GPTCausalLM(tiny_config(), tokenizer=character_tokenizer))
    before = model.generate("hello", max_new_tokens=10, temperature=0)
    for block in model.backbone.blocks:
        block.feed_forward.down.enable_lora(4)
        block.feed_forward.down.lora_kernel_b.assign(
            np.random.default_rng(0).normal(size=block.feed_forward.down.lora_kernel_b.shape)
        )
    after = model.generate("hello", max_new_tokens=10, temperature=0)
    assert after != before
    assert after == model.tokenizer.decode(slowly(model, model.tokenizer.encode("hello"), 10))


@pytest.mark.xla
def test_calls_may_run_side_by_side(compiled_model):
    import concurrent.futures

    prompts = ["a", "hello there", "the cat", "one more"]
    alone = [compiled_model.generate(prompt, max_new_tokens=15, seed=1) for prompt in prompts]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = pool.map(
            lambda p: compiled_model.generate(p, max_new_tokens=15, seed=1), prompts
        )
        assert list(together) == alone


@pytest.mark.xla
def test_long_prompts_are_run_in_chunks():
    config = tiny_config(max_sequence_length=200, attention_windows=(None, 40))
    model = gk.GPTCausalLM(config)
    spread_weights(model)
    draw = np.random.default_rng(0)
    # Around the borders of the chunks, and alone as well as in a batch.
    prompts = [
        draw.integers(config.vocabulary_size, size=length).tolist()
        for length in (1, 32, 33, 34, 64, 65, 66, 129, 130, 197)
    ]
    rows = model.generate(prompts, max_new_tokens=3, temperature=0)
    assert rows == [slowly(model, prompt, 3) for prompt in prompts]
    for prompt in (prompts[2], prompts[8]):
        assert model.generate(prompt, max_new_tokens=3, temperature=0, cache_length=150) == slowly(
            model, prompt, 3
        )
    with pytest.raises(ValueError, match="cache_length"):
        model.generate([1], cache_length=0)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("num_beams", r"gk\.generation\.BeamSearch\(num_beams\)"),
        ("do_sample", "`temperature=0` for greedy"),
        ("max_tokens", "`max_new_tokens`"),
        ("tempreature", "Did you mean `temperature`"),
        ("max_new_token", "Did you mean `max_new_tokens`"),
    ],
)
def test_names_of_other_libraries_are_known(spread_model, name, ours):
    with pytest.raises(TypeError, match=f"no setting `{name}`.*{ours}"):
        spread_model.generate([1, 2], **{name: 1})


def test_all_arguments_are_known_to_the_message():
    parameters = inspect.signature(gk.CausalLM.generate).parameters.values()
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert keywords == list(ARGUMENTS)


class Series:
    """As pandas's: an index that is not 0, 1, 2, and `__array__`."""

    def __init__(self, values):
        self._values = np.array(values, object)

    def __array__(self, dtype=None, copy=None):
        return self._values

    def __iter__(self):
        return iter(self._values)


def test_prompts_come_in_any_container(spread_model):
    texts = ["hello", "a"]
    settings = {"max_new_tokens": 3, "seed": 0}
    expected = spread_model.generate(texts, **settings)
    dataset = tf.data.Dataset.from_tensor_slices(texts)
    for prompts in (
        tuple(texts),
        np.array(texts),
        tf.constant(texts),
        Series(texts),
        (text for text in texts),
        [text.encode() for text in texts],
        dataset,
        dataset.batch(2),
    ):
        assert spread_model.generate(prompts, **settings) == expected
    single = spread_model.generate("hello", **settings)
    assert spread_model.generate(tf.constant("hello"), **settings) == single
    assert spread_model.generate(np.array("hello"), **settings) == single
    rows = [[1, 2, 3], [4]]
    expected = spread_model.generate(rows, **settings)
    for dtype in ("uint8", "int8", "int64", "uint32"):
        ragged = [np.array(row, dtype) for row in rows]
        assert spread_model.generate(ragged, **settings) == expected
        assert spread_model.generate(np.array([[1, 2, 3]], dtype), **settings) == expected[:1]
    assert spread_model.generate(tf.ragged.constant(rows), **settings) == expected


@pytest.mark.parametrize(
    "prompts", [3, b"abc", {"text": "abc"}, np.array(3), np.array([[0.5]]), [["a", "b"]], [None]]
)
def test_what_is_no_prompt_is_named(spread_model, prompts):
    with pytest.raises(ValueError, match=r"`prompts`|Token ids must be integers"):
        spread_model.generate(prompts, max_new_tokens=1)
