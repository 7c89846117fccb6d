"""Pictures of a whole model: each for itself, begun from another, on the way to another."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ldm.diffusion.samplers.ddim import ddim
from ldm.diffusion.samplers.euler_ancestral import euler_ancestral
from ldm.generation import Edit, TextToImage, Towards
from tests.interop.conftest import make_model  # noqa: F401  a fixture

PROMPTS = ["a cat", "a large red circle", "wow", "a blue square", "a house"]
SEEDS = [3, 11, 12, 13, 40]
SETTINGS: dict[str, Any] = {
    "sampler": euler_ancestral, "steps": 3, "guidance": 2.0, "spacing": "trailing",
}  # fmt: skip
PICTURE = torch.linspace(-1, 1, 3 * 64 * 64).view(3, 64, 64)
MASK = torch.zeros(64, 64, dtype=torch.bool)
MASK[20:44, 10:50] = True
TOWARDS = Towards(
    PROMPTS[::-1], torch.tensor(SEEDS) + 7, torch.tensor([0.0, 1.0, 0.5, 0.25, 0.9]).double()
)
MODES: dict[str, dict[str, Any]] = {
    "text to image": {},
    "image to image": {"edit": Edit(PICTURE, 0.7)},
    "inpainting": {"edit": Edit(PICTURE, 1.0, MASK)},
    "interpolation": {"towards": TOWARDS},
    "all at once": {"edit": Edit(PICTURE, 0.7, MASK), "towards": TOWARDS},
}


@pytest.fixture(scope="module")
def model(make_model: Any) -> TextToImage:  # noqa: F811
    return make_model()


@pytest.fixture(scope="module")
def inpainting(make_model: Any) -> TextToImage:  # noqa: F811
    return make_model(unet={"in_channels": 9})


def whole(model: TextToImage, **more: Any) -> Tensor:
    return torch.cat(list(model.in_blocks(PROMPTS, SEEDS, **SETTINGS | {"block": 4} | more)))


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_does_not_depend_on_its_batch(mode: str, model: TextToImage) -> None:
    images = whole(model, **MODES[mode])
    assert images.shape == (5, 3, 64, 64) and images.std() > 0.05
    for more in ({"block": 1}, {"block": 3}, {"block": 16}, {"first": 2}):
        torch.testing.assert_close(whole(model, **MODES[mode] | more), images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_alone_at_its_place_has_the_same_bits(mode: str, model: TextToImage) -> None:
    images = whole(model, **MODES[mode])
    for i in (1, 3, 4):
        own = dict(MODES[mode])
        if "towards" in own:
            own["towards"] = own["towards"].rows([i])
        (alone,) = model.in_blocks(
            PROMPTS[i : i + 1], SEEDS[i : i + 1], block=4, first=i % 4, **SETTINGS, **own
        )
        assert torch.equal(alone[0], images[i])


def test_what_is_outside_of_the_mask_keeps_its_pixels(
    model: TextToImage, inpainting: TextToImage
) -> None:
    for one in (model, inpainting):
        images = whole(one, **MODES["inpainting"])
        assert torch.equal(images[..., ~MASK], PICTURE[:, ~MASK].expand(5, -1, -1))
        assert (images[..., MASK] - PICTURE[:, MASK]).abs().mean() > 0.1


def test_at_full_strength_nothing_of_what_is_painted_over_reaches_an_inpainting_model(
    inpainting: TextToImage,
) -> None:
    images = whole(inpainting, edit=Edit(PICTURE, 1.0, MASK))
    other = torch.where(MASK, 0.77, PICTURE)
    assert torch.equal(whole(inpainting, edit=Edit(other, 1.0, MASK)), images)
    assert not torch.equal(whole(inpainting, edit=Edit(-PICTURE, 1.0, MASK)), images)
    assert not torch.equal(whole(inpainting, edit=Edit(other, 0.7, MASK)), images)


def test_the_network_gets_mask_and_masked_latents_by_the_nearest_pixel(
    inpainting: TextToImage,
) -> None:
    seen = []
    hook = inpainting.denoiser.network.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[2].image)
    )
    whole(inpainting, edit=Edit(PICTURE, 1.0, MASK), block=5)
    hook.remove()
    image = seen[0]
    assert image.shape == (10, 5, 8, 8)  # both halves of the guidance
    assert torch.equal(image, image[:1].expand_as(image))
    assert torch.equal(image[0, 0], MASK[::8, ::8].float())
    code = inpainting.autoencoder.encode(torch.where(MASK, 0.0, PICTURE)[None])
    masked = inpainting.scale.normalize(code.chunk(2, dim=1)[0])
    torch.testing.assert_close(image[:1, 1:], masked)


def test_blending_paints_every_pixel_of_the_mask(model: TextToImage) -> None:
    """A strip between the points of the latents' grid too, alone or beside a larger region."""
    strip = torch.zeros_like(MASK)
    strip[8:56, 1:4] = True
    for mask in (strip, strip | MASK):
        images = whole(model, edit=Edit(PICTURE, 1.0, mask))
        painted, kept = (images - PICTURE)[..., strip], images[..., ~mask]
        assert (painted.abs().mean((0, 1)) > 0.01).all()
        assert torch.equal(kept, PICTURE[:, ~mask].expand(5, -1, -1))
    # The cells of the latents are those that the strip touches.
    cells = torch.zeros(8, 8, dtype=torch.bool)
    cells[1:7, 0] = True
    on_grid = cells.repeat_interleave(8, 0).repeat_interleave(8, 1)
    images, wide = (whole(model, edit=Edit(PICTURE, 1.0, mask)) for mask in (strip, on_grid))
    assert torch.equal(images[..., strip], wide[..., strip])


def test_the_ends_of_the_way_are_the_pictures_themselves(model: TextToImage) -> None:
    """With a stochastic sampler too: all of its noise goes along."""
    ends = whole(model)
    towards = Towards(["a cat"] * 5, torch.full((5,), 3), torch.tensor([0.0, 1, 0.5, 0, 1]))
    images = whole(model, towards=towards)
    assert torch.equal(images[[0, 3]], ends[[0, 3]])
    assert torch.equal(images[1], images[4]) and not torch.equal(images[1], ends[1])
    torch.testing.assert_close(images[1], ends[0], rtol=0, atol=1e-5)
    # The middle of the way from itself to itself is itself.
    still = Towards(PROMPTS, torch.tensor(SEEDS), torch.full((5,), 0.5))
    torch.testing.assert_close(whole(model, towards=still), ends, rtol=0, atol=1e-5)


def test_an_edit_that_the_model_cannot_do_is_refused(
    model: TextToImage, inpainting: TextToImage
) -> None:
    for edit in (None, Edit(PICTURE, 1.0)):
        with pytest.raises(ValueError, match="masked part of a picture: `ldm sample` takes one"):
            whole(inpainting, edit=edit)
    for edit in (Edit(PICTURE[:, :32], 1.0), Edit(PICTURE, 1.0, MASK[:, :32])):
        with pytest.raises(ValueError, match=r"to make are 64 x 64 px \(height x width\); found"):
            whole(model, edit=edit)
    dot = torch.zeros_like(MASK)
    dot[3, 3] = True
    with pytest.raises(ValueError, match="one pixel in 8 x 8"):
        whole(inpainting, edit=Edit(PICTURE, 1.0, dot))
    with pytest.raises(ValueError, match="leaves no step"):
        whole(model, edit=Edit(PICTURE, 0.1))


def test_pictures_of_another_size_and_shape(model: TextToImage) -> None:
    images = whole(model, size=(96, 48))
    assert images.shape == (5, 3, 96, 48) and images.std() > 0.05
    tall = torch.nn.functional.interpolate(PICTURE[None], size=(96, 48))[0]
    mask = torch.zeros(96, 48, dtype=torch.bool)
    mask[:40] = True
    edited = whole(model, size=(96, 48), edit=Edit(tall, 1.0, mask))
    assert torch.equal(edited[..., ~mask], tall[:, ~mask].expand(5, -1, -1))
    with pytest.raises(ValueError, match=r"found 64 x 64"):
        whole(model, size=(96, 48), edit=Edit(PICTURE, 0.5))


def test_a_size_that_cannot_be_halved_names_the_nearest_that_can(model: TextToImage) -> None:
    with pytest.raises(ValueError, match=r"multiples of 16 px; found 70 x 5 .* size=\[64, 16\]"):
        whole(model, size=(70, 5))


def test_image_to_image_begins_with_noise_on_the_picture_and_makes_the_last_steps(
    model: TextToImage,
) -> None:
    calls = []

    def watched(denoise: Any, x: Tensor, levels: Any, **more: Any) -> Tensor:
        calls.append((x, levels))
        return ddim(denoise, x, levels, **more)

    words = SETTINGS | {"sampler": watched, "steps": 10, "block": 5}
    whole(model, **words)
    whole(model, **words, edit=Edit(PICTURE, 0.35))
    (eps, _), (x, levels) = calls
    assert levels.num_steps == 3
    code = model.autoencoder.encode(PICTURE[None])
    x0 = model.scale.normalize(code.chunk(2, dim=1)[0])  # the mode, not a draw
    expected = levels.alpha[0].float() * x0 + levels.sigma[0].float() * eps
    torch.testing.assert_close(x, expected)
