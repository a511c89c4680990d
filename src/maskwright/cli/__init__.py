"""The command line: one file per command, thin; what they do is done elsewhere."""
