"""The command line: options, errors of one sentence, progress, several processes."""
