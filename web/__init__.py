"""HTTP: the API, the worker API, the pages; and starting the control processes."""
