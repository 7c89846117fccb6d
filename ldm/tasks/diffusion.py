"""Stage diffusion: a denoiser on cached latents, with captions dropped for guidance."""

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from ldm.autoencoders.regularizers import Regularizer
from ldm.data.batches import LatentBatch
from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.guidance import drop
from ldm.diffusion.latent_scale import LatentScale
from ldm.losses.denoising import by_timestep_bin, denoising_loss
from ldm.losses.learned_nothing import linear_predictor_loss, zero_predictor_loss
from ldm.losses.weighting import Weighting
from ldm.random import normal, stream
from ldm.tasks.means import means
from ldm.tasks.trained import MicroSteps, Trained, step_together
from ldm.types import Condition, ConditionEncoder

TIMESTEP_BINS = 8


class DiffusionTask(LightningModule):
    """Trains ``denoiser.network`` to undo noise on normalised latents (Rombach et al. 2022).

    Noise, timestep, posterior draw and caption drop of a sample depend on (seed, step, global
    sample index) only. ``offset_noise`` is the spread of one more normal draw for each sample and
    channel, added to the whole channel's noise in training, so that a picture's mean is noised
    away too and must be learnt (Guttenberg 2023). ``weighting`` of the noise levels is for the
    gradient: the logged "loss", in training and validation, counts all alike, and where these
    differ "weighted_loss" is logged beside it.
    ``trained`` moves the network, and with it a ``text_encoder`` that is learned; others are
    frozen. One optimizer step is one ``step``.
    """

    product = "denoiser"

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        text_encoder: ConditionEncoder,
        regularizer: Regularizer,
        scale: LatentScale,
        trained: Trained,
        global_batch: int,
        num_held_out: int,
        drop_rate: float,
        offset_noise: float,
        weighting: Weighting,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.step = 0
        self.denoiser, self.scale = denoiser, scale
        # In a tuple: a codebook is the autoencoder's, so it is not registered here.
        self._regularizer = (regularizer,)
        self.text_encoder = text_encoder
        self.trained = {self.product: trained}
        self.global_batch, self.num_held_out = global_batch, num_held_out
        self.drop_rate, self.seed = drop_rate, seed
        self.offset_noise, self.weighting = offset_noise, weighting
        self.micro_steps = MicroSteps()
        self._is_weighted = bool((self._weights(denoiser.schedule.steps) != 1.0).any())
        self._null_features: Condition | None = None

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [part.optimizer for part in self.trained.values()]

    def on_fit_start(self) -> None:
        for part in self.trained.values():
            part.follow()

    def losses(
        self,
        batch: LatentBatch,
        *,
        seed: int,
        count: int,
        drop_rate: float,
        offset_noise: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Unweighted losses (B,) and timesteps (B,) of a batch under the draws of ``seed``.

        The timesteps are spread evenly over the ``count`` samples that belong together.
        """
        step, index = batch.step, batch.index
        with torch.no_grad():
            noise = normal(stream(seed, "posterior", step), index, self._latent_shape(batch))
            code = batch.code.to(self.scale.mean.dtype)  # half the bytes on the way to a GPU
            x0 = self.scale.normalize(self.regularizer.draw(code, noise))
            eps = normal(stream(seed, "noise", step), index, x0.shape[1:])
            if offset_noise > 0.0:
                key = stream(seed, "offset_noise", step)
                eps = eps + offset_noise * normal(key, index, (x0.shape[1], 1, 1))
            t = self.denoiser.schedule.draw(seed, step, index, count)
            x, target = self.denoiser.noised(x0, eps, t), self.denoiser.target(x0, eps, t)
        condition = drop(*self._conditions(batch), drop_rate, seed=seed, step=step, index=index)
        return denoising_loss(self.denoiser.predict(x, t, condition), target), t

    def _conditions(self, batch: LatentBatch) -> tuple[Condition, Condition]:
        """The condition of a batch, from stored features where it has some, and the null one."""
        encoder = self.text_encoder
        if batch.tokens is None and batch.vector is None:
            return encoder(batch.ids, batch.sizes), encoder.null(batch.sizes)
        if self._null_features is None:  # once: features are stored of frozen encoders only
            self._null_features = encoder.null_features()
        features = Condition(tokens=batch.tokens, vector=batch.vector).map(Tensor.float)
        return (
            encoder.with_sizes(features, batch.sizes),
            encoder.with_sizes(self._null_features, batch.sizes),
        )

    def timesteps(self, step: int, index: Tensor) -> Tensor:
        """The training times (B,) of a step's samples, on the device of ``index``."""
        schedule = self.denoiser.schedule
        return schedule.draw(self.seed, step, index.to(schedule.steps.device), self.global_batch)

    def sample_losses(self, batch: LatentBatch) -> Tensor:
        """The loss of each sample of a training batch (B,), weighted as nothing."""
        return self.losses(
            batch,
            seed=self.seed,
            count=self.global_batch,
            drop_rate=self.drop_rate,
            offset_noise=self.offset_noise,
        )[0]

    def training_step(self, batch: LatentBatch, batch_index: int) -> dict[str, Tensor]:
        losses, t = self.losses(
            batch,
            seed=self.seed,
            count=self.global_batch,
            drop_rate=self.drop_rate,
            offset_noise=self.offset_noise,
        )
        loss = (losses * self._weights(t)).mean()
        logs = {"loss": losses.detach().mean()}
        if self._is_weighted:
            logs["weighted_loss"] = loss.detach()
        if self.micro_steps.backward(self, loss, batch.micro_steps):
            logs["gradient_norm"] = step_together(self.trained, self.step)[self.product]
            self.step += 1
        return logs

    @torch.no_grad()
    def validate(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Of a block, sums and counts ("loss", "loss_count", ...) on fixed timesteps and noise.

        Beside it what predictors that learned nothing would pay for the same timesteps:
        "linear_loss" and "zero_loss". Also per bin of timesteps: bin 0 has the least noise.
        Captions are kept, and the noise has no offset.
        """
        bins, num_steps = TIMESTEP_BINS, self.denoiser.schedule.num_steps
        losses, t = self.losses(
            batch, seed=stream(0, "validation"), count=self.num_held_out, drop_rate=0.0
        )
        found: dict[str, Tensor] = {}
        for name, values in self._terms(losses, t).items():
            sums, counts = by_timestep_bin(values, t, num_steps, bins)
            found |= {name: sums.sum(), f"{name}_count": counts.sum()}
            for i in range(bins):
                found |= {f"{name}_bin_{i}": sums[i], f"{name}_bin_{i}_count": counts[i]}
        return found

    def conclude(self, totals: dict[str, Tensor]) -> dict[str, Tensor]:
        """What sums over all blocks say: means."""
        return means(totals)

    def _terms(self, losses: Tensor, t: Tensor) -> dict[str, Tensor]:
        """What validation measures of each sample (B,), from its unweighted loss and timestep."""
        schedule, prediction = self.denoiser.schedule, self.denoiser.prediction
        levels = prediction, schedule.alpha(t), schedule.sigma(t)
        terms = {
            "loss": losses,
            "linear_loss": linear_predictor_loss(*levels),
            "zero_loss": zero_predictor_loss(*levels),
        }
        return terms | ({"weighted_loss": losses * self._weights(t)} if self._is_weighted else {})

    def _weights(self, t: Tensor) -> Tensor:
        """What multiplies the loss at timesteps t (B,), float32."""
        schedule, prediction = self.denoiser.schedule, self.denoiser.prediction
        return self.weighting(prediction, schedule.alpha(t), schedule.sigma(t)).float()

    def _latent_shape(self, batch: LatentBatch) -> tuple[int, ...]:
        _, stored, height, width = batch.code.shape
        return stored // self.regularizer.codes_per_latent, height, width

    @property
    def regularizer(self) -> Regularizer:
        """What draws latents from the cached codes."""
        return self._regularizer[0]
