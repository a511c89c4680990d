"""DAAM."""
