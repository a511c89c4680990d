"""MaskDiffusion, text-driven part."""
