"""Labelled pictures from nothing but words: drawn by a frozen model, with masks cut from its own attention."""
