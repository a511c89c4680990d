"""Word shares, a method of this project."""
