"""Keep one processor busy until the process is ended."""

while True:
    pass
