"""Weights: files of MXNet and PyTorch, and how their arrays come into a network."""

from .assign import WeightsReport, assign, load_backbone, load_exactly, settle_shapes
from .params import read_params

__all__ = ["WeightsReport", "assign", "load_backbone", "load_exactly", "read_params", "settle_shapes"]
