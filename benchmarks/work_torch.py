"""PyTorch: a training step of the same MobileNetV2, in channels_last, as it is advised for CPUs."""

from __future__ import annotations

import os
from typing import Any, Callable

import torch
import worker
from torch import nn

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> Any:
    """Convolution, BatchNorm and ReLU6."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if act else []))


class Bottleneck(nn.Module):
    """As `mnssd.nn.LinearBottleneck`, with the expansion at t = 1 too."""

    def __init__(self, inputs: int, outputs: int, t: int, stride: int) -> None:
        super().__init__()
        middle = inputs * t
        self.shortcut = stride == 1 and inputs == outputs
        self.out = nn.Sequential(
            conv(inputs, middle, 1),
            conv(middle, middle, 3, stride, middle),
            conv(middle, outputs, 1, act=False),
        )

    def forward(self, x: Any) -> Any:
        """One block."""
        return x + self.out(x) if self.shortcut else self.out(x)


def mobilenet_v2() -> Any:
    """The network of docs/networks."""
    layers, channels = [conv(3, 32, 3, 2)], 32
    for t, c, n, s in STAGES:
        for i in range(n):
            layers.append(Bottleneck(channels, c, t, s if i == 0 else 1))
            channels = c
    layers += [conv(320, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(1280, worker.CLASSES, 1, bias=False)]
    return nn.Sequential(*layers, nn.Flatten())


def train_step(compiled: bool = False, bfloat16: bool = False) -> Callable[[], object]:
    """Forward, backward and update on a batch that is in memory."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    net = mobilenet_v2().to(memory_format=torch.channels_last).train()
    sgd = torch.optim.SGD(
        net.parameters(),
        worker.LEARNING_RATE,
        worker.MOMENTUM,
        weight_decay=worker.WEIGHT_DECAY,
    )
    loss_of = nn.CrossEntropyLoss()
    forward = torch.compile(net) if compiled else net
    x = torch.randn(worker.BATCH, 3, worker.SIZE, worker.SIZE).to(memory_format=torch.channels_last)
    y = torch.randint(worker.CLASSES, (worker.BATCH,))

    def step() -> None:
        sgd.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = loss_of(forward(x), y)
        loss.backward()
        sgd.step()

    return step


if __name__ == "__main__":
    worker.serve(
        {
            "train_step": train_step,
            "train_step_compiled": lambda: train_step(compiled=True),
            "train_step_bf16": lambda: train_step(bfloat16=True),
            "train_step_bf16_compiled": lambda: train_step(compiled=True, bfloat16=True),
        }
    )
