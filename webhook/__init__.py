"""The webhook role: hears the callbacks."""

if __name__ != "cutwork.webhook":
    raise ImportError(f"{__name__} is cutwork.webhook when imported")
