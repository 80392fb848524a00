"""How a picture becomes the numbers a network sees; it travels inside the saved model, so that nobody has to guess it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Views = Literal["one", "mirrored", "shifts", "both"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """(pixels / 255 - mean) / std on pictures whose short side was resized to fit and whose centre was cut to `size`.

    Attributes:
        size: height and width in pixels.
        channels: 1 grey, 3 colour.
        mean: one number per channel, or one per pixel (channels x height x width, flat) as in the 2015 paper.
        std: one number per channel.
        crop: share of the short side that is kept in evaluation (0.875 is the 224 of 256 of the papers).
        views: what is shown of a picture that the network is not sure of: only itself, also its mirror image, also the picture
            shifted by one pixel to each side, or both: also these shifts of the mirror image. The answer is the mean of the probabilities.
    """

    size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float = 1.0
    views: Views = "one"

    def __post_init__(self) -> None:
        pixels = self.channels * self.size[0] * self.size[1]
        numbers = (*self.mean, *self.std)
        if min(*self.size, self.channels) < 1 or not 0 < self.crop <= 1 or not all(map(math.isfinite, numbers)):
            raise ValueError(
                f"Preprocessing has size {self.size}, {self.channels} channels and crop {self.crop}: sizes start at 1, "
                "a crop lies above 0 and at most at 1, and means and deviations are finite."
            )
        if self.views not in get_args(Views):
            raise ValueError(f"Preprocessing has the views {self.views!r}, but they are one of {', '.join(get_args(Views))}.")
        if len(self.mean) not in (self.channels, pixels) or len(self.std) != self.channels or min(self.std) <= 0:
            raise ValueError(
                f"Preprocessing for {self.channels} channels has {len(self.mean)} means and {len(self.std)} stds (all above 0)."
            )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def mean_array(self) -> npt.NDArray[np.float32]:
        """channels x 1 x 1, or channels x height x width."""
        shape = (self.channels, 1, 1) if len(self.mean) == self.channels else (self.channels, *self.size)
        return np.asarray(self.mean, np.float32).reshape(shape)

    def std_array(self) -> npt.NDArray[np.float32]:
        """channels x 1 x 1."""
        return np.asarray(self.std, np.float32).reshape(-1, 1, 1)

    def normalise(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """N C H W float32 of N H W C uint8 pictures that are already of `size`."""
        pixels = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
        return np.ascontiguousarray((pixels - self.mean_array()) / self.std_array())


def preprocessing_from(values: Mapping[str, Any]) -> Preprocessing:
    """The inverse of `as_dict`. ValueError where a field is missing or not a number."""
    try:
        height, width = values["size"]
        return Preprocessing(
            size=(int(height), int(width)),
            channels=int(values["channels"]),
            mean=tuple(float(v) for v in values["mean"]),
            std=tuple(float(v) for v in values["std"]),
            crop=float(values["crop"]),
            views=values.get("views", "one"),  # files of before there were views
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"its preprocessing is incomplete: {error}") from error
