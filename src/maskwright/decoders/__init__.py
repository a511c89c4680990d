"""Light decoders on a frozen model's features, trained on pictures that such a model drew: the second stage of DiffusionSeg."""
