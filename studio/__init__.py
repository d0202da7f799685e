"""The studio: composition, people, REST API and set-up. Nothing is imported here, so that set-up stays light."""
