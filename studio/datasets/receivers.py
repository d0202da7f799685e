"""What datasets do when something happens elsewhere."""
