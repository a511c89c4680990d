"""The diffusion classifier made local, a method of this project."""
