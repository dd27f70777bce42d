"""The networks of the paper, as Flax modules."""
