"""Weights: parameter files of MXNet and PyTorch, and loading them into networks."""

from .load import WeightsReport, assign, infer_shapes, load_backbone, load_strict
from .params import read_params
from .read import read_weights

__all__ = [
    "WeightsReport", "assign", "infer_shapes", "load_backbone", "load_strict", "read_params", "read_weights",
]  # fmt: skip
