"""DiffSeg."""
