"""Metrics of other libraries, where their definitions coincide with ours."""

import warnings

import numpy as np
import pytest
import torch

from tupelo.evaluation import retrieval

with warnings.catch_warnings():  # SWIG types of faiss
    warnings.simplefilter("ignore")
    pytest.importorskip("faiss")
    accuracy = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")


def calculator():
    return accuracy.AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
    )


def rows_and_labels(n=400, classes=30, d=16):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    rows = rng.normal(size=(classes, d))[labels] + rng.normal(size=(n, d))
    return torch.nn.functional.normalize(torch.from_numpy(rows).float()), torch.from_numpy(labels)


def assert_same(report, theirs):
    assert report.recall[1] == pytest.approx(theirs["precision_at_1"], abs=1e-9)
    assert report.r_precision == pytest.approx(theirs["r_precision"], abs=1e-9)
    assert report.map_at_r == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-9)


def test_leave_one_out_agrees_with_pytorch_metric_learning():
    rows, labels = rows_and_labels()
    assert_same(retrieval(rows, labels), calculator().get_accuracy(rows, labels))


def test_separate_gallery_agrees_with_pytorch_metric_learning():
    rows, labels = rows_and_labels()
    theirs = calculator().get_accuracy(rows[:100], labels[:100], rows[100:], labels[100:])
    assert_same(retrieval(rows[:100], labels[:100], rows[100:], labels[100:]), theirs)
