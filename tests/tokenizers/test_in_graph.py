import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers

from gpt_keras.tokenizers import BytePairTokenizer, CharacterTokenizer
from gpt_keras.tokenizers.byte_pair import byte_characters
from gpt_keras.tokenizers.unicode_classes import SPACE, character_classes

TRICKY = [
    "",
    " ",
    "\n",
    "Hello world",
    "it's  don't 'tis ''s we'll 've\n\n 've x's's  ",
    "'s's'S 're\n're \n 're.'re 'r 'l '",
    "  a\n b \n\n c!! 's  ",
    "a \u3000b\xa0 c\x85d\x1ce\x00f",
    "你好，世界 12३ ½ x²",
    "a" * 100,
    "<|endoftext|>",
    "👋🏽 e\u0301 \U0001f468\u200d\U0001f469",
]


def assert_same(tokenizer, layer, texts):
    ids = layer(tf.constant(texts, tf.string))
    assert isinstance(ids, tf.RaggedTensor)
    assert (ids.dtype, ids.row_splits.dtype) == (tf.int32, tf.int64)
    assert ids.to_list() == tokenizer.encode(texts)
    return ids


def assert_same_and_back(tokenizer, layer, texts):
    ids = assert_same(tokenizer, layer, texts)
    assert layer.detokenize(ids).numpy().tolist() == [text.encode() for text in texts]


@pytest.fixture(scope="session")
def gpt2_function(gpt2_layer):
    return tf.function(gpt2_layer, input_signature=[tf.TensorSpec([None], tf.string)])


def test_tricky_texts(gpt2, gpt2_layer, trained):
    assert_same_and_back(gpt2, gpt2_layer, TRICKY)
    assert_same_and_back(trained, trained.in_graph(), TRICKY)
    for text in TRICKY:
        assert_same_and_back(gpt2, gpt2_layer, [text])


def test_bundled_corpora(gpt2, gpt2_layer, characters, plays, poems):
    assert_same_and_back(gpt2, gpt2_layer, [*plays, *poems])
    assert_same_and_back(characters, characters.in_graph(), [*plays, *poems])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(), min_size=1, max_size=4))
def test_any_text(gpt2, gpt2_function, texts):
    assert_same(gpt2, gpt2_function, texts)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(alphabet="'stmdrvel aA1. \n\t\xa0詩", max_size=20), min_size=1, max_size=4))
def test_text_full_of_borders(gpt2, gpt2_function, texts):
    assert_same(gpt2, gpt2_function, texts)


def test_every_letter_number_and_space_of_unicode(gpt2, gpt2_layer):
    # Whole planes: the first two, and a sample of what comes after.
    code_points = [*range(0x3000), *range(0x3000, 0xD800, 13), *range(0xE000, 0x110000, 97)]
    code_points += [*range(0xFF00, 0x20000, 3)]
    marks = ["a{0}1{0}!{0} {0}".format(chr(c)) for c in code_points]
    texts = ["".join(marks[i : i + 1000]) for i in range(0, len(marks), 1000)]
    assert gpt2_layer(texts).to_list() == gpt2.encode(texts)


def test_character_classes_know_white_space():
    spaces = {int(c) for c in np.flatnonzero(character_classes() == SPACE)}
    assert {9, 10, 32, 0x85, 0xA0, 0x3000} <= spaces
    assert not {0x1C, 0x200B, 0xFEFF} & spaces  # white space to Python, or to nobody


def test_an_empty_batch(gpt2_layer, characters):
    for layer in (gpt2_layer, characters.in_graph()):
        ids = layer(tf.constant([], tf.string))
        assert ids.to_list() == []
        assert layer.detokenize(ids).shape == (0,)


def test_lists_and_dense_ids(gpt2_layer):
    assert gpt2_layer(["Hello world"]).to_list() == [[15496, 995]]
    assert gpt2_layer.detokenize([[15496, 995]]).numpy().tolist() == [b"Hello world"]
    dense = np.array([[15496, 50256], [995, 220]], np.int64)
    assert gpt2_layer.detokenize(dense).numpy().tolist() == [b"Hello<|endoftext|>", b" world "]


def test_half_characters_keep_their_bytes(gpt2, gpt2_layer):
    ids = gpt2.encode("詩")
    assert gpt2_layer.detokenize([ids[:-1]]).numpy()[0] == "詩".encode()[:-1]


def test_invalid_utf8_is_read_as_replacement_characters(gpt2, gpt2_layer):
    assert gpt2_layer([b"a\xff"]).to_list() == [gpt2.encode("a\ufffd")]


def test_ids_outside_the_vocabulary_are_refused(gpt2_layer):
    for i in (-1, 50257):
        with pytest.raises(tf.errors.InvalidArgumentError):
            gpt2_layer.detokenize([[i]])


def test_unknown_characters_are_refused():
    layer = CharacterTokenizer("abc").in_graph()
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not know"):
        layer(["abx"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not know"):
        tf.function(layer)(tf.constant(["abx"]))


def test_in_a_tf_data_pipeline(gpt2, gpt2_layer):
    texts = ["one two", "", "three"]
    data = tf.data.Dataset.from_tensor_slices(texts).batch(2).map(gpt2_layer)
    assert [ids.to_list() for ids in data] == [gpt2.encode(texts[:2]), gpt2.encode(texts[2:])]


def test_made_inside_a_pipeline(trained):
    data = tf.data.Dataset.from_tensors(["one two"]).map(lambda s: trained.in_graph()(s))
    assert next(iter(data)).to_list() == trained.encode(["one two"])


def test_merges_whose_ranks_do_not_grow():
    # (ab)c is ranked before ab: as no trained vocabulary has it, but as a file may.
    alphabet = byte_characters()
    merges = [("ab", "a"), ("a", "b"), ("b", "a"), ("aba", "b")]
    tokens = [*alphabet, "ab", "aba", "ba", "abab"]
    engine = Engine(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    tokenizer = BytePairTokenizer(engine)
    texts = ["abab", "ababab", "aab", "bababa abab", "abaabbab"]
    assert_same(tokenizer, tokenizer.in_graph(), texts)


def test_another_split_is_refused(trained):
    engine = Engine.from_str(trained.to_json())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer = BytePairTokenizer(engine)
    assert tokenizer.decode(tokenizer.encode("a b")) == " a b"
    with pytest.raises(ValueError, match="GPT-2's split"):
        tokenizer.in_graph()


# keras is made impossible to import: a server has only TensorFlow.
SERVER = """
import sys
sys.modules["keras"] = None
import tensorflow as tf
module = tf.saved_model.load(sys.argv[1])
texts = tf.constant(["Hello world", "", "it's  2 o'clock\\n\\n \\u8a69"])
flat, row_splits = module.tokenize(texts)
print(flat.numpy().tolist(), row_splits.numpy().tolist())
again = module.detokenize(flat, row_splits)
assert again.numpy().tolist() == texts.numpy().tolist()
assert "keras" not in {name for name, module in sys.modules.items() if module}
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "characters"])
def test_saved_model_without_keras(name, request, tmp_path):
    tokenizer = request.getfixturevalue(name)
    module = tf.Module()
    module.layer = tokenizer.in_graph()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(strings):
        ids = module.layer(strings)
        return ids.values, ids.row_splits

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)])
    def detokenize(values, row_splits):
        return module.layer.detokenize(tf.RaggedTensor.from_row_splits(values, row_splits))

    module.tokenize, module.detokenize = tokenize, detokenize
    tf.saved_model.save(module, str(tmp_path / "model"))
    run = subprocess.run(
        [sys.executable, "-c", SERVER, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    ids = tokenizer.encode(["Hello world", "", "it's  2 o'clock\n\n 詩"])
    flat = [i for row in ids for i in row]
    row_splits = np.cumsum([0, *map(len, ids)]).tolist()
    assert run.stdout.strip() == f"{flat} {row_splits}"
