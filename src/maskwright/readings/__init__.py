"""What is read out of a model: probes, the recorder, and attention as operators."""
