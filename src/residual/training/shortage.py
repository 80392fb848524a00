"""What is said when a training's memory is not enough: PyTorch tells of bytes, and a person asks which option to change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from residual.recipe import Recipe


@contextmanager
def enough_memory(recipe: Recipe, size: tuple[int, int]) -> Iterator[None]:
    """Inside, steps on pictures of `size`; a lack of memory becomes a ValueError that names the batch and what to take instead."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_lack(error):
            raise
        raise ValueError(_told(recipe, size)) from error


def _is_lack(error: BaseException) -> bool:
    """Of a GPU's memory PyTorch has a type, of a CPU's only words."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _told(recipe: Recipe, size: tuple[int, int]) -> str:
    parts = f" in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
    pictures = "a picture" if recipe.batch_size == 1 else f"batches of {recipe.batch_size} pictures"
    said = f"There is not enough memory for {pictures} of {size[0]}x{size[1]}{parts}: try "
    if recipe.batch_size > recipe.accumulate:
        more = min(2 * recipe.accumulate, recipe.batch_size)
        said += f"--accumulate {more}, which does each in {more} parts, --batch-size {recipe.batch_size // 2}, or "
    return said + "a smaller --image-size or --model."
