import keras
import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk


def test_vectors_are_the_embedding_matrix():
    model = gk.GPTCausalLM(tiny_config())
    vectors = gk.interpretation.token_embeddings(model)
    np.testing.assert_array_equal(vectors, model.backbone.token_embedding.embeddings)
    with pytest.raises(ValueError, match=r"must have a keras\.layers\.Embedding"):
        gk.interpretation.token_embeddings(keras.Sequential([keras.layers.Dense(2)]))


def test_neighbours_by_angle():
    degrees = np.array([0, 10, 50, 180, -20])
    angles = np.deg2rad(degrees)
    lengths = np.array([1, 3, 0.1, 1, 7])[:, None]
    vectors = lengths * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ids, similarities = gk.interpretation.nearest_tokens(vectors, vectors[0], k=5)
    assert ids.tolist() == [0, 1, 4, 2, 3]
    np.testing.assert_allclose(similarities, np.cos(angles[ids]), atol=1e-6)
    for k, query in ((6, vectors[0]), (0, vectors[0]), (2, np.ones(3))):
        with pytest.raises(ValueError, match="`k`"):
            gk.interpretation.nearest_tokens(vectors, query, k)


def test_components_of_a_plane_in_space():
    generator = np.random.default_rng(0)
    plane = generator.normal(size=(200, 2)) * [3, 1]
    turn, _ = np.linalg.qr(generator.normal(size=(5, 5)))
    vectors = plane @ turn[:2] + 4
    found, shares = gk.interpretation.principal_components(vectors, k=3)
    # Distances in the plane are kept, and nothing is left outside of it.
    expected = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
    np.testing.assert_allclose(
        np.linalg.norm(found[:, None, :2] - found[None, :, :2], axis=-1), expected, atol=1e-6
    )
    np.testing.assert_allclose(shares[:2].sum(), 1, atol=1e-9)
    assert shares[0] > 0.8 > shares[1] > 0.05
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    with pytest.raises(ValueError, match="`k`=6"):
        gk.interpretation.principal_components(vectors, k=6)
