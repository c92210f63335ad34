"""The settings: what they are, how they are loaded, and which of them contradict each other."""
