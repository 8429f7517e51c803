"""Whether weights of torchvision and timm give here what they give there, on their own networks.

    .venv-peers/bin/pip install torchvision timm          # beside the PyTorch of `make bench`
    .venv-peers/bin/python benchmarks/converted_weights.py write FOLDER
    .venv/bin/python benchmarks/converted_weights.py check FOLDER

`write` makes networks with random weights and statistics and keeps them with their answers to random images;
`check` loads them here and prints the largest difference.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

TIMM = {
    "mobilenetv2_035": "mobilenet_v2_0.35", "mobilenetv2_050": "mobilenet_v2_0.5",
    "mobilenetv2_075": "mobilenet_v2_0.75", "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv2_110d": "mobilenet_v2_1.1", "mobilenetv2_120d": "mobilenet_v2_1.2",
    "mobilenetv2_140": "mobilenet_v2_1.4", "mobilenetv1_100": "mobilenet_v1",
    "mobilenetv1_100h": "mobilenet_v1", "mobilenetv1_125": "mobilenet_v1_1.25",
}  # fmt: skip
"""Networks of timm, and their names here."""

CASES = (
    ("torchvision.pth", "torchvision", "mobilenet_v2"),
    ("torchvision-old.pth", "torchvision", "mobilenet_v2"),
    *((f"{name}.safetensors", name, ours) for name, ours in TIMM.items()),
)


def write(folder: Path) -> None:
    """Networks and their answers, with PyTorch."""
    import timm
    import torch
    import torchvision
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 96, 96)
    np.save(folder / "images.npy", x.numpy())

    def random_statistics(net: Any) -> Any:
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
                layer.weight.data.uniform_(0.5, 1.5)
                layer.bias.data.normal_(0, 0.2)
            elif isinstance(layer, torch.nn.Linear):
                layer.bias.data.normal_(0, 0.3)
        return net.eval()

    with torch.no_grad():
        net = random_statistics(torchvision.models.mobilenet_v2())
        np.save(folder / "torchvision.npy", net(x).numpy())
        torch.save(net.state_dict(), folder / "torchvision.pth")
        torch.save(net.state_dict(), folder / "torchvision-old.pth", _use_new_zipfile_serialization=False)
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        for name in TIMM:
            net = random_statistics(timm.create_model(name))
            normalized = (x * std + mean - 0.5) / 0.5 if name.startswith("mobilenetv1") else x
            np.save(folder / f"{name}.npy", net(normalized).numpy())
            save_file(net.state_dict(), folder / f"{name}.safetensors")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}")


def check(folder: Path) -> None:
    """Load them here and compare."""
    from mnssd import zoo  # before MXNet: it chooses the threads

    # isort: split
    import mxnet as mx

    x = mx.nd.array(np.load(folder / "images.npy"))
    print("| file | largest difference | largest logit |\n|---|---|---|")
    for file, answers, network in CASES:
        net = zoo.get_model(network, weights=str(folder / file))
        expected = np.load(folder / f"{answers}.npy")
        print(f"| {file} | {np.abs(net(x).asnumpy() - expected).max():.1e} | {np.abs(expected).max():.2f} |")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "check"):
        sys.exit(__doc__)
    (write if sys.argv[1] == "write" else check)(Path(sys.argv[2]))
