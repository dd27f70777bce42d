"""What is fast, against whom: one command each."""
