"""The sample photographs of the demo; README.md names their makers and licences."""
