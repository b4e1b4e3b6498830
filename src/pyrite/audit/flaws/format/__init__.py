"""Format: answers that share one shape."""
