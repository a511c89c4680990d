"""Stand-alone students: ordinary segmentation networks trained on drawn pairs, which run without the model that drew them."""
