"""The only place that knows a model library: load, score, generate."""
