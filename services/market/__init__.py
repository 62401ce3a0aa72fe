"""What the services of the market share: records, the entries of their streams, and trading sessions."""
