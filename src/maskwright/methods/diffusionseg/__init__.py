"""DiffusionSeg."""
