"""Checks of arguments that several functions take."""


def check_positive(**values: int) -> None:
    """Raises `ValueError` for the first value that is not an integer of at least 1."""
    for name, value in values.items():
        if not _is_integer(value) or value < 1:
            raise ValueError(f"`{name}` must be an integer of at least 1, but is {value!r}.")


def check_seed(seed: int) -> None:
    """Raises `ValueError` if `seed` is not an integer from 0 to 2**63 - 1."""
    if not _is_integer(seed) or not 0 <= seed < 2**63:
        raise ValueError(f"`seed` must be an integer from 0 to 2**63 - 1, but is {seed!r}.")


def _is_integer(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)
