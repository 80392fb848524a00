"""`residual grow`: a trained network made deeper without changing what it computes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class Grow:
    """Deepens a trained network by blocks that compute the identity, checks that its logits are the same, and writes the model file.

    Train it on with `residual train DATA --start FILE`. A plain network cannot grow.
    """

    model: Positional[Annotated[str, arg(metavar="RUN_OR_MODEL", help_behavior_hint="")]]
    """The run or model file (of any known library) to start from."""
    to: Annotated[str, arg(metavar="VARIANT")]
    """A deeper variant of the same family, or blocks per stage: 3,4,6,3."""
    out: Annotated[str, arg(metavar="FILE", help_behavior_hint="")] = ""
    """The file to write; MODEL-grown.safetensors where none is named."""
    seed: int = 0
    """Of the new blocks' first values."""

    def run(self) -> int:
        from residual.plan import plan
        from residual.study.grow import grown, target
        from residual.study.subjects import depth_of, open_subject
        from residual.weights import SavedModel, save

        subject = open_subject(self.model)
        if not subject.trained:
            raise ValueError(f"{self.model} is a variant with first values: name a run or a model file to grow.")
        saved = SavedModel(
            architecture=subject.network.architecture, weights=subject.weights, classes=subject.classes, preprocessing=subject.preprocessing
        )
        found = grown(saved, target(saved.architecture, self.to), seed=self.seed)
        place = Path(self.out) if self.out else Path(f"{subject.label}-grown.safetensors")
        save(place, found.saved)
        depths = depth_of(plan(saved.architecture)), depth_of(plan(found.saved.architecture))
        print(f"{subject.label}: from {depths[0]} to {depths[1]} layers; {len(found.added)} new blocks: {', '.join(found.added)}.")
        print(f"Logits of old and new differ by at most {found.difference:.1e} on {found.pictures} random pictures.")
        print(f"Written: {place}. Train it on: residual train DATA --start {place}")
        return 0
