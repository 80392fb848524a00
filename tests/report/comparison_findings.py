"""Results of the studies that build or train what they look at, with numbers that are known."""

import numpy as np

from residual.study import blocks, degradation, nesting, reproduction
from residual.study.claims import Claim, spread

CLAIM = Claim(claim="deeper is worse", source="a paper", verdict="agrees", reason="so it is.")


def degradation_result() -> degradation.Result:
    """Plain nets end at 20 and 30 % in training, residual ones at 10 and 5 %; two seeds, 2 points apart; 10 points more held out."""
    ends = {("plain", 8): 0.2, ("plain", 14): 0.3, ("residual", 8): 0.1, ("residual", 14): 0.05}
    nets, curves = [], []
    for (kind, depth), end in ends.items():
        by_epoch = [spread([end + 0.2 - 0.01, end + 0.2 + 0.01]), spread([end - 0.01, end + 0.01])]
        held = [spread([value.low + 0.1, value.high + 0.1]) for value in by_epoch]
        nets.append(
            degradation.Net(
                kind=kind, depth=depth, parameters=1000 * depth, train_error=tuple(by_epoch), validation_error=tuple(held),
                final_train=by_epoch[-1], final_validation=held[-1],
            )
        )  # fmt: skip
        for seed in range(2):
            curves.append(
                degradation.Curve(
                    kind=kind, depth=depth, seed=seed, train_error=(0.5, end), train_loss=(1.0, 0.5), validation_error=(0.5, end),
                    layers=("conv1", "fc"), gradients_first=((1.0 + seed) * 14 / depth, 2.0), gradients_last=(0.1, 0.2), seconds=1.0,
                )
            )  # fmt: skip
    return degradation.Result(epochs=2, seeds=2, widths=(8, 16, 32), nets=tuple(nets), curves=tuple(curves), claims=(CLAIM,))


def nesting_result() -> nesting.Result:
    x = np.linspace(0, 1, 5)

    def classes(kind, exact: bool, worse: float) -> nesting.Classes:
        runs = ((1.0, 0.5, 0.25), (3.0, 0.5, 0.25))
        return nesting.Classes(
            label=f"{kind} classes", kind=kind, told="one more", exact=exact, unit="functions", sizes=(1, 2, 4),
            loss=tuple(spread(values) for values in zip(*runs, strict=True)), runs=runs, worse=worse,
        )  # fmt: skip

    found = (classes("nested", True, 0.0), classes("not nested", True, 0.5), classes("nested", False, 0.25))
    return nesting.Result(target_told="a <b>wave</b>", target_x=tuple(x), target_y=tuple(np.sin(x)), classes=found, claims=(CLAIM,))


def blocks_result() -> blocks.Result:
    """The real comparison, without timing."""
    return blocks.study(batch=0, rounds=0, side=8).result


def reproduction_result() -> reproduction.Result:
    rows = tuple(
        reproduction.Row(
            what=what, unit="%", source="table 6", rule="spread", digits=2, published=8.75, values=values,
            spread=spread(values) if values else None, margin=0.3 if values else None, verdict=verdict, lacks=(),
        )
        for what, values, verdict in (("ResNet-20, test error", (8.5, 8.9, 8.7), "agrees"), ("ResNet-56, test error", (), "cannot tell"))
    )  # fmt: skip
    curves = tuple(reproduction.Curve(net=net, seed=0, train=(0.9, 0.2), validation=(0.9, 0.3)) for net in ("ResNet-20", "Plain-20"))
    return reproduction.Result(
        target="table6", title="CIFAR-10", source="He et al. 2015", mode="small", rules=("A rule.",), rows=rows, claims=(CLAIM,),
        curves=curves, notes=("A note.",), verdict="agrees", lacks=(), told="agrees",
    )  # fmt: skip
