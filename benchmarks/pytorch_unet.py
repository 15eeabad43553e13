"""The U-Net of `train_step.py` in PyTorch: the same layers and the same number of weights."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class DoubleConv(nn.Sequential):
    """Two 3 x 3 convolutions, each with batch normalization and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [
                nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """Four levels below the first, up-convolutions, one channel of logits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        filters = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(
            DoubleConv(inputs, outputs)
            for inputs, outputs in zip([1, *filters], filters, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * outputs, outputs, 2, stride=2) for outputs in filters[3::-1]
        )
        self.join = nn.ModuleList(DoubleConv(2 * outputs, outputs) for outputs in filters[3::-1])
        self.logits = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to logits, both float (B, 1, H, W)."""
        skips = []
        for block in self.down[:-1]:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.down[-1](x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], dim=1))
        return self.logits(x)


def training_step(
    width: int, images: np.ndarray, truth: np.ndarray, weights: np.ndarray, precision: str
) -> tuple[Callable[[], None], int]:
    """Return a function that takes one step on a batch, float32 (B, H, W), and the weights' number.

    Args:
        width: Filters of the first level.
        images: What is trained on.
        truth: 0 or 1.
        weights: Of each pixel in the cross-entropy.
        precision: `float32` or `bfloat16`.
    """
    model = UNet(width).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)
    x, y, weight = (torch.from_numpy(array)[:, None] for array in (images, truth, weights))
    x = x.to(memory_format=torch.channels_last)
    loss_of = nn.BCEWithLogitsLoss(weight=weight)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(x)
        loss = loss_of(logits.float(), y)
        loss.backward()
        optimizer.step()
        loss.item()

    return step, sum(parameter.numel() for parameter in model.parameters())
