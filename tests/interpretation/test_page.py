import base64
import html.parser
import json

import keras
import numpy as np
import pytest
from tiny_models import spread_weights, tiny_config

import gpt_keras as gk

TEXT = "春眠 不</script>覺"


@pytest.fixture(scope="module")
def model():
    tokenizer = gk.tokenizers.CharacterTokenizer.train([TEXT], end_of_text=True)
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size + 3)
    return spread_weights(gk.GPTCausalLM(config, tokenizer=tokenizer))


class Scripts(html.parser.HTMLParser):
    """The texts of the scripts of a page, and what it would load."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.loaded, self._inside = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._inside = tag == "script"
        self.loaded += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.texts.append(data)


def test_a_model_without_a_longest_sequence_has_a_page(model):
    token_ids = keras.Input((None,), dtype="int32")
    embedding = keras.layers.ReversibleEmbedding(model.vocabulary_size, 16)
    x = gk.layers.TransformerBlock(num_heads=2)(embedding(token_ids))
    network = keras.Model(token_ids, embedding(x, reverse=True))
    endless = gk.CausalLM(network, tokenizer=model.tokenizer)
    endless.backbone.max_sequence_length = None  # as in a gk.Backbone without learned positions
    assert gk.interpretation.explanation_page(endless, "不覺").startswith("<!DOCTYPE html>")


def test_the_page_holds_what_was_found(model):
    page = Scripts(gk.interpretation.explanation_page(model, TEXT, "my <model>"))
    assert page.loaded == []
    data = json.loads(page.texts[0])
    ids = np.array(model.tokenizer.encode(TEXT))
    assert data["model"] == "my <model>"
    assert "".join(data["tokens"]) == TEXT.replace(" ", "␣")
    weights = gk.interpretation.attention_weights(model, ids[None])[:, 0]
    stored = np.frombuffer(base64.b64decode(data["attention"]), np.uint8) / 255
    np.testing.assert_allclose(stored.reshape(weights.shape), weights, atol=0.5 / 255 + 1e-6)
    # The ids that the tokenizer lacks are left out, so that the rest has the whole probability.
    logits = np.array(model(ids[None]), float)[0, :, : model.tokenizer.vocabulary_size]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    losses = -np.log(probabilities[np.arange(len(ids) - 1), ids[1:]])
    np.testing.assert_allclose(data["losses"], losses, atol=1e-3)
    assert len(data["lens"]) == 3
    for row, best in zip(probabilities, data["lens"][-1], strict=True):
        np.testing.assert_allclose([p for _, p in best], np.sort(row)[::-1][:5], atol=1e-3)
    target = int(probabilities[-1].argmax())
    assert data["target"] == model.tokenizer.decode([target]).replace(" ", "␣")
    np.testing.assert_allclose(
        data["attribution"]["occlusion"],
        gk.interpretation.occlusion(model, ids, target),
        atol=1e-4,
    )
    assert list(data["attribution"]) == [
        "integrated gradients",
        "occlusion",
        "gradient times input",
    ]


def test_bad_texts(model):
    for text in ("", "春" * 49):
        with pytest.raises(ValueError, match="from 1 to 48 tokens"):
            gk.interpretation.explanation_page(model, text)
    with pytest.raises(ValueError, match="must have a tokenizer"):
        gk.interpretation.explanation_page(gk.GPTCausalLM(tiny_config()), "a")
