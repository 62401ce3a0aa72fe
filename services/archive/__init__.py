"""Keep the market in PostgreSQL: write what the streams say, each row once, and the highest revision wins."""
