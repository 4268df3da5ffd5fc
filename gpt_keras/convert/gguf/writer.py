"""A writer of GGUF files: the metadata first, then one tensor after the other."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def require_gguf():
    """Return the imported `gguf` package.

    Raises:
        ImportError: The package is not installed; the message gives the `pip` command.
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
    """Write the header of a GGUF file; yield a writer for the values of the tensors.

    Args:
        path: The file.
        architecture: Value of `general.architecture`.
        metadata: Values by key: texts, numbers, booleans, and lists of them.
        tensors: Shape in NumPy's order and `gguf.GGMLQuantizationType` of every tensor.

    Yields:
        A `gguf.GGUFWriter`. Call its `write_tensor_data` for the tensors in the same order.
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
