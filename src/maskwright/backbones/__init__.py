"""What a model is to the rest: one contract, a catalogue, loading."""
