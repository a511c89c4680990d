"""Pictures with known truth: readers of the benchmarks, and the renderer of the bundled scenes."""
