"""What is recorded: runs and summaries as files, and the authors' published curves."""
