"""Models on the Hugging Face hub: `hf://owner/name` or `hf://owner/name@revision`."""

import pathlib
import re

from gpt_keras.convert.safetensors_files import require

PREFIX = "hf://"

# Download the weights in one format only. Many repositories also have them for PyTorch,
# TensorFlow or ONNX, or in the publisher's own format.
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "*.h5"]
_UNWANTED = ["*/*", "consolidated*", "tf_model.h5", "original*"]


def download(source: str) -> pathlib.Path:
    """Download a model from the hub, unless it is cached, and return its folder.

    Hugging Face's cache also works without a network. The environment variables of the
    huggingface_hub package apply: `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`.

    Args:
        source: `hf://owner/name` or `hf://owner/name@revision`. A revision is a branch, a tag or a
            commit.

    Returns:
        Path of the folder in Hugging Face's cache.

    Raises:
        ValueError: `source` does not have this form, or the download fails.
        ImportError: The package huggingface_hub is not installed.
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
