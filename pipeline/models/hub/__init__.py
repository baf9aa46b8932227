"""Models whose weights come as a transformers checkpoint: a local folder or a hub repository."""
