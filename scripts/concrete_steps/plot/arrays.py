"""From whatever a learner has (a tensor with a gradient, bfloat16, on a GPU, an array, a list) to what Plotly draws."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from concrete_steps.errors import CourseError

MOST_VALUES = 250_000  # 500 by 500: more than the pixels of a figure, and over 1 MB in the saved notebook


def to_array(values, what: str = "the values") -> np.ndarray:
    """`values` as a NumPy array: float32 for anything with a decimal point, integers as they are.

    Args:
        values: a torch tensor (gradient, bfloat16 and CUDA are fine), an array, a number, or a list of any of these.
        what: how a message calls them.

    Raises:
        CourseError: when they are not numbers, or a list whose parts differ in shape.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    elif isinstance(values, Sequence) and not isinstance(values, str):
        parts = [to_array(part, what) for part in values]
        if len({part.shape for part in parts}) > 1:
            shapes = ", ".join(str(list(part.shape)) for part in parts[:4])
            raise CourseError(f"{what} is a list whose parts have different shapes ({shapes}): make them equal.")
        values = np.stack(parts) if parts else np.empty(0)
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise CourseError(f"{what} must be real numbers, not {type(values).__name__} of type {array.dtype}.")
    return array.astype({"b": np.int8, "f": np.float32}.get(array.dtype.kind, array.dtype))


def with_dims(values, dims: Sequence[int], what: str, axes: str, most: int | None = MOST_VALUES) -> np.ndarray:
    """`to_array(values)`, checked to have one of `dims` dimensions, some values, and at most `most` to store.

    Args:
        axes: what a message says the shape should be, like "[row column]".

    Raises:
        CourseError: when it has not.
    """
    array = to_array(values, what)
    if array.ndim not in dims:
        raise CourseError(f"{what} has shape {list(array.shape)}, but {axes} is needed: index or squeeze it first.")
    if array.size == 0:
        raise CourseError(f"{what} has shape {list(array.shape)}, so there is nothing to draw.")
    if most is not None and array.size > most:
        raise CourseError(
            f"{what} has shape {list(array.shape)}, which is {array.size:,} numbers to store in the notebook: "
            f"draw a part of it, at most {most:,}."
        )
    return array


def finite(array: np.ndarray) -> np.ndarray:
    """`array` with NaN for infinity, which Plotly leaves blank (a causal mask's minus infinity, say)."""
    return array if array.dtype.kind != "f" else np.where(np.isfinite(array), array, np.nan)


def largest(array: np.ndarray) -> float:
    """The largest finite magnitude, or 1 when all are zero: the end of a colour scale."""
    return float(np.nanmax(np.abs(finite(array)), initial=0)) or 1.0


def span(array: np.ndarray) -> str:
    """The finite values' range in words: "-1.5 to 3"."""
    kept = array[np.isfinite(array)]
    return f"{kept.min():.3g} to {kept.max():.3g}" if kept.size else "no finite value"


def check_length(labels: Sequence, length: int, what: str, of: str) -> None:
    """One clear sentence when there are more or fewer labels than things to label."""
    if isinstance(labels, str):
        raise CourseError(f"{what} is the single string {labels!r}: give a list of {length}, one for each {of}.")
    if len(labels) != length:
        raise CourseError(f"{what} has {len(labels)} entries, but there are {length} to label: one for each {of}.")


def named_groups(values, names, kind: str, most: int | None = MOST_VALUES) -> tuple[list[str], list[np.ndarray]]:
    """Names and one [point] array each, from one array, several of any lengths, or a dict.

    Args:
        values: [point], [group point], a list of [point], or a dict from names to [point].
        names: one for each group; by default `kind` and a number (or the dict's keys).
        kind: what a group is called: "curve".

    Raises:
        CourseError: for a wrong shape, or names that do not fit.
    """
    if isinstance(values, Mapping):
        names, values = list(values) if names is None else names, list(values.values())
    if not _is_list_of_arrays(values):
        array = with_dims(values, (1, 2), f"the values for {kind}s", f"[point] or [{kind} point]", most)
        values = array if array.ndim == 2 else array[None]
    groups = [with_dims(part, (1,), f"{kind} {i}", "[point]", most) for i, part in enumerate(values)]
    if names is None:
        return [f"{kind} {i}" for i in range(len(groups))], groups
    if not isinstance(names, str) and len(names) == len(groups[0]) != len(groups):
        raise CourseError(
            f"names has {len(names)} entries for {len(groups)} {kind}s of {len(groups[0])} points: "
            f"the first axis is the {kind}, so you may want the transpose (.T)."
        )
    check_length(names, len(groups), "names", kind)
    return [str(name) for name in names], groups


def _is_list_of_arrays(values) -> bool:
    """True for [tensor(3 values), tensor(5 values)], false for a tensor and for a list of numbers."""
    return isinstance(values, list | tuple) and any(
        part.ndim > 0 if hasattr(part, "ndim") else isinstance(part, list | tuple) for part in values
    )


def show_token(token) -> str:
    """A token as the eye needs it: spaces as `·`, line ends as `↵`, special tokens in square brackets.

    `<bos>` and `<|endoftext|>` become `[BOS]` and `[ENDOFTEXT]`, because a browser takes `<bos>` for a tag and shows
    nothing. The byte-level marks of GPT-2's vocabulary (`Ġ`, `Ċ`) and SentencePiece's `▁` are read as what they mean.
    """
    token = str(token)
    special = re.fullmatch(r"<\|(\w+)\|>|<(/?s|bos|eos|pad|unk|mask|cls|sep)>", token.strip(), re.IGNORECASE)
    if special:
        return f"[{(special[1] or special[2]).upper()}]"
    for hidden, shown in {" ": "·", "Ġ": "·", "▁": "·", "\r": "", "\n": "↵", "Ċ": "↵", "\t": "⇥"}.items():
        token = token.replace(hidden, shown)
    return token or "[EMPTY]"


def show_tokens(tokens: Sequence, length: int, what: str = "tokens") -> list[str]:
    """Each of `tokens` through `show_token`, checked to be `length` of them.

    Raises:
        CourseError: for a single string, or another number of tokens.
    """
    tokens = tokens.tolist() if hasattr(tokens, "tolist") else tokens
    check_length(tokens, length, what, "position")
    return [show_token(token) for token in tokens]


def plain(text) -> str:
    """`text` with `<` and `&` shown as they are: Plotly and HTML would read them as mark-up."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;")
