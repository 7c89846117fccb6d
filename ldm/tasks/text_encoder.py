"""Stage text_encoder: own CLIP towers, trained contrastively on captioned pictures."""

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor

from ldm.data.batches import ImageBatch
from ldm.features.rgb import as_rgb
from ldm.tasks.means import means
from ldm.tasks.trained import MicroSteps, Trained
from ldm.text.clip import ClipTowers


class TextEncoderTask(LightningModule):
    """Trains image and text towers to tell which caption belongs to which picture.

    open_clip's symmetric cross-entropy over the global batch (Radford et al. 2021); with several
    ranks features are gathered with their gradients. Accumulation is refused: the loss needs the
    whole batch at once.
    """

    product = "towers"

    def __init__(self, *, towers: ClipTowers, trained: Trained, accumulate: int) -> None:
        super().__init__()
        if accumulate != 1:
            raise ValueError(
                "stage text_encoder compares every picture with every caption of the global batch "
                f"and cannot accumulate ({accumulate} micro-batches asked for); set micro_batch to "
                "global_batch / processes, or lower global_batch."
            )
        self.automatic_optimization = False
        self.step = 0
        self.towers = towers
        self.trained = {self.product: trained}
        self.micro_steps = MicroSteps()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [part.optimizer for part in self.trained.values()]

    def on_fit_start(self) -> None:
        for part in self.trained.values():
            part.follow()

        from open_clip.loss import ClipLoss

        world_size = self.trainer.world_size
        # local_loss and gather_with_grad: each rank computes its rows, gradients stay exact.
        self.contrastive = ClipLoss(
            local_loss=world_size > 1,
            gather_with_grad=world_size > 1,
            rank=self.trainer.global_rank,
            world_size=world_size,
        )

    def training_step(self, batch: ImageBatch, batch_index: int) -> dict[str, Tensor]:
        image, text, scale = self.towers(as_rgb(batch.image), batch.ids)
        loss = self.contrastive(image, text, scale)
        logs = {"loss": loss.detach(), "logit_scale": scale.detach()}
        if self.micro_steps.backward(self, loss, batch.micro_steps):
            logs["gradient_norm"] = self.trained[self.product].step(self.step)
            with torch.no_grad():  # the temperature's limit of Radford et al. 2021
                self.towers.model.logit_scale.clamp_(0.0, 4.6052)
            self.step += 1
        return logs

    @torch.no_grad()
    def validate(self, batch: ImageBatch) -> dict[str, Tensor]:
        """Of a block, sums and counts of the loss and of top-1 retrieval within it.

        A retrieved caption counts as right if its tokens are those of the picture's own caption.
        """
        image, text, scale = self.towers(as_rgb(batch.image), batch.ids)
        logits = scale * image @ text.T
        labels = torch.arange(len(logits), device=logits.device)
        best = batch.ids[logits.argmax(dim=1)]
        found = {
            "loss": F.cross_entropy(logits, labels, reduction="sum"),
            "retrieval": (best == batch.ids).all(dim=1).sum(),
        }
        return found | {f"{name}_count": torch.tensor(len(logits)) for name in found}

    def conclude(self, totals: dict[str, Tensor]) -> dict[str, Tensor]:
        """What sums over all blocks say: means."""
        return means(totals)
