"""Models on the Hugging Face hub, named `hf://owner/name` or `hf://owner/name@revision`."""

import pathlib
import re

from gpt_keras.convert.safetensors_files import require

PREFIX = "hf://"

# The weights once, and not as PyTorch, TensorFlow, ONNX or the publisher's own files as well.
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "*.h5"]
_UNWANTED = ["*/*", "consolidated*", "tf_model.h5", "original*"]


def download(source: str) -> pathlib.Path:
    """Download a model from the hub, or find it in the cache, and return its folder.

    Args:
        source: `hf://owner/name`, and `@revision` after it for a branch, tag or commit. What is in
            Hugging Face's cache is taken from there, without a network, too; its environment
            variables (`HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`) are honoured.

    Raises:
        ValueError: The name is not of that form, or there is no such model.
        ImportError: huggingface_hub is not installed.
    """
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source)
    if match is None:
        raise ValueError(
            f"`source` must be hf://owner/name or hf://owner/name@revision, got {source!r}."
        )
    hub = require("huggingface_hub")
    errors = require("huggingface_hub.errors")
    try:
        folder = hub.snapshot_download(
            match[1], revision=match[2], allow_patterns=_WANTED, ignore_patterns=_UNWANTED
        )
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError) as error:
        raise ValueError(f"{source!r} cannot be downloaded: {error}") from error
    return pathlib.Path(folder)
