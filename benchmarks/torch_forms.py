"""PyTorch's training step in the forms that may be its fastest on a device.

The same network, data and update as in `training_step`, with the images as bytes on the device.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import torch_reference

# In the order of what they cost to prepare. Compiled code comes last: it takes half a minute.
FORMS = (
    "channels last, CUDA graph",
    "channels last",
    "eager",
    "channels last, compiled with CUDA graphs",
    "channels last, compiled",
)
_COMPILER = {
    "channels last, compiled with CUDA graphs": "reduce-overhead",
    "channels last, compiled": "default",
}
_NETWORKS = {
    "resnet18": torch_reference.ResNet18,
    "resnet8": lambda classes: torch_reference.CifarResNet(1, classes),
}


def prepare() -> Any:
    """Chooses the device and what is as in ours: TF32 in products and convolutions."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def forms(device: Any) -> tuple[str, ...]:
    """Those that there are on a device."""
    return FORMS if device.type == "cuda" else ("channels last", "eager")


def epoch(
    form: str,
    device: Any,
    network: str,
    precision: str,
    images: np.ndarray,
    labels: np.ndarray,
    batch: int,
    normalization: tuple[tuple[float, ...], tuple[float, ...]],
) -> Callable[[], None]:
    """Makes a call that trains on all images once, and waits for the device.

    Args:
        form: One of `FORMS`.
        device: As `prepare` returns it.
        network: One of `gpu_parts.FORMS`.
        precision: "float32" or "bfloat16", which is by autocast.
        images: As bytes, channels last.
        labels: From 0 to 9.
        batch: Images a step; divides their number.
        normalization: Mean and deviation of each channel.
    """
    layout = torch.contiguous_format if form == "eager" else torch.channels_last
    model = _NETWORKS[network](10).to(device, memory_format=layout).train()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=0.01,
        momentum=0.9,
        weight_decay=1e-4,
        fused=device.type == "cuda" and form != "eager",
    )
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(device)
    targets = torch.from_numpy(labels).long().to(device)
    mean, std = (torch.tensor(v, device=device).reshape(1, 3, 1, 1) for v in normalization)
    half = precision == "bfloat16"

    def loss_of(rows: Any) -> Any:
        inputs = ((pixels[rows].float() / 255 - mean) / std).contiguous(memory_format=layout)
        arithmetic = torch.autocast(device.type, torch.bfloat16) if half else _as_it_is()
        with arithmetic:
            return torch.nn.functional.cross_entropy(model(inputs), targets[rows])

    if form in _COMPILER:
        loss_of = torch.compile(loss_of, mode=_COMPILER[form])

    def step(rows: Any) -> None:
        loss = loss_of(rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    call: Callable[[Any], None] = step
    if form.endswith("CUDA graph"):
        call = _captured(step, torch.arange(batch, device=device))

    def run() -> None:
        for rows in torch.randperm(len(targets), device=device).split(batch):
            call(rows)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def _as_it_is() -> Any:
    return contextlib.nullcontext()


def _captured(step: Callable[[Any], None], rows: Any) -> Callable[[Any], None]:
    """Records a step on these rows once, and replays it on others."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # so that cuDNN has chosen, and momentum is there
            step(rows)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(rows)

    def replay(others: Any) -> None:
        rows.copy_(others)
        graph.replay()

    return replay
