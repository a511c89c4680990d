"""k-means on internal features, the baseline of the text-free methods."""
