"""The migrations role: brings the tables up to date."""

if __name__ != "cutwork.migrations":
    raise ImportError(f"{__name__} is cutwork.migrations when imported")
