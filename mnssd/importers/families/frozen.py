"""TensorFlow's frozen graphs: SSD MobileNets of the Object Detection API, and MobileNet classifiers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Optional

from . import EngineOutputs, Family, families

if TYPE_CHECKING:
    import numpy as np

    from ..graph import ReadNetwork

_FIRST_NODE = re.compile(rb"\n[\x80-\xff]{0,3}[\x00-\x7f]\n[\x01-\x7f][\w.]", re.DOTALL)
"""A message in a message: the first node, and its name."""


class FrozenFamily(Family):
    """Frozen graphs, and SavedModels whose weights are in the graph or in ``variables/``."""

    name = "frozen"
    description = "TensorFlow 1 (.pb, SavedModel): SSD MobileNet of the Object Detection API, MobileNet"
    engine = "tensorflow"

    def recognizes(self, path: str, start: bytes) -> bool:
        return path.lower().endswith(".pb") or bool(_FIRST_NODE.match(start))

    def read(self, path: str) -> ReadNetwork:
        from ..frozen_graph import read_network

        return read_network(path)

    def run_engine(self, path: str, read: ReadNetwork, images: np.ndarray) -> Optional[EngineOutputs]:
        try:
            import tensorflow
        except ImportError:
            return None
        import numpy as np

        from ..frozen_file import graph_bytes
        from ..frozen_graph import image_node

        tf: Any = tensorflow.compat.v1
        wanted = [*read.class_tensors, *read.box_tensors] or [read.logits]
        definition = tf.GraphDef.FromString(graph_bytes(path))
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(tf.graph_util.extract_sub_graph(definition, wanted), name="")
        image, rows = image_node(path, wanted), []
        with tf.Session(graph=graph) as session:
            for pixels in images:
                if image is not None:
                    feed = {f"{image.name}:0": pixels[None]}
                else:
                    feed = {
                        f"{read.graph.input}:0": read.pixels.normalize(pixels[None]).transpose(0, 2, 3, 1)
                    }
                parts = session.run([f"{name}:0" for name in wanted], feed)
                rows.append([np.asarray(part).reshape(-1) for part in parts])
        return EngineOutputs("TensorFlow", *read.heads([np.stack(values) for values in zip(*rows)]), False)


families.register("frozen", FrozenFamily())
