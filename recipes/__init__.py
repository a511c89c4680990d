"""How the bundled model is made. Nothing here is needed to use maskwright."""
