"""Networks between pixels and latents, and what is stored of a picture."""
