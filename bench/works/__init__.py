"""The works that are measured: one module each, with ``works(place)`` that yields them."""
