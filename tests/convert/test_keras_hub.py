import numpy as np
import pytest
from tiny_models import spread_weights

import gpt_keras as gk

keras_hub = pytest.importorskip("keras_hub")


@pytest.fixture(scope="module")
def backbone():
    return spread_weights(
        keras_hub.models.GPT2Backbone(
            vocabulary_size=50,
            num_layers=2,
            num_heads=3,
            hidden_dim=24,
            intermediate_dim=40,
            dropout=0.2,
            max_sequence_length=20,
        )
    )


def logits(backbone, token_ids):
    hidden = backbone({"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)})
    return backbone.token_embedding(hidden, reverse=True)


TOKEN_IDS = np.random.default_rng(0).integers(0, 50, (3, 20))


def test_a_backbone_gives_the_same_logits(backbone):
    model = gk.convert.from_keras_hub(backbone)
    np.testing.assert_allclose(model(TOKEN_IDS), logits(backbone, TOKEN_IDS), atol=1e-4)
    assert model.tokenizer is None
    assert model.config.dropout == 0.2


def test_a_causal_lm_and_its_folder_give_the_same_logits(backbone, tmp_path):
    theirs = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    wanted = logits(backbone, TOKEN_IDS)
    np.testing.assert_allclose(gk.convert.from_keras_hub(theirs)(TOKEN_IDS), wanted, atol=1e-4)
    backbone.save_to_preset(str(tmp_path / "preset"))
    model = gk.GPTCausalLM.from_preset(tmp_path / "preset")
    np.testing.assert_allclose(model(TOKEN_IDS), wanted, atol=1e-4)


READS_TOKENIZERS = hasattr(gk.tokenizers.BytePairTokenizer, "from_vocabulary")


@pytest.mark.skipif(not READS_TOKENIZERS, reason="tokenizers are not made from a vocabulary")
def test_the_tokenizer_of_a_causal_lm(tmp_path):
    from gpt_keras.tokenizers.byte_level import byte_characters

    tokens = [*byte_characters(), "Ġt", "Ġto", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = keras_hub.models.GPT2Tokenizer(vocabulary, ["Ġ t", "Ġt o"])
    theirs = keras_hub.models.GPT2CausalLM(
        keras_hub.models.GPT2Backbone(len(tokens), 1, 1, 8, 8, max_sequence_length=8),
        preprocessor=keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=8),
    )
    theirs.save_to_preset(str(tmp_path / "preset"))
    for source in (theirs, tmp_path / "preset"):
        ours = gk.convert.from_keras_hub(source).tokenizer
        assert ours.end_of_text_id == 258
        assert ours.encode("so to t") == np.asarray(tokenizer("so to t")).tolist()


def test_other_models_are_refused(backbone):
    for other in ("gpt2", None, gk.GPT(gk.convert.from_keras_hub(backbone).config)):
        with pytest.raises(ValueError, match=r"`source` must be a GPT2CausalLM or GPT2Backbone"):
            gk.convert.from_keras_hub(other)
    adapted = keras_hub.models.GPT2Backbone.from_config(backbone.get_config())
    adapted.transformer_layers[0]._feedforward_output_dense.enable_lora(2)
    with pytest.raises(ValueError, match=r"not known: .*lora"):
        gk.convert.from_keras_hub(adapted)
