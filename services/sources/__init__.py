"""sources knows how to ask the market's sources for bars, quotes and economic series, and reads their answers."""
