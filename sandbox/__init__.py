"""The sandbox role: speaks the provider's API on your own machine."""

if __name__ != "cutwork.sandbox":
    raise ImportError(f"{__name__} is cutwork.sandbox when imported")
