"""Passes over Symbol graphs, one per file, and blocks that run the rewritten graphs."""

from .fast import TRAINING_PASSES, FastBlock, Pass, fast_block
from .symbol_graph import Edge, Graph, Node

__all__ = ["TRAINING_PASSES", "Edge", "FastBlock", "Graph", "Node", "Pass", "fast_block"]
