"""Rewriting of Symbol graphs: one small pass a file, one way to run them."""

from .fast import TRAINING_PASSES, FastBlock, Pass, fast_block
from .symbol_graph import Edge, Graph, Node

__all__ = ["TRAINING_PASSES", "Edge", "FastBlock", "Graph", "Node", "Pass", "fast_block"]
