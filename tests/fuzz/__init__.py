"""Coverage-guided fuzzing of what strangers' bytes meet: ``python -m tests.fuzz NAME``."""
