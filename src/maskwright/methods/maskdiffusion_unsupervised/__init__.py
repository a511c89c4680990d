"""MaskDiffusion, unsupervised variant."""
