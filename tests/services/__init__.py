"""Real servers and real processes for the tests: found or started, and always cleaned up."""
