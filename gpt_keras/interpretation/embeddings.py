"""Token embeddings: vectors, nearest neighbours, principal components."""

from collections.abc import Iterator

import keras
import numpy as np

from gpt_keras.checks import check_positive_int


def token_embeddings(model: keras.Model) -> np.ndarray:
    """Return the vectors that a model has for its tokens.

    Args:
        model: A `CausalLM` or any Keras model; the first `keras.layers.Embedding` in it counts.

    Returns:
        `(vocabulary_size, hidden_dim)`.

    Raises:
        ValueError: There is no `keras.layers.Embedding`.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> gk.interpretation.token_embeddings(gk.GPT(config)).shape
        (100, 8)
    """
    for layer in _layers(model):
        if isinstance(layer, keras.layers.Embedding):
            # Asked for all ids, so that a quantized one answers as well.
            return keras.ops.convert_to_numpy(layer(np.arange(layer.input_dim)))
    raise ValueError(f"`model` must have a keras.layers.Embedding; {model.name!r} has none.")


def _layers(model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def nearest_tokens(vectors: np.ndarray, query: np.ndarray, k: int = 5):
    """Return the ids whose vectors point most nearly the way of a query.

    Args:
        vectors: `(vocabulary_size, hidden_dim)`, such as `token_embeddings` returns.
        query: `(hidden_dim,)`: a row of `vectors`, which is then its own neighbour, or a sum of
            such rows.
        k: Number of ids.

    Returns:
        `(ids, similarities)`, each `(k,)`, the nearest first; a similarity is the cosine of the
        angle.

    Raises:
        ValueError: The shapes do not fit, or `k` is not from 1 to the number of vectors.

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
    """Project vectors to the directions in which they differ most (PCA).

    Args:
        vectors: `(number, width)`.
        k: Number of directions.

    Returns:
        `(coordinates, shares)`: `(number, k)`, and `(k,)`, the share of the variance along each.
        Of the two signs that a direction can have, the one is taken with which its largest part is
        positive.

    Raises:
        ValueError: `vectors` is not two-dimensional, or `k` above its number or width.

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
