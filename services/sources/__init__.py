"""sources asks the market's sources, the next one where the first has nothing, and streams the answers."""
