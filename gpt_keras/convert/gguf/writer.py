"""Writing GGUF files: metadata at once, tensors one after the other."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def require_gguf():
    """Import the `gguf` package.

    Raises:
        ImportError: It is not installed; the message gives the line that installs it.
    """
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise ImportError("GGUF files need gguf: pip install 'gpt_keras[hub]'") from error


@contextlib.contextmanager
def open_writer(
    path,
    architecture: str,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, tuple[tuple[int, ...], Any]],
) -> Iterator[Any]:
    """Write all of a file but the tensors' values, and give the writer that takes these.

    Args:
        path: The file.
        architecture: What `general.architecture` says.
        metadata: The values by their names: texts, numbers, lists of either.
        tensors: Shape in NumPy's order and `gguf.GGMLQuantizationType` of every tensor.

    Yields:
        A `gguf.GGUFWriter`, whose `write_tensor_data` takes the tensors in the same order.
    """
    gguf = require_gguf()
    writer = gguf.GGUFWriter(path, architecture)
    try:
        for key, value in metadata.items():
            writer.add_key_value(key, value, _value_type(value))
        for name, (shape, kind) in tensors.items():
            bytes_shape = gguf.quant_shape_to_byte_shape(shape, kind)
            writer.add_tensor_info(name, bytes_shape, np.uint8, int(np.prod(bytes_shape)), kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        yield writer
    finally:
        writer.close()


def _value_type(value):
    types = require_gguf().GGUFValueType
    if isinstance(value, list):
        return types.ARRAY
    kinds = {bool: types.BOOL, str: types.STRING, float: types.FLOAT32, int: types.UINT32}
    return kinds[type(value)]
