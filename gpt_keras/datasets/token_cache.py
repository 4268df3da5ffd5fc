"""The token cache: the ids of a corpus, stored on disk.

Encoding a corpus takes longer than reading its ids. So the ids are written to disk once, while they
are encoded, and then mapped into memory. Neither writing nor reading needs memory for the whole
corpus.
"""

import collections
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import keras
import numpy as np

from gpt_keras.atomic import atomic_file
from gpt_keras.cache import check_cache_dir, default_cache_dir
from gpt_keras.datasets.documents import document_digest
from gpt_keras.tokenizers import Tokenizer
from gpt_keras.tokenizers.text_files import cut_into_pieces, read_text

# Part of every key: change it when the same input produces different files.
_FORMAT = "2"

_PIECE_CHARACTERS = 1 << 16
_BATCH_CHARACTERS = 1 << 20
_BATCHES_AHEAD = 2

# Encoding a smaller corpus takes less time than making the tokenizer's `corpus_encoder`.
_SMALL_BYTES = 2_000_000
_READ_BYTES = 1 << 20


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
    documents: list[str | Path],
    tokenizer: Tokenizer,
    cache_dir: str | os.PathLike | None = None,
    verbose: int = 0,
    keep_line_ends: bool = False,
) -> EncodedCorpus:
    """Encode documents, or load their ids from the cache.

    The cache key depends on the tokenizer, the content of the documents and `keep_line_ends`. File
    names and file times do not matter.

    Args:
        documents: Texts and files, none of them empty.
        tokenizer: The tokenizer.
        cache_dir: Directory of the cache; None for `gpt_keras.cache.default_cache_dir()`.
        verbose: 1 shows a progress bar while encoding.
        keep_line_ends: As in `read_text`.

    Returns:
        The ids, mapped into memory, and the end of each document.

    Raises:
        ValueError: A file is not UTF-8, the tokenizer cannot encode a text, or `cache_dir` is not
            writable.
    """
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    key = _key(documents, tokenizer, keep_line_ends)
    ids_file, ends_file = folder / f"{key}.ids.npy", folder / f"{key}.ends.npy"
    # The file of ids is moved into place last: if it exists, the file of ends exists, too.
    if not ids_file.exists():
        check_cache_dir(folder)
        with atomic_file(ids_file) as new_ids_file, atomic_file(ends_file) as new_ends_file:
            with new_ids_file.open("wb") as file:
                ends = _write_ids(file, documents, tokenizer, verbose, keep_line_ends)
            np.save(new_ends_file, ends)
    return EncodedCorpus(np.load(ids_file, mmap_mode="r"), np.load(ends_file))


def _key(documents: list[str | Path], tokenizer: Tokenizer, keep_line_ends: bool) -> str:
    whole = hashlib.sha256(f"{_FORMAT} {tokenizer.digest()} {keep_line_ends}".encode())
    for document in documents:
        # A text is encoded unchanged; a file loses its byte order mark, and its line ends change.
        whole.update(b"text" if isinstance(document, str) else b"file")
        whole.update(document_digest(document))
    return whole.hexdigest()


def _write_ids(
    file: BinaryIO,
    documents: list[str | Path],
    tokenizer: Tokenizer,
    verbose: int,
    keep_line_ends: bool,
) -> np.ndarray:
    """Write the ids of all documents to a .npy file; return the ends of documents."""
    dtype = np.dtype(np.uint16 if tokenizer.vocabulary_size <= 1 << 16 else np.uint32)
    end_of_text = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
    _write_header(file, dtype, 0)
    header_size = file.tell()
    megabytes = sum(map(_num_bytes, documents)) / 1e6
    progress = keras.utils.Progbar(math.ceil(megabytes), unit_name="MB", verbose=verbose)
    total, ends, done = 0, [], 0
    is_first = True
    encode = tokenizer.encode if megabytes * 1e6 < _SMALL_BYTES else tokenizer.corpus_encoder()
    pieces = _pieces(documents, tokenizer, keep_line_ends)
    for batch, rows in _encoded(_batches(pieces), encode):
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
            done += _num_bytes(text)
        progress.update(math.ceil(done / 1e6))
    # Files have more bytes than their texts if line ends were normalized.
    progress.update(progress.target, finalize=True)
    # NumPy reserves room in the header for a longer shape.
    file.seek(0)
    _write_header(file, dtype, total)
    if file.tell() != header_size:
        raise RuntimeError("NumPy wrote two .npy headers of different sizes.")
    return np.array(ends, np.int64)


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


def _num_bytes(document: str | Path) -> int:
    if isinstance(document, str):
        return len(document.encode("utf-8", errors="surrogatepass"))
    return document.stat().st_size


def _write_header(file: BinaryIO, dtype: np.dtype, length: int) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)


def _pieces(
    documents: list[str | Path], tokenizer: Tokenizer, keep_line_ends: bool
) -> Iterator[tuple[str, bool]]:
    """Yield pieces of documents, and whether each piece ends its document.

    Documents are cut only where the tokenizer's `safe_cut` allows it.
    """
    for document in documents:
        texts = iter([document])
        if not isinstance(document, str):
            texts = read_text(document, _READ_BYTES, keep_line_ends)
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
