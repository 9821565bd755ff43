"""The `farm` command: a client of the HTTP API, and a few verbs for operators.

Everything here is imported late: `farm --help` and `farm ps` need click and the
standard library, nothing else (docs/cli.md, "Start-up").
"""
