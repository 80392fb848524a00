"""What a weight file of another library holds, said in our terms; every format's reader gives one of these.

The surprising thing: `preprocessing` belongs to `weights`. A library that wants other pixels than red, green, blue in [0, 1] has them
brought there by its reader, in the first convolution if need be, and `notes` says so.
"""

from dataclasses import dataclass

from residual.architecture import Architecture
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.weights import SavedModel, Weights, check


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a foreign file holds, in our terms; ValueError where the weights are not complete, or hold NaN.

    Attributes:
        format: the format's name: "torchvision", "timm", "transformers", "keras", "gluon", "chapter", "cifar" or "residual".
        pairs: our tensor's name -> theirs.
        notes: sentences on what was inferred or decided.
    """

    format: str
    architecture: Architecture
    weights: Weights
    pairs: dict[str, str]
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(plan(self.architecture), self.weights)

    def saved(self) -> SavedModel:
        """The same as one of our model files holds it."""
        return SavedModel(architecture=self.architecture, weights=self.weights, classes=self.classes, preprocessing=self.preprocessing)
