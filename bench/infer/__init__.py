"""What the model runtime adds to the models themselves: ``make bench-infer``."""
