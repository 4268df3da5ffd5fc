"""The ids of a corpus, kept on disk.

Encoding a corpus takes longer than reading its ids, so the ids are written once, as they come, and
mapped into memory from then on: neither writing nor reading needs memory for the whole corpus.
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

# Part of every key: change it when the same input gives other files.
_FORMAT = "2"

_PIECE_CHARACTERS = 1 << 16
_BATCH_CHARACTERS = 1 << 20
_BATCHES_AHEAD = 2

# A small corpus is encoded before the fastest encoder would be made.
_SMALL_BYTES = 2_000_000
_READ_BYTES = 1 << 20


class EncodedCorpus(NamedTuple):
    """The ids of a corpus.

    Attributes:
        ids: `(tokens,)` ids of all documents, each after the tokenizer's `prompt_start` and
            followed by its `end_of_text_id`, if it has one; uint16 or uint32, mapped from disk.
        ends: `(documents,)` int64, where in `ids` each document ends.
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
    """Encode documents, or take their ids from the cache.

    The key is made of the tokenizer's content and the documents' content: neither a file's name
    nor its time matters.

    Args:
        documents: Texts and files, none of them empty.
        tokenizer: The tokenizer.
        cache_dir: Where the ids are kept; None for `gpt_keras.cache.default_cache_dir()`.
        verbose: 1 shows a progress bar while encoding.
        keep_line_ends: As in `read_text`.

    Returns:
        The ids, mapped into memory, and where each document ends.

    Raises:
        ValueError: A file is not UTF-8, the tokenizer cannot encode a text, or nothing can be
            written to `cache_dir`.
    """
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    key = _key(documents, tokenizer, keep_line_ends)
    ids_file, ends_file = folder / f"{key}.ids.npy", folder / f"{key}.ends.npy"
    # The file of ids is put in place last: where it is, the other one is, too.
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
        # A text stays as it is, while a file loses its byte order mark and its line ends.
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
    """Write the ids of all documents as a .npy file; return where each document ends."""
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
    # Files have more bytes than their texts where line ends were normalized.
    progress.update(progress.target, finalize=True)
    # numpy leaves room in the header for a longer shape.
    file.seek(0)
    _write_header(file, dtype, total)
    if file.tell() != header_size:
        raise RuntimeError("numpy wrote two .npy headers of different sizes.")
    return np.array(ends, np.int64)


def _encoded(
    batches: Iterator[list[tuple[str, bool]]], encode: Callable[[list[str]], Sequence]
) -> Iterator[tuple[list[tuple[str, bool]], Sequence]]:
    """Yield each batch and the ids of its pieces, in order; encode some batches ahead."""
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
    """Cut documents where the tokenizer allows; yield pieces and whether each ends a document."""
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
