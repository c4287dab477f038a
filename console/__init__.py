"""The console role: what there is, what went wrong, and what to do about it, in a browser."""

if __name__ != "cutwork.console":
    raise ImportError(f"{__name__} is cutwork.console when imported")
