"""Pictures with known masks: the renderer of the bundled scenes."""
