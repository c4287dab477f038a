"""The webhook, under each server that it is meant for, and attacked as the internet does."""
