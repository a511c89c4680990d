"""Measuring: metrics in two steps, and the bundled benchmark."""
