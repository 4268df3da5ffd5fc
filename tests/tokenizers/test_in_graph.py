import numpy as np
import pytest
import tensorflow as tf
from test_exactness import TRICKY
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers

from gpt_keras.tokenizers import BytePairTokenizer, CharacterTokenizer
from gpt_keras.tokenizers.byte_pair import byte_characters


def assert_same(tokenizer, layer, texts):
    ids = layer(tf.constant(texts, tf.string))
    assert isinstance(ids, tf.RaggedTensor)
    assert (ids.dtype, ids.row_splits.dtype) == (tf.int32, tf.int64)
    assert ids.to_list() == tokenizer.encode(texts)
    return ids


def assert_same_and_back(tokenizer, layer, texts):
    ids = assert_same(tokenizer, layer, texts)
    assert layer.detokenize(ids).numpy().tolist() == [text.encode() for text in texts]


def test_tricky_texts(trained):
    assert_same_and_back(trained, trained.in_graph(), TRICKY)


def test_bundled_corpora(characters, trained, plays, poems):
    for tokenizer in (characters, trained):
        assert_same_and_back(tokenizer, tokenizer.in_graph(), [*plays, *poems])


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
