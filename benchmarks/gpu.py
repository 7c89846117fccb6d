"""Training rates of Stable-Diffusion-size networks on one GPU: `make bench-gpu`.

Paired within one run: fp32 (without TF32, as `ldm train precision=32-true`) against bf16. A step is
the UNet's forward and backward pass and AdamW on synthetic latents: no text tower, draws, clipping
or average. The protocol is printed with the numbers.
"""

import sys
import time

import torch
from torch import nn

from ldm.apps.build import build
from ldm.apps.compose import compose
from ldm.types import Condition

WARM_UP, MEASURED = 5, 20


def main() -> int:
    """Print images per second for a few micro-batches and precisions."""
    if not torch.cuda.is_available():
        print("no CUDA device: nothing measured")
        return 1
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, SD1 UNet, 32 x 32 latents")
    config = compose("train", ["experiment=sd1_256", "data.root=none"])
    with torch.device("cuda"):
        network = build(config.backbone)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    for micro_batch in (16, 64):
        for precision in (torch.float32, torch.bfloat16):
            rate = images_per_second(network, optimizer, micro_batch, precision)
            print(f"micro_batch {micro_batch}, {precision}: {rate:.1f} images/s per training step")
    print(f"peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    return 0


def images_per_second(
    network: nn.Module, optimizer: torch.optim.Optimizer, batch: int, precision: torch.dtype
) -> float:
    """Training steps (forward, backward, AdamW) of ``batch`` images, after a warm-up."""
    x = torch.randn(batch, 4, 32, 32, device="cuda")
    t = torch.randint(0, 1000, (batch,), device="cuda")
    condition = Condition(tokens=torch.randn(batch, 77, 768, device="cuda"))

    def step() -> None:
        with torch.autocast("cuda", precision, enabled=precision != torch.float32):
            loss = (network(x, t, condition).float() - x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(MEASURED):
        step()
    torch.cuda.synchronize()
    return MEASURED * batch / (time.perf_counter() - begun)


if __name__ == "__main__":
    sys.exit(main())
