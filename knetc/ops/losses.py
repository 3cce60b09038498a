"""Losses over scores and labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ops.activations import log_total
from knetc.ops.apply import Operand, broadcast_node, cast_node, composite, reshape_node, to_nodes
from knetc.ops.arithmetic import maximum
from knetc.ops.division import floor_divide
from knetc.ops.identities import check_range, iota
from knetc.ops.logic import equal, greater_equal, where
from knetc.ops.movement import normalize_axis
from knetc.ops.reduction import argmax, mean, sum, to_float
from knetc.ops.transcendental import softplus
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError


def _check_labels(name: str, scores: Node, labels: Node, axis: int) -> tuple[Node, int]:
    """Labels as int64, checked while running, and the class axis counted from 0."""
    if not scores.ndim:
        raise ShapeError(f"{name}: scores need a class axis, but are {scores.type}")
    axis = normalize_axis(name, axis, scores.ndim)
    if not dtypes.is_integer(labels.dtype):
        raise DtypeError(f"{name}: labels are integers (0 to C-1, negative ones are skipped), not {labels.dtype}")
    shape = (*scores.shape[:axis], *scores.shape[axis + 1 :])
    if labels.shape != shape:
        raise ShapeError(
            f"{name}: scores {scores.type} with classes along axis {axis} need labels of shape {shape}, "
            f"not {labels.shape}"
        )
    classes = scores.shape[axis]
    message = f"{name}: label {{value}} is out of range for {classes} classes (0 to {classes - 1}; negative ones skip)"
    lowest = int(np.iinfo(labels.dtype).min)
    return cast_node(check_range(labels, lowest, classes, message), dtypes.i64), axis


@composite(2, wide=True)
def nll(scores: Operand, labels: Operand, axis: int = -1, average: bool = True) -> Any:
    """The negative log likelihood of labels under ``softmax(scores)``: the cross entropy of a classifier.

    ``labels`` are integers of the shape of ``scores`` without the class axis. A negative label is skipped: the mean is
    over the others, and 0 if there are none. ``average=False`` gives the total and how many were counted (int64).
    Raises ShapeError for other shapes and DtypeError for labels that are no integers; a label of C or more raises
    LabelError (an IndexError) when the loss is computed.

    >>> nll(kn.array([[1.0, 4.0], [2.0, 5.0]]), kn.array([1, 0]))  # 1.5485873
    """
    [x, given] = to_nodes(scores, labels)
    x = to_float(x)
    places, axis = _check_labels("nll", x, given, axis)
    # comparing with the class index instead of gathering keeps forward and backward in one pass over each row
    # (in i32, as wide as float32; labels that do not fit are negative, and those are skipped below)
    kept = reshape_node(cast_node(places, dtypes.i32), (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    chosen = equal(iota(dtypes.i32, x.shape, axis), broadcast_node(kept, x.shape))
    counted = greater_equal(places, 0)
    likely = reshape_node(log_total(x, axis), places.shape)
    losses = where(counted, likely - sum(where(chosen, x, 0), axis), 0)
    total, count = sum(losses), sum(counted)
    return total / maximum(cast_node(count, x.dtype), 1) if average else (total, count)


@composite(2, wide=True)
def accuracy(scores: Operand, labels: Operand, axis: int = -1, average: bool = True) -> Any:
    """The fraction of labels that are the class of the largest score (the first one of several).

    Negative labels are skipped; with none left the accuracy is 0. ``average=False`` gives how many were right and how
    many were counted. Errors are those of ``nll``.

    >>> accuracy(kn.array([[1.0, 4.0], [2.0, 5.0]]), kn.array([1, 0]))  # 0.5
    """
    [x, given] = to_nodes(scores, labels)
    places, axis = _check_labels("accuracy", x, given, axis)
    counted = sum(greater_equal(places, 0))
    right = sum(equal(argmax(x, axis), places))  # never equal to a negative label
    if not average:
        return right, counted
    dtype = to_float(x).dtype
    return cast_node(right, dtype) / maximum(cast_node(counted, dtype), 1)


@composite(2, wide=True)
def bce(scores: Operand, labels: Operand, average: bool = True) -> Any:
    """The binary cross entropy of labels 0 and 1 under ``sigmoid(scores)``; shapes are equal.

    ``average=False`` gives the total and the number of labels.

    >>> bce(kn.array([-1.0, 0.0, 1.0, 2.0]), kn.array([0, 1, 1, 0]))  # 0.8616496
    """
    [x, y] = to_nodes(scores, labels)
    if x.shape != y.shape:
        raise ShapeError(f"bce: scores and labels have one shape, not {x.shape} and {y.shape}")
    x = to_float(x)
    losses = softplus(x) - cast_node(y, x.dtype) * x
    if average:
        return mean(losses)
    return sum(losses), sum(broadcast_node(to_nodes(1)[0], x.shape))


@composite(2, wide=True)
def logistic(scores: Operand, labels: Operand, average: bool = True) -> Any:
    """The logistic loss of labels -1 and 1: ``bce`` with -1 taken as 0.

    >>> logistic(kn.array([-1.0, 0.0, 1.0, 2.0]), kn.array([-1, 1, 1, -1]))  # 0.8616496
    """
    [x, y] = to_nodes(scores, labels)
    return bce(x, floor_divide(y + 1, 2), average)


__all__ = ["bce", "logistic"]
