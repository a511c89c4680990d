"""DiffCut."""
