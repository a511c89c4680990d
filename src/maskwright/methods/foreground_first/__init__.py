"""Foreground first, a method of this project."""
