"""The check of an input's number of axes, which says what each axis is."""


def check_axes(shape, *axes: str) -> None:
    """Raise `ValueError` unless a shape has the given axes.

    Args:
        shape: Shape of the input, with None for sizes that are unknown.
        *axes: Name of each axis, such as `"batch"`.

    Example:
        >>> check_axes((2, 5, 16), "batch", "length", "hidden_dim")
    """
    if len(shape) != len(axes):
        raise ValueError(
            f"The input must have the shape ({', '.join(axes)}), got shape {tuple(shape)}."
        )
