"""One module for each question of the paper."""
