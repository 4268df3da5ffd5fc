"""Token embeddings: vectors, nearest neighbours, principal components."""

from collections.abc import Iterator

import keras
import numpy as np

from gpt_keras.checks import check_positive_int


def token_embeddings(model: keras.Model) -> np.ndarray:
    """Return the token embedding matrix of a model.

    Args:
        model: A `CausalLM` or any Keras model. Its first `keras.layers.Embedding` is used.

    Returns:
        `(vocabulary_size, hidden_dim)`.

    Raises:
        ValueError: The model has no `keras.layers.Embedding`.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.token_embeddings(gk.GPT(config)).shape
        (100, 8)
    """
    for layer in _layers(model):
        if isinstance(layer, keras.layers.Embedding):
            # Calling the layer with all ids also works for quantized layers.
            return keras.ops.convert_to_numpy(layer(np.arange(layer.input_dim)))
    raise ValueError(f"`model` must have a keras.layers.Embedding; {model.name!r} has none.")


def _layers(model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def nearest_tokens(vectors: np.ndarray, query: np.ndarray, k: int = 5):
    """Return the nearest neighbours of a query vector by cosine similarity.

    Args:
        vectors: `(vocabulary_size, hidden_dim)`, for example from `token_embeddings`.
        query: `(hidden_dim,)`, for example a row of `vectors` or a sum of rows. A row of `vectors`
            is its own nearest neighbour.
        k: Number of neighbours.

    Returns:
        `(ids, similarities)`, each `(k,)`, most similar first.

    Raises:
        ValueError: The shapes do not match, or `k` is not from 1 to the number of vectors.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.1]])
        >>> ids, similarities = gk.interpretation.nearest_tokens(vectors, vectors[0], k=2)
        >>> ids.tolist()
        [0, 2]
    """
    vectors, query = np.asarray(vectors), np.asarray(query)
    check_positive_int("k", k)
    if vectors.ndim != 2 or query.shape != vectors.shape[1:] or k > len(vectors):
        raise ValueError(
            f"`vectors` must be (number, width), `query` (width,) and `k` at most the number, got "
            f"shapes {vectors.shape} and {query.shape}, and k={k!r}."
        )
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    similarities = vectors @ query / np.maximum(norms, np.finfo(vectors.dtype).tiny)
    ids = np.argsort(-similarities, kind="stable")[:k]
    return ids, similarities[ids]


def principal_components(vectors: np.ndarray, k: int = 2):
    """Project vectors onto their first principal components (PCA).

    The sign of a component is chosen so that its entry of largest magnitude is positive.

    Args:
        vectors: `(number, width)`.
        k: Number of components.

    Returns:
        `(coordinates, shares)`: `(number, k)` coordinates, and for each component its share of the
        variance, `(k,)`.

    Raises:
        ValueError: `vectors` is not two-dimensional, or `k` is not from 1 to the smaller of its
            number and width.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> line = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
        >>> coordinates, shares = gk.interpretation.principal_components(line, k=1)
        >>> coordinates[:, 0].round(3).tolist(), shares.round(3).tolist()
        ([-1.414, 0.0, 1.414], [1.0])
    """
    vectors = np.asarray(vectors)
    check_positive_int("k", k)
    if vectors.ndim != 2 or k > min(vectors.shape):
        raise ValueError(
            f"`vectors` must be (number, width), both at least `k`={k}, got shape {vectors.shape}."
        )
    centred = vectors - vectors.mean(axis=0)
    _, deviations, directions = np.linalg.svd(centred, full_matrices=False)
    largest = np.abs(directions).argmax(axis=1)[:, None]
    directions = directions * np.sign(np.take_along_axis(directions, largest, axis=1))
    variances = deviations**2
    return centred @ directions[:k].T, variances[:k] / max(variances.sum(), 1e-30)
