"""Training of classifiers and generators."""
