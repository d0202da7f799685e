"""What runs do when ``compute`` announces a change."""
