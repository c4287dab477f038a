"""The worker role: takes jobs and runs them."""

if __name__ != "cutwork.worker":
    raise ImportError(f"{__name__} is cutwork.worker when imported")
