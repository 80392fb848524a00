"""The scores, against numbers worked out by hand and published ones."""

import json

import numpy as np
import pytest

from residual.data import Problem
from residual.training.metrics import evaluation_from, measure, wilson

# Six pictures of three classes; the first answers are 0 0 1 1 2 0, so pictures 0, 2 and 4 are right.
SHARES = np.array([[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.5, 0.4], [0.0, 0.2, 0.8], [0.5, 0.1, 0.4]])
LABELS = np.array([0, 1, 1, 2, 2, 2])
NAMES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def found():
    return measure(SHARES, LABELS, split="test", classes=NAMES)


def test_shares_counts_and_confusion(found):
    assert (found.split, found.count, found.top1) == ("test", 6, 0.5)
    assert found.confusion == ((1, 0, 0), (1, 1, 0), (1, 1, 1))  # rows are the true classes
    assert found.loss == pytest.approx(-np.log([0.9, 0.3, 0.7, 0.4, 0.8, 0.4]).mean())


def test_by_class(found):
    ant, bee, cat = found.classes
    assert (ant.name, ant.support, ant.precision, ant.recall, ant.f1) == ("ant", 1, pytest.approx(1 / 3), 1.0, pytest.approx(0.5))
    assert (bee.precision, bee.recall) == (0.5, 0.5)
    assert (cat.support, cat.precision, cat.recall) == (3, 1.0, pytest.approx(1 / 3))
    assert bee.auroc == pytest.approx(7 / 8)  # of 2 x 4 pairs, the right one has the larger share in 7
    assert found.auroc == pytest.approx(np.mean([ant.auroc, bee.auroc, cat.auroc]))


@pytest.mark.parametrize("digits", [1, 15])
def test_they_are_scikit_learn_s(digits):
    """With ties (one digit) and without; one class is never right, one never there."""
    from sklearn import metrics

    rng = np.random.default_rng(digits)
    labels, names = rng.choice(5, 200, p=[0.5, 0.25, 0.24, 0.01, 0.0]), tuple("abcde")
    shares = rng.dirichlet(np.ones(5), 200) + 0.4 * np.eye(5)[labels]
    shares[:, 3] = 0
    shares = np.round(shares / shares.sum(1, keepdims=True), digits)
    found, guess = measure(shares, labels, split="test", classes=names), shares.argmax(1)
    assert found.confusion == tuple(map(tuple, metrics.confusion_matrix(labels, guess, labels=range(5)).tolist()))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, guess, labels=range(5), zero_division=0)
    for index, score in enumerate(found.classes):
        assert (score.precision, score.recall, score.f1, score.support) == pytest.approx(
            (precision[index], recall[index], f1[index], support[index]), abs=1e-15
        )
        area = metrics.roc_auc_score(labels == index, shares[:, index]) if support[index] else None
        assert score.auroc == (area if area is None else pytest.approx(area, abs=1e-14))
    own = shares[np.arange(200), labels]
    assert found.loss == pytest.approx(metrics.log_loss(np.arange(400) < 200, np.concatenate([own, np.zeros(200)])) * 2, abs=1e-9)


def test_calibration(found):
    """Each first answer lies in a bin of its own, but for 0.5 twice: |(0+0)/2 - 0.5| x 2/6 + (0.1 + 0.6 + 0.3 + 0.2) / 6."""
    assert found.calibration_error == pytest.approx((2 * 0.5 + 0.1 + 0.6 + 0.3 + 0.2) / 6)
    assert len(found.bins) == 15
    assert sum(b.count for b in found.bins) == 6
    filled = [(b.low, b.count, b.confidence, b.accuracy) for b in found.bins if b.count == 2]
    assert filled == [(pytest.approx(7 / 15), 2, pytest.approx(0.5), 0.0)]


def test_the_edge_of_a_bin_belongs_to_the_lower_one():
    """Guo et al. 2017, section 2: bins are ((m - 1) / M, m / M]."""
    bins = measure(np.array([[0.6, 0.4], [1.0, 0.0]]), np.array([0, 0]), split="test", classes=("a", "b")).bins
    assert [number for number, b in enumerate(bins) if b.count] == [8, 14]


def test_top5_counts_the_five_most_probable_and_ties_go_to_the_first():
    shares = np.tile([0.3, 0.2, 0.15, 0.15, 0.1, 0.1, 0.0], (7, 1))
    found = measure(shares, np.arange(7), split="test", classes=tuple("abcdefg"))
    assert found.top1 == pytest.approx(1 / 7)
    assert found.top5 == pytest.approx(5 / 7)  # class 4 comes before class 5, which has the same share


def test_top5_of_five_classes_is_one(found):
    assert found.top5 == 1.0
    five = measure(np.full((2, 5), 0.2), np.array([4, 4]), split="test", classes=tuple("abcde"))
    assert (five.top1, five.top5) == (0.0, 1.0)


@pytest.mark.parametrize(("right", "count"), [(8, 10), (0, 10), (10, 10), (9900, 10000)])
def test_the_ends_of_the_interval_are_as_far_from_the_share_as_chance_allows(right, count):
    """Wilson's definition: each end p solves |share - p| = z sqrt(p (1 - p) / count), with z = 1.96 for 95 %."""
    low, high = wilson(right, count)
    assert 0 <= low <= right / count <= high <= 1
    for end in (low, high):
        assert abs(right / count - end) == pytest.approx(1.959964 * np.sqrt(max(end * (1 - end), 0) / count), abs=1e-6)
    assert (low, high) == pytest.approx((1 - wilson(count - right, count)[1], 1 - wilson(count - right, count)[0]))
    assert high - low > 0


def test_a_class_without_pictures_has_no_auroc_and_the_mean_leaves_it_out():
    found = measure(SHARES[:3], LABELS[:3], split="test", classes=NAMES)
    assert found.classes[2].auroc is None
    assert found.classes[2].support == 0
    assert found.auroc == pytest.approx((found.classes[0].auroc + found.classes[1].auroc) / 2)
    alone = measure(SHARES[:1], LABELS[:1], split="test", classes=NAMES)
    assert alone.auroc is None


def test_it_travels_through_json(found):
    from dataclasses import replace

    full = replace(found, unreadable=(Problem(file="a.jpg", reason="cut short"),), notes=("A sentence.",), data="digits")
    values = json.loads(json.dumps(full.as_dict()))
    assert (values["split"], values["count"], values["top1"], values["top5"]) == ("test", 6, 0.5, 1.0)
    assert evaluation_from(values) == full
    del values["loss"]
    with pytest.raises(ValueError, match="loss"):
        evaluation_from(values)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no picture in the test split"):
        measure(np.zeros((0, 3)), np.zeros(0, int), split="test", classes=NAMES)
    with pytest.raises(ValueError, match=r"6 labels and 2 classes .* \(6, 3\)"):
        measure(SHARES, LABELS, split="test", classes=NAMES[:2])
    with pytest.raises(ValueError, match="The probabilities hold NaN"):
        measure(np.where(SHARES == 0.9, np.nan, SHARES), LABELS, split="test", classes=NAMES)
    with pytest.raises(ValueError, match="outside 0 to 2"):
        measure(SHARES, LABELS + 1, split="test", classes=NAMES)
