"""System checks of Atelier's own."""
