"""The token cache: the ids of a corpus, stored on disk.

Encoding a corpus takes longer than reading its ids. So the ids are written to disk once, while they
are encoded, and then mapped into memory. Neither writing nor reading needs memory for the whole
corpus.
"""

import array
import collections
import hashlib
import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import keras
import numpy as np

from gpt_keras.cache import check_cache_dir, default_cache_dir
from gpt_keras.corpus import Document, is_rereadable, iterate_documents
from gpt_keras.tokenizers import Tokenizer
from gpt_keras.tokenizers.cutting import cut_into_pieces

# Part of every key: change it when the same input produces different files.
_FORMAT = "2"

_PIECE_CHARACTERS = 1 << 16
_BATCH_CHARACTERS = 1 << 20
_BATCHES_AHEAD = 2

# Encoding a smaller corpus takes less time than making the tokenizer's `corpus_encoder`.
_SMALL_BYTES = 2_000_000


class EncodedCorpus(NamedTuple):
    """The ids of a corpus and the ends of its documents.

    Attributes:
        ids: `(tokens,)`, uint16 or uint32, mapped from disk: the ids of all documents. Each
            document starts with the tokenizer's `prompt_start` and ends with its `end_of_text_id`,
            if it has one.
        ends: `(documents,)` int64, the index in `ids` after the last token of each document.
    """

    ids: np.ndarray
    ends: np.ndarray


def encode_corpus(
    corpus: Any,
    tokenizer: Tokenizer,
    cache_dir: str | os.PathLike | None = None,
    verbose: int = 0,
    keep_line_ends: bool = False,
    field: str = "text",
) -> EncodedCorpus:
    """Encode the documents of a corpus, or load their ids from the cache.

    The cache key depends on the tokenizer, the content of the documents and `keep_line_ends`. File
    names and file times do not matter. A generator is encoded first, and its key is computed
    meanwhile.

    Args:
        corpus: As in `gk.datasets.language_modeling`. Empty documents are skipped.
        tokenizer: The tokenizer.
        cache_dir: Directory of the cache; None for `gpt_keras.cache.default_cache_dir()`.
        verbose: 1 shows a progress bar while encoding.
        keep_line_ends: As in `gpt_keras.corpus.read_text`.
        field: As in `gk.datasets.language_modeling`.

    Returns:
        The ids, mapped into memory, and the end of each document.

    Raises:
        ValueError: The corpus cannot be read, the tokenizer cannot encode a text, or `cache_dir` is
            not writable.
    """
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    key, size = _Key(tokenizer, keep_line_ends), None
    if is_rereadable(corpus):
        size = sum(key.add(document) for document in iterate_documents(corpus, field))
        if _ids_file(folder, key).exists():
            return _load(folder, key)
    documents = iterate_documents(corpus, field)
    if size is None:
        documents = key.adding(documents)
    check_cache_dir(folder)
    with tempfile.TemporaryDirectory(prefix=".partial.", dir=folder) as temporary:
        new_ids_file, new_ends_file = Path(temporary, "ids.npy"), Path(temporary, "ends.npy")
        with new_ids_file.open("wb") as file:
            ends = _write_ids(file, documents, tokenizer, verbose, keep_line_ends, size)
        np.save(new_ends_file, ends)
        # The file of ids is moved last: if it exists, the file of ends exists, too.
        os.replace(new_ends_file, _ends_file(folder, key))
        os.replace(new_ids_file, _ids_file(folder, key))
    return _load(folder, key)


class _Key:
    """Cache key of documents that are added one after the other."""

    def __init__(self, tokenizer: Tokenizer, keep_line_ends: bool):
        self._hash = hashlib.sha256(f"{_FORMAT} {tokenizer.digest()} {keep_line_ends}".encode())

    def add(self, document: Document) -> int:
        """Add a document, and return its size in bytes."""
        digest, num_bytes = document.digest()
        # A text is encoded unchanged; a file loses its byte order mark, and its line ends change.
        self._hash.update(b"file" if document.is_file else b"text")
        self._hash.update(digest)
        return num_bytes

    def adding(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yield documents, each after it was added."""
        for document in documents:
            self.add(document)
            yield document

    def __str__(self) -> str:
        return self._hash.hexdigest()


def _ids_file(folder: Path, key: _Key) -> Path:
    return folder / f"{key}.ids.npy"


def _ends_file(folder: Path, key: _Key) -> Path:
    return folder / f"{key}.ends.npy"


def _load(folder: Path, key: _Key) -> EncodedCorpus:
    ids = np.load(_ids_file(folder, key), mmap_mode="r")
    return EncodedCorpus(ids, np.load(_ends_file(folder, key)))


def _write_ids(
    file: BinaryIO,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    verbose: int,
    keep_line_ends: bool,
    size: int | None,
) -> np.ndarray:
    """Write the ids of all documents to a .npy file; return the ends of documents.

    `size` is the number of bytes of all documents, or None if it is unknown.
    """
    dtype = np.dtype(np.uint16 if tokenizer.vocabulary_size <= 1 << 16 else np.uint32)
    end_of_text = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
    _write_header(file, dtype, 0)
    header_size = file.tell()
    target = None if size is None else math.ceil(size / 1e6)
    progress = keras.utils.Progbar(target, unit_name="MB", verbose=verbose)
    total, ends, done = 0, array.array("q"), 0
    is_first = True
    batches = _batches(_pieces(documents, tokenizer, keep_line_ends))
    if size is None:
        size, batches = _size_of_beginning(batches)
    encode = tokenizer.encode if size < _SMALL_BYTES else tokenizer.corpus_encoder()
    for batch, rows in _encoded(batches, encode):
        for (text, is_last), ids in zip(batch, rows, strict=True):
            if is_first:
                ids = [*tokenizer.prompt_start, *ids]
            if is_last:
                ids = [*ids, *end_of_text]
            is_first = is_last
            file.write(np.asarray(ids, dtype).tobytes())
            total += len(ids)
            if is_last:
                ends.append(total)
            done += len(text.encode("utf-8", errors="surrogatepass"))
        progress.update(math.ceil(done / 1e6))
    # Files have more bytes than their texts if line ends were normalized.
    progress.update(target or math.ceil(done / 1e6), finalize=True)
    # NumPy reserves room in the header for a longer shape.
    file.seek(0)
    _write_header(file, dtype, total)
    if file.tell() != header_size:
        raise RuntimeError("NumPy wrote two .npy headers of different sizes.")
    return np.array(ends, np.int64)


def _size_of_beginning(batches: Iterator[list]) -> tuple[int, Iterator[list]]:
    """Return the number of characters and the batches; count up to `_SMALL_BYTES`."""
    taken, size = [], 0
    for batch in batches:
        taken.append(batch)
        size += sum(len(text) for text, _ in batch)
        if size >= _SMALL_BYTES:
            break
    return size, itertools.chain(taken, batches)


def _encoded(
    batches: Iterator[list[tuple[str, bool]]], encode: Callable[[list[str]], Sequence]
) -> Iterator[tuple[list[tuple[str, bool]], Sequence]]:
    """Yield each batch and the ids of its pieces, in order; encode batches ahead."""
    with ThreadPoolExecutor(_BATCHES_AHEAD) as pool:
        waiting = collections.deque()
        for batch in batches:
            waiting.append((batch, pool.submit(encode, [piece for piece, _ in batch])))
            if len(waiting) > _BATCHES_AHEAD:
                batch, rows = waiting.popleft()
                yield batch, rows.result()
        for batch, rows in waiting:
            yield batch, rows.result()


def _write_header(file: BinaryIO, dtype: np.dtype, length: int) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)


def _pieces(
    documents: Iterable[Document], tokenizer: Tokenizer, keep_line_ends: bool
) -> Iterator[tuple[str, bool]]:
    """Yield pieces of documents, and whether each piece ends its document.

    Documents are cut only where the tokenizer's `safe_cut` allows it.
    """
    for document in documents:
        texts = document.pieces(keep_line_ends)
        piece = ""
        for next_piece in cut_into_pieces(texts, tokenizer.safe_cut, _PIECE_CHARACTERS):
            if piece:
                yield piece, False
            piece = next_piece
        yield piece, True


def _batches(pieces: Iterator[tuple[str, bool]]) -> Iterator[list[tuple[str, bool]]]:
    batch, size = [], 0
    for text, is_last in pieces:
        batch.append((text, is_last))
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
