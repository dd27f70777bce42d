"""ResNet-18 in plain PyTorch with torchvision's form and names: what ours is held to."""

from typing import Any

import torch
from torch import nn


class Block(nn.Module):
    """Two 3×3 convolutions and what is added to them."""

    def __init__(self, inputs: int, features: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.residual = residual
        self.downsample = None
        if stride != 1 or inputs != features:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, features, 1, stride, bias=False), nn.BatchNorm2d(features)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the block's output."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if not self.residual:
            return torch.relu(y)
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """The whole network, with torchvision's default initialisation."""

    def __init__(self, classes: int, residual_first_stage: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(
            Block(64, 64, 1, residual_first_stage), Block(64, 64, 1, residual_first_stage)
        )
        self.layer2 = nn.Sequential(Block(64, 128, 2, True), Block(128, 128, 1, True))
        self.layer3 = nn.Sequential(Block(128, 256, 2, True), Block(256, 256, 1, True))
        self.layer4 = nn.Sequential(Block(256, 512, 2, True), Block(512, 512, 1, True))
        self.fc = nn.Linear(512, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits of images whose channels come first."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


class PaddedBlock(nn.Module):
    """Two 3×3 convolutions, and the input with every second pixel and channels of zeros."""

    def __init__(self, inputs: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the block's output."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            quarter = y.shape[1] // 4
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        return torch.relu(y + x)


class CifarResNet(nn.Module):
    """The form of He et al. for CIFAR with option A, and the names of its best-known port."""

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages, inputs = [], 16
        for features in (16, 32, 64):
            first = PaddedBlock(inputs, features, features // inputs)
            rest = [PaddedBlock(features, features, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            inputs = features
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits of images whose channels come first."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


class SmallHead(nn.Module):
    """The features of another network, their mean, and one linear layer."""

    def __init__(self, features: nn.Module, channels: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits of images whose channels come first."""
        return self.classifier(self.features(x).mean(dim=(2, 3)))


def torchvision_models() -> Any:
    """Torchvision's.

    Raises:
        ImportError: It is missing, or does not fit the PyTorch that is installed.
    """
    try:
        from torchvision import models
    except RuntimeError as error:
        raise ImportError(f"torchvision cannot be imported: {error}") from error
    return models
