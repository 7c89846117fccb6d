"""Contrastive training: open_clip's loss by hand, the whole batch at once, fair retrieval."""

import pytest
import torch
import torch.nn.functional as F

from ldm.data.batches import ImageBatch
from ldm.random import normal, stream
from ldm.tasks.text_encoder import TextEncoderTask
from ldm.tasks.trained import Trained
from ldm.text.clip import ClipTowers

CAPTIONS = ["a red circle", "a blue square", "a green cross", "a white triangle"]


def make(accumulate=1, lr=0.1):
    torch.manual_seed(0)
    towers = ClipTowers(
        embed_dim=16,
        vision={"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
        text={"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        quick_gelu=False,
        states="last",
    )
    trained = Trained(
        towers,
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=lr),
        learning_rate=lambda step: lr,
        max_gradient_norm=1.0,
        ema_decay=None,
    )
    return TextEncoderTask(towers=towers, trained=trained, accumulate=accumulate)


def batch(task, captions, step=0):
    index = torch.arange(len(captions)) + step * len(captions)
    image = normal(stream(0, "picture"), index, (3, 16, 16)).tanh()
    return ImageBatch(step, index, image, task.towers.tokenize(captions))


def validated(task, blocks):
    """What the blocks' sums add up to."""
    found = [task.validate(block) for block in blocks]
    return {name: sum(sums[name] for sums in found) for name in found[0]}


def test_accumulation_is_refused_with_a_remedy():
    with pytest.raises(ValueError, match="cannot accumulate .2 micro-batches.*set micro_batch"):
        make(accumulate=2)


def test_the_loss_is_open_clips_symmetric_cross_entropy(fit):
    task = make()
    data = batch(task, CAPTIONS)
    with torch.no_grad():
        model = task.towers.model
        image = F.normalize(model.encode_image(data.image), dim=-1)
        text = F.normalize(model.encode_text(data.ids), dim=-1)
        logits = model.logit_scale.exp() * image @ text.T
        rows = -logits.log_softmax(1).diagonal().mean()
        columns = -logits.log_softmax(0).diagonal().mean()
    (found,) = fit(task, [data])
    torch.testing.assert_close(found["loss"], (rows + columns) / 2)
    torch.testing.assert_close(found["logit_scale"], torch.tensor(1 / 0.07))
    assert float(found["gradient_norm"]) > 0.0 and task.step == 1


def test_it_learns_which_caption_belongs_to_which_picture(fit):
    task = make()
    outputs = fit(task, [batch(task, CAPTIONS) for _ in range(40)])
    assert float(outputs[-1]["loss"]) < 0.5 * float(outputs[0]["loss"])
    found = validated(task, [batch(task, CAPTIONS)])
    assert float(found["retrieval"]) == 4.0


def test_the_temperature_is_limited(fit):
    task = make()
    for start in (9.0, -3.0):
        with torch.no_grad():
            task.towers.model.logit_scale.fill_(start)
        fit(task, [batch(task, CAPTIONS)])
        assert 0.0 <= float(task.towers.model.logit_scale.detach()) <= 4.6052


def test_validation_counts_equal_captions_as_right():
    task = make()
    same = ["a red circle"] * 3  # any of them is the right caption for each picture
    found = validated(task, [batch(task, same), batch(task, CAPTIONS, step=1)])
    assert float(found["loss_count"]) == float(found["retrieval_count"]) == 7.0
    assert float(found["retrieval"]) >= 3.0
    alone = validated(task, [batch(task, same)])
    assert float(alone["retrieval"]) == 3.0
    # Three equal captions cannot be told apart: each picture costs log 3.
    torch.testing.assert_close(alone["loss"], 3 * torch.tensor(3.0).log())
