"""DiffSegmenter."""
