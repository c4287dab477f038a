"""What docker/ holds, tried as far as it goes without a Docker engine."""
