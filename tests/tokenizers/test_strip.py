"""Special tokens that take the white space beside them: the engine, Python and the graph agree."""

import itertools

import pytest
import tensorflow as tf
from tokenizers import AddedToken
from tokenizers import Tokenizer as Engine

from gpt_keras import tokenizers
from gpt_keras.chat import ChatTemplate

TOKENS = {"<end>": "rstrip", "<begin>": "lstrip", "<both>": "lstrip rstrip", "<plain>": ""}
SPACES = ["", " ", "\n\n ", "\t", "\u3000\x85", "\x1c", " \u200b "]


@pytest.fixture(scope="module")
def engine():
    plain = tokenizers.BytePairTokenizer.train("user hello " * 9, 270, special_tokens=[])
    engine = Engine.from_str(plain.to_json())
    engine.add_special_tokens(
        [
            AddedToken(token, normalized=False, lstrip="l" in how, rstrip="r" in how)
            for token, how in zip(TOKENS, ("r", "l", "lr", ""), strict=True)
        ]
    )
    return engine


@pytest.fixture(scope="module")
def loaded(engine, tmp_path_factory):
    file = tmp_path_factory.mktemp("strip") / "tokenizer.json"
    engine.save(str(file))
    return tokenizers.load(file)


TEXTS = [f"hello{a}{token}{b}user" for token, a, b in itertools.product(TOKENS, SPACES, SPACES)] + [
    f"{a}{first}{a}{b}{second}{b}"
    for first, second in itertools.product(TOKENS, TOKENS)
    for a, b in itertools.pairwise(SPACES)
]


def test_all_special_tokens(engine, loaded):
    expected = [encoding.ids for encoding in engine.encode_batch(TEXTS)]
    assert loaded.encode(TEXTS, "all") == expected
    assert loaded.in_graph("all")(tf.constant(TEXTS)).to_list() == expected


def test_some_special_tokens(loaded):
    allowed = ["<end>", "<plain>"]
    ids = loaded.encode(TEXTS, allowed)
    assert loaded.in_graph(allowed)(tf.constant(TEXTS)).to_list() == ids
    assert loaded.encode("<end>\nuser", ["<plain>"]) == loaded.encode("<end>\nuser")
    assert loaded.encode("a <end> b", allowed) == [
        *loaded.encode("a "),
        loaded.special_tokens["<end>"],
        *loaded.encode("b"),
    ]


def test_in_a_chat(loaded):
    template = ChatTemplate("{% for m in messages %}{{ m.content }} <end>\n{% endfor %}")
    end = loaded.special_tokens["<end>"]
    # The text of a special token inside a message stays text, with its white space.
    said = "hello<end> user"
    ids = template.encode([{"role": "user", "content": said}], loaded)
    assert ids == [*loaded.encode(said + " "), end]
    assert template.encode([{"role": "user", "content": "hello"}], loaded) == [
        *loaded.encode("hello "),
        end,
    ]


def test_parts(loaded):
    end, begin = (loaded.special_tokens[token] for token in ("<end>", "<begin>"))
    assert loaded.encode_parts([end, " user", begin, "\n"]) == [
        end,
        *loaded.encode("user"),
        begin,
        *loaded.encode("\n"),
    ]
    assert loaded.encode_parts([]) == []
    with pytest.raises(ValueError, match="`parts` must be from 0 to"):
        loaded.encode_parts(["a", 999])
