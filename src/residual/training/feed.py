"""Where the loop's batches come from: a tensor that holds every picture on the device, or workers that decode ahead of it.

Both hand out uint8 pictures for lists of indices, so that the order, and with it a resumed run, is the loop's alone.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from residual.data import Decoded, Lazy, Problem
from residual.preprocessing import Preprocessing

Batch = tuple[Tensor, Tensor, Tensor]  # pictures uint8 N H W C, labels int64 N, indices int64 N


class Feed(Protocol):
    """A labelled set of pictures of one size."""

    labels: npt.NDArray[np.int64]

    def __len__(self) -> int: ...

    def read(self, chunks: Sequence[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        """One batch for each array of indices, in their order, on the feed's device."""
        ...


class Resident:
    """Pictures in one uint8 tensor on `device`: all of `decoded`, or those at `indices`, which are then looked up and not copied."""

    def __init__(self, decoded: Decoded, indices: npt.NDArray[np.int64] | None, device: torch.device) -> None:
        self.images = torch.from_numpy(decoded.images).to(device)
        self._take(decoded.labels, np.arange(len(decoded.labels)) if indices is None else indices)

    def part(self, labels: npt.NDArray[np.int64], indices: npt.NDArray[np.int64]) -> "Resident":
        """The pictures at `indices` of the same tensor; `labels` are those of all its pictures."""
        other = copy.copy(self)
        other._take(labels, indices)
        return other

    def _take(self, labels: npt.NDArray[np.int64], indices: npt.NDArray[np.int64]) -> None:
        self.labels = labels[indices]
        self.rows = torch.from_numpy(indices).to(self.images.device)
        self.targets = torch.from_numpy(self.labels).to(self.images.device)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, chunks: Sequence[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        for chunk in chunks:
            index = torch.from_numpy(chunk).to(self.images.device)
            yield self.images[self.rows[index]], self.targets[index], index


class Streamed:
    """Pictures decoded by `workers` processes, a few batches ahead; one that turns out to be bad is left out of its batch and told in
    `problems`: file -> reason.
    """

    def __init__(self, lazy: Lazy, indices: npt.NDArray[np.int64] | None, device: torch.device, workers: int) -> None:
        self.lazy, self.device, self.workers = lazy, device, workers
        self.indices = np.arange(len(lazy)) if indices is None else indices
        self.labels = lazy.labels[self.indices]
        self.problems: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, chunks: Sequence[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        loader: DataLoader[Any] = DataLoader(
            _Pictures(self.lazy), batch_sampler=[self.indices[chunk].tolist() for chunk in chunks],
            num_workers=self.workers, collate_fn=_gather, prefetch_factor=2 if self.workers else None,
        )  # fmt: skip
        for chunk, (images, good, problems) in zip(chunks, loader, strict=True):
            self.problems.update(problems)
            if len(good):
                kept = chunk[good]
                yield (
                    images.to(self.device),
                    torch.from_numpy(self.labels[kept]).to(self.device),
                    torch.from_numpy(kept).to(self.device),
                )


class _Pictures(Dataset[Any]):
    """What a worker process reads: the index it was asked for, and the picture or what is wrong with it."""

    def __init__(self, lazy: Lazy) -> None:
        self.lazy = lazy

    def __len__(self) -> int:
        return len(self.lazy)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8] | None, str, str]:
        found = self.lazy.read(index)
        return (None, found.file, found.reason) if isinstance(found, Problem) else (found, "", "")


def _gather(items: list[tuple[npt.NDArray[np.uint8] | None, str, str]]) -> tuple[Tensor, npt.NDArray[np.int64], dict[str, str]]:
    good = np.array([i for i, (image, _, _) in enumerate(items) if image is not None], np.int64)
    images = [image for image, _, _ in items if image is not None]
    stacked = torch.from_numpy(np.stack(images)) if images else torch.empty(0, dtype=torch.uint8)
    return stacked, good, {name: reason for image, name, reason in items if image is None}


class Normaliser:
    """uint8 N H W C on a device -> float N C H W (channels last in memory), as `preprocessing` says.

    A per-pixel mean is stretched to the size of the pictures.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        std = torch.from_numpy(preprocessing.std_array()).to(device)
        self.scale = 1 / (255 * std)
        self.shift = -torch.from_numpy(preprocessing.mean_array()).to(device) / std

    def __call__(self, images: Tensor) -> Tensor:
        shift, size = self.shift, tuple(images.shape[1:3])
        if tuple(shift.shape[1:]) not in ((1, 1), size):
            shift = F.interpolate(shift[None], size=size, mode="bilinear", antialias=True)[0]
        return images.permute(0, 3, 1, 2).to(torch.float32) * self.scale + shift


def centre_cut(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle `size` of N C H W."""
    top, left = (x.shape[2] - size[0]) // 2, (x.shape[3] - size[1]) // 2
    return x[:, :, top : top + size[0], left : left + size[1]]
