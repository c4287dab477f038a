"""The console: over real WSGI calls and real databases, and in a real browser."""
