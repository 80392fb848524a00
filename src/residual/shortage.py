"""What is said when memory is not enough: the frameworks tell of bytes, and a person asks which option to change."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from residual.recipe import Recipe

Event = TypeVar("Event")
GENERAL = (
    "There is not enough memory for this. Other programs may hold it; else a smaller model or smaller pictures need less, and a training "
    "with a smaller --batch-size too."
)
_TYPES = ("OutOfMemoryError", "ResourceExhaustedError")  # PyTorch's of a GPU, TensorFlow's
_WORDS = ("can't allocate memory", "out of memory", "not enough memory", "ALLOC_FAILED", "std::bad_alloc", "RESOURCE_EXHAUSTED")


def lacks_memory(error: BaseException) -> bool:
    """Whether an error tells of too little memory; most frameworks have only words for that."""
    return isinstance(error, MemoryError) or type(error).__name__ in _TYPES or any(word in str(error) for word in _WORDS)


@contextmanager
def enough_memory(recipe: Recipe, size: tuple[int, int], *, parts: bool = True) -> Iterator[None]:
    """Inside, a training's steps on pictures of `size`; a lack of memory becomes a ValueError that names the batch and what to take
    instead. `parts`: batches can be done in parts."""
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise ValueError(_told(recipe, size, parts)) from error


def within_memory(events: Iterator[Event], recipe: Recipe, size: tuple[int, int], *, parts: bool = True) -> Iterator[Event]:
    """The same events, made inside `enough_memory`; what is done with them is not."""
    with enough_memory(recipe, size, parts=parts):
        yield from events


def _told(recipe: Recipe, size: tuple[int, int], parts: bool) -> str:
    pictures = "a picture" if recipe.batch_size == 1 else f"batches of {recipe.batch_size} pictures"
    done = f" in up to {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
    said = f"There is not enough memory for {pictures} of {size[0]}x{size[1]}{done}: train anew with "
    if parts and recipe.batch_size > recipe.accumulate:
        more = min(2 * recipe.accumulate, recipe.batch_size)
        said += f"--accumulate {more}, which does each in {more} parts, "
    if recipe.batch_size > 1:
        said += f"--batch-size {recipe.batch_size // 2}, or "
    return said + "a smaller --image-size or --model."
