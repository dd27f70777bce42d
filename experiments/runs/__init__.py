"""Carries a plan out: which runs, from which source models, trained and recorded."""
