"""AttentionCut."""
