"""Training one network or many at once, by the paper's settings."""
