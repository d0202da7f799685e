"""What deployments do when ``compute`` announces a change."""
