"""Training on drawn pairs: examples, how they are varied, the loop that survives being killed. Knows nothing of what is trained."""
