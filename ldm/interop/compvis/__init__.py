"""The single-file layout of CompVis: Stable Diffusion 1, 2, XL and its refiner in one file."""
