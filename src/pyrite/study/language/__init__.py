"""Studies of language models: damage by training, repairs, and what is left of both. Begin with `spec.py`, then `run.py`."""
