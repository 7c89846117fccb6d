"""What is minimised: perceptual distances, the patch-GAN and its losses, likelihoods, denoising."""
