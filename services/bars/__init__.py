"""Check the bars of the market, build longer ones of minutes, and compute indicators and features of them."""
