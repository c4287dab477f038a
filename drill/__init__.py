"""The drill role: breaks the others on purpose, and checks what must never break."""

if __name__ != "cutwork.drill":
    raise ImportError(f"{__name__} is cutwork.drill when imported")
