"""From labels to prompts, tokens and keys; captions and the category filter."""
