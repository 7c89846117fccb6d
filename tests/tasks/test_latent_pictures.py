"""The rows of pictures that show what latents stand."""

import torch

from ldm.tasks.latent_pictures import LATENT_COLUMNS, latent_pictures
from tests.tasks.test_autoencoder import batch, make


def test_rows_move_away_from_the_reconstruction_and_are_the_same_each_time():
    autoencoder = make(codebook=None).autoencoder
    images = batch().image
    found = latent_pictures(autoencoder, images)
    assert torch.equal(found, latent_pictures(autoencoder, images))
    rows = found.unbind(1)
    assert len(rows) == LATENT_COLUMNS
    with torch.no_grad():
        expected = autoencoder.decode(autoencoder.regularizer.mode(autoencoder.encode(images)))
    torch.testing.assert_close(rows[0], expected.clamp(-1.0, 1.0))
    little, more, _ = (float((row - rows[0]).square().mean()) for row in rows[1:])
    assert 0.0 < little < more
    # Noise is in no picture's place: other pictures leave it as it is.
    assert torch.equal(rows[3], latent_pictures(autoencoder, images.flip(0))[:, 3])
