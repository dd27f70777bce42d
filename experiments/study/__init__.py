"""What a question is made of: settings, ways of starting, figures, and its way to its files."""
