"""Questions, a module each, and commands over several; what they share is in packages."""
