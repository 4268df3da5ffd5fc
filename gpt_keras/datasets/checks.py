"""A check of an argument that several functions take."""


def check_seed(seed: int) -> None:
    """Raises `ValueError` if `seed` is not an integer from 0 to 2**63 - 1."""
    is_integer = hasattr(seed, "__index__") and not isinstance(seed, bool)
    if not is_integer or not 0 <= seed < 2**63:
        raise ValueError(f"`seed` must be an integer from 0 to 2**63 - 1, got {seed!r}.")
