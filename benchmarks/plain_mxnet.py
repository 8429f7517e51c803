"""Does an export, run by plain MXNet in a process without mnssd, find what the network finds?

    python benchmarks/plain_mxnet.py RUN EXPORT IMAGE [IMAGE ...]

A second process, in which importing mnssd fails, loads the files with ``SymbolBlock.imports`` and makes its
input as the JSON file says, with OpenCV and NumPy. Its detections are then compared one by one with those of
the network itself, run by Gluon as it is. Exits with 1 when one differs by more than 1e-4 in score or 0.1
pixel.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, List

SCORE_TOLERANCE, BOX_TOLERANCE = 1e-4, 0.1


def plain(export: Path, answer: str, images: List[str]) -> None:
    """A program without mnssd; writes ids, scores and boxes to `answer`."""
    sys.modules["mnssd"] = None  # type: ignore[assignment]  # importing it would now fail
    import cv2
    import mxnet as mx
    import numpy as np

    (path,) = export.glob("*[!l].json")  # not NAME-symbol.json
    sidecar = json.loads(path.read_text())
    files, spec = sidecar["files"], sidecar["input"]
    symbol, params = (str(export / files[kind]["file"]) for kind in ("symbol", "params"))
    net = mx.gluon.SymbolBlock.imports(symbol, [spec["name"]], params)
    rows: List[Any] = []
    for image in images:
        pixels = cv2.cvtColor(cv2.imread(image), cv2.COLOR_BGR2RGB)
        pixels = cv2.resize(pixels, tuple(spec["size"]), interpolation=cv2.INTER_LINEAR)
        x = ((pixels * spec["scale"] - spec["mean"]) / spec["std"]).transpose(2, 0, 1)[None]
        rows.append(np.concatenate([out.asnumpy()[0] for out in net(mx.nd.array(x, dtype=spec["dtype"]))], 1))
    np.save(answer, np.stack(rows))


def main() -> int:
    """Compare; 1 when they differ."""
    run, export, *images = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        answer = f"{scratch}/answer.npy"
        subprocess.run([sys.executable, __file__, "--plain", export, answer, *images], check=True)

        import mnssd  # noqa: F401

        # isort: split
        import mxnet as mx
        import numpy as np

        from mnssd import zoo
        from mnssd.data.image import read_image, resize_for_network, to_network_input

        theirs = np.load(answer)
    net = zoo.load_detector(run)
    count, unmatched, score_difference, box_difference = 0, 0, 0.0, 0.0
    for image, rows in zip(images, theirs):
        x = mx.nd.array(to_network_input([resize_for_network(read_image(image), net.size)]))
        ours = np.concatenate([out.asnumpy()[0] for out in net(x)], 1)
        rows, ours = rows[rows[:, 0] >= 0], ours[ours[:, 0] >= 0]
        count += len(ours)
        for ids, score, *box in ours:
            same = rows[rows[:, 0] == ids]
            # The nearest in both: pixels count a thousandth, as the tolerances have it.
            far = np.maximum(np.abs(same[:, 1] - score), np.abs(same[:, 2:] - box).max(axis=1) / 1000)
            if not len(far) or far.min() > SCORE_TOLERANCE:
                unmatched += 1
                print(f"{image}: {net.classes[int(ids)]} {score:.6f} {box} is missing")
                continue
            nearest = same[far.argmin()]
            score_difference = max(score_difference, abs(nearest[1] - score))
            box_difference = max(box_difference, float(np.abs(nearest[2:] - box).max()))
        unmatched += abs(len(rows) - len(ours))
    print(
        f"{len(images)} images, {count} detections, {unmatched} of them different; "
        f"largest differences: score {score_difference:.1e}, box {box_difference:.1e} pixels"
    )
    return int(unmatched > 0 or box_difference > BOX_TOLERANCE)


if __name__ == "__main__":
    if sys.argv[1] == "--plain":
        plain(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
    else:
        sys.exit(main())
