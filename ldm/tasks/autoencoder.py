"""Stage autoencoder: reconstruction, prior, perceptual distance and a patch discriminator."""

import math
from collections.abc import Callable, Sequence

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.func import functional_call

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import VQ
from ldm.data.batches import ImageBatch
from ldm.losses.adversarial import (
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    pulls,
    ramp,
)
from ldm.losses.autoencoder import AutoencoderWeights, reconstruction_nll
from ldm.nn.ranks import mean_over_ranks
from ldm.random import normal, stream
from ldm.tasks.code_usage import CodeUsage, usage
from ldm.tasks.dead_codes import revive_dead_codes
from ldm.tasks.latent_health import DecoderPeaks, latent_health, latent_sums
from ldm.tasks.means import means
from ldm.tasks.trained import MicroSteps, Trained, step_together


class Likelihood(nn.Module):
    """The learned log variance of the reconstruction, one scalar for all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.logvar = nn.Parameter(torch.zeros(()))


class AutoencoderTask(LightningModule):
    """Trains an autoencoder against a patch discriminator (Esser et al. 2021; Rombach et al. 2022).

    Terms are sums per image, as in the original. Both networks learn from one backward pass: the
    autoencoder sees the discriminator through detached weights, the discriminator sees detached
    reconstructions, so neither leaves a gradient in the other and DDP reduces each gradient once.
    The adaptive weight is the global batch's: with accumulation a step's pictures are kept until
    all have come, and reconstructed once more for it.
    ``discriminator`` None trains without. ``step`` counts the autoencoder's optimizer steps.
    While ``gan_paused`` the discriminator learns on and the autoencoder does not feel it; while
    ``discriminator_paused`` that is still felt and does not learn.
    """

    product = "autoencoder"

    def __init__(
        self,
        *,
        autoencoder: Autoencoder,
        likelihood: Likelihood,
        discriminator: nn.Module | None,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None,
        weights: AutoencoderWeights,
        trained: dict[str, Trained],
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.step = 0
        self.gan_paused = self.discriminator_paused = False
        self.autoencoder, self.likelihood = autoencoder, likelihood
        self.discriminator = discriminator
        # In a tuple: a frozen network is neither trained nor saved, so it is not registered.
        self._perceptual = (perceptual,)
        self.weights, self.trained, self.seed = weights, trained, seed
        self.micro_steps = MicroSteps()
        regularizer = autoencoder.regularizer
        self.usage = CodeUsage(regularizer)
        self._revives = isinstance(regularizer, VQ) and regularizer.restart_rate > 0.0
        self._seen: list[tuple[Tensor, Tensor]] = []  # samples and codes of the present step
        self._kept: list[ImageBatch] = []  # its micro-batches so far, where the last decides

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [part.optimizer for part in self.trained.values()]

    def on_fit_start(self) -> None:
        for part in self.trained.values():
            part.follow()
        if isinstance(self._perceptual[0], nn.Module):
            self._perceptual[0].to(self.device)

    def training_step(self, batch: ImageBatch, batch_index: int) -> dict[str, Tensor]:
        if batch.micro_steps == 1 or self.gan == 0.0:
            return self._micro_step(batch)
        self._kept.append(batch)
        if len(self._kept) < batch.micro_steps:
            return {}
        batches, self._kept = self._kept, []
        balance = self.balance(batches)
        logs = [self._micro_step(kept, balance) for kept in batches]
        return logs[-1] | {n: torch.stack([one[n] for one in logs]).mean() for n in logs[0]}

    def _micro_step(self, batch: ImageBatch, balance: Tensor | None = None) -> dict[str, Tensor]:
        """Forward and backward of one micro-batch, and with a step's last the optimizers' steps."""
        reconstruction, code = self.reconstruct(batch)
        self.usage.see(code)
        if self._revives:
            self._seen.append((batch.index, code.detach()))
        loss, logs = self.generator_loss(batch.image, reconstruction, code, balance)
        has_begun = self.discriminator is not None and self.step >= self.weights.disc_start
        learns = has_begun and not self.discriminator_paused
        if self.discriminator is not None:
            if has_begun:
                more, disc_logs = self.discriminator_loss(batch.image, reconstruction)
                logs |= disc_logs
            if (
                not learns
            ):  # DDP waits for every parameter, so an idle one takes part with gradient zero
                more = torch.stack([p.sum() for p in self.discriminator.parameters()]).sum() * 0.0
            loss = loss + more
        if self.micro_steps.backward(self, loss, batch.micro_steps):
            idle = () if learns else ("discriminator",)
            moving = {name: part for name, part in self.trained.items() if name not in idle}
            for name in self.trained.keys() - moving.keys():
                self.trained[name].optimizer.zero_grad(set_to_none=True)
            norms = step_together(moving, self.step)
            logs |= {f"{name}_gradient_norm": norm for name, norm in norms.items()}
            logs |= self._codebook(torch.stack(list(norms.values())).isfinite().all())
            self.step += 1
        return logs

    def _codebook(self, ok: Tensor) -> dict[str, Tensor]:
        """How the step's global batch used the codebook; its dead codes begin anew.

        Not where the step was skipped (``ok`` is false): its codes may be of what is not finite.
        """
        regularizer, counts = self.autoencoder.regularizer, self.usage.totals()
        seen, self._seen = self._seen, []
        if counts is None:
            return {}
        if self._revives:
            assert isinstance(regularizer, VQ)
            moved = revive_dead_codes(
                regularizer, counts, seen, seed=self.seed, step=self.step, ok=ok
            )
            if (average := self.trained[self.product].ema) is not None:  # forgets their past too
                codebook = regularizer.embedding.weight
                name = next(n for n, p in self.autoencoder.named_parameters() if p is codebook)
                shadow = average.shadow[name]
                shadow.copy_(torch.where(moved[:, None], codebook.detach().float(), shadow))
        return usage(counts)

    def sample_losses(self, batch: ImageBatch) -> Tensor:
        """The absolute error of each picture (B,) of a training batch, with its penalty."""
        reconstruction, code = self.reconstruct(batch)
        error = (batch.image - reconstruction).float().abs().flatten(1).sum(1)
        return error + self.autoencoder.regularizer.penalty(code)

    def reconstruct(self, batch: ImageBatch) -> tuple[Tensor, Tensor]:
        """Reconstructions (B, 3, H, W) through one posterior draw, and codes (B, S, h, w)."""
        return self.autoencoder(batch.image, self._noise(batch))

    def _noise(self, batch: ImageBatch) -> Tensor:
        height, width = (size // self.autoencoder.stride for size in batch.image.shape[-2:])
        shape = (self.autoencoder.latent_channels, height, width)
        return normal(stream(self.seed, "posterior", batch.step), batch.index, shape)

    @property
    def gan(self) -> float:
        """What the adversarial term weighs at this step, before the adaptive weight."""
        weights = self.weights
        if self.discriminator is None or self.gan_paused:
            return 0.0
        return weights.gan * ramp(self.step, weights.gan_start, weights.gan_ramp_steps)

    def balance(self, batches: Sequence[ImageBatch]) -> Tensor:
        """The adaptive weight of a step's global batch, which every micro-batch then takes.

        Only the last layer's weights are in the graph, so it costs no backward of the networks
        below it.
        """
        last = self.autoencoder.last_layer
        others = {
            name: p if p is last else p.detach() for name, p in self.autoencoder.named_parameters()
        }
        found = []
        for batch in batches:
            inputs = (batch.image, self._noise(batch))
            reconstruction, _ = functional_call(self.autoencoder, others, inputs)
            nll, _ = self._nll(batch.image, reconstruction)
            found.append(pulls(last, nll, self._adversarial(reconstruction)))
        return self._adaptive_weight(torch.stack(found).mean(0))

    def generator_loss(
        self, image: Tensor, reconstruction: Tensor, code: Tensor, balance: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the autoencoder minimises (scalar) and its terms; reaches no discriminator weight.

        The likelihood is a sum over an image's elements, averaged over the batch; the regulariser
        says what its penalty weighs beside that. ``balance`` is the adaptive weight, None where
        the batch is the whole of its rank's part of the step.
        """
        nll, distance = self._nll(image, reconstruction)
        regularizer = self.autoencoder.regularizer
        price = regularizer.weight(kl=self.weights.kl, elements=math.prod(image.shape[1:]))
        loss = nll + price * regularizer.penalty(code).mean()
        logs = {
            "l1": (image - reconstruction).detach().float().abs().mean(),
            "psnr": _psnr(image, reconstruction.detach()).mean(),
            "nll": nll.detach(),
            "logvar": self.likelihood.logvar.detach().clone(),  # the step will change it
        }
        logs |= {k: v.mean() for k, v in regularizer.measures(code.detach()).items()}
        if distance is not None:
            logs["perceptual"] = distance.detach().mean()
        if self.gan > 0.0:
            adversarial = self._adversarial(reconstruction)
            if balance is None:
                last = self.autoencoder.last_layer
                balance = self._adaptive_weight(pulls(last, nll, adversarial))
            weight = self.gan * balance
            loss = loss + weight * adversarial
            logs |= {"d_weight": weight, "g_loss": adversarial.detach()}
            logs["d_weight_at_clamp"] = (balance >= self.weights.adaptive_limit).float()
        return loss, logs | {"loss": loss.detach()}

    def _nll(self, image: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor | None]:
        """Negative log likelihood (scalar), and the perceptual distances (B,) in it."""
        weights, perceptual = self.weights, self._perceptual[0]
        distance = None
        if perceptual is not None and weights.perceptual > 0.0:
            distance = perceptual(image, reconstruction)
        nll = reconstruction_nll(
            image,
            reconstruction,
            distance,
            self.likelihood.logvar,
            perceptual_weight=weights.perceptual,
            l1_weight=weights.l1,
            l2_weight=weights.l2,
        )
        return nll, distance

    def _adversarial(self, reconstruction: Tensor) -> Tensor:
        """How well the discriminator tells (scalar): its gradient passes through, not into it."""
        assert self.discriminator is not None
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        return hinge_generator_loss(functional_call(self.discriminator, frozen, (reconstruction,)))

    def _adaptive_weight(self, pulled: Tensor) -> Tensor:
        return adaptive_weight(mean_over_ranks(pulled), limit=self.weights.adaptive_limit)

    def discriminator_loss(
        self, image: Tensor, reconstruction: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the discriminator minimises (scalar), and its logits; reaches no other weight."""
        assert self.discriminator is not None
        real, fake = self.discriminator(image), self.discriminator(reconstruction.detach())
        loss = hinge_discriminator_loss(real, fake)
        logs = {"d_loss": loss, "logits_real": real.mean(), "logits_fake": fake.mean()}
        logs["d_accuracy"] = 0.5 * ((real > 0).float().mean() + (fake < 0).float().mean())
        return loss, {name: value.detach() for name, value in logs.items()}

    @torch.no_grad()
    def validate(self, batch: ImageBatch) -> dict[str, Tensor]:
        """Of a block, sums and counts of PSNR in dB, of the regulariser's measures, of latents.

        With a codebook also how often each code was chosen: ``codes`` (num_codes,). And the
        largest value in each block of the decoder.
        """
        regularizer, peaks = self.autoencoder.regularizer, DecoderPeaks(self.autoencoder)
        code = self.autoencoder.encode(batch.image)
        with peaks.watched():
            reconstruction = self.autoencoder.decode(regularizer.mode(code)).clamp(-1.0, 1.0)
        found = {"psnr": _psnr(batch.image, reconstruction)} | regularizer.measures(code)
        sums = {name: values.sum() for name, values in found.items()}
        sums |= latent_sums(regularizer, code)
        counts = {f"{name}_count": torch.tensor(float(len(batch.image))) for name in sums}
        chosen = regularizer.counts(code)
        return sums | counts | peaks.found() | ({} if chosen is None else {"codes": chosen})

    def conclude(self, totals: dict[str, Tensor]) -> dict[str, Tensor]:
        """What sums over all blocks say: means, the latents' health, how the codebook was used.

        Whether fp16 will do for decoding is kept with the autoencoder.
        """
        codes = totals.get("codes")
        largest = {k.removesuffix("_max"): v for k, v in totals.items() if k.endswith("_max")}
        found = latent_health(means(totals) | largest)
        if "fits_half" in found:
            self.autoencoder.force_upcast = not bool(found["fits_half"])
        return found | ({} if codes is None else usage(codes))


def _psnr(image: Tensor, reconstruction: Tensor) -> Tensor:
    """Peak signal to noise in dB per image (B,), so that means do not depend on a batch's split."""
    error = (image - reconstruction).float().square().flatten(1).mean(1)
    return 10.0 * torch.log10(4.0 / error.clamp(min=1e-12))
