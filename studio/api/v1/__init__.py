"""Version 1 of the REST API, a router for each part of the studio."""
