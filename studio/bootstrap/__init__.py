"""Setting up and starting everything: standard library only, so that it works before anything is installed."""
