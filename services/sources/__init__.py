"""sources asks the market for bars, quotes and economic series, and reads what comes."""
