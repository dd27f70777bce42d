"""Data sets as arrays, and the tasks that are made of their classes."""
