"""The `farm` command against a small real HTTP server that speaks the API's shapes."""
