"""A check of the number of axes of an input."""


def check_axes(shape, *axes: str) -> None:
    """Raise `ValueError` unless a shape has the given axes.

    Args:
        shape: Shape of the input, with None for unknown sizes.
        *axes: Name of each axis, such as `"batch"`; the error names them.

    Raises:
        ValueError: The shape has another number of axes.

    Example:
        >>> check_axes((2, 5, 16), "batch", "length", "hidden_dim")
    """
    if len(shape) != len(axes):
        raise ValueError(
            f"The input must have the shape ({', '.join(axes)}), got shape {tuple(shape)}."
        )
