"""Name the values of indicators and features, in the order in which bars computes them. Pure.

A table of them has the same columns whatever rows there are.
"""

from typing import Final

# fmt: off
INDICATOR_NAMES: Final[tuple[str, ...]] = (
    "sma_20", "ema_20", "rsi_14", "macd", "macd_signal", "macd_hist", "bb_upper", "bb_middle",
    "bb_lower", "atr_14", "stoch_k", "stoch_d", "adx_14", "cci_20", "obv", "mfi_14", "vwap",
    "willr_14",
)
FEATURE_NAMES: Final[tuple[str, ...]] = (
    "ret_1", "ret_2", "ret_3", "ret_5", "ret_10", "ret_20", "ret_60", "ret_120", "ret_250",
    "mom_250_20", "vol_5", "vol_20", "vol_60", "vol_ratio_5_20", "vol_ratio_20_60", "parkinson_20",
    "garman_klass_20", "downside_vol_20", "natr_14", "skew_60", "kurt_60", "max_drawdown_60",
    "autocorr_20", "range_1", "range_z_20", "gap_1", "gap_abs_20", "close_location", "body_1",
    "dist_sma_20", "dist_sma_50", "dist_sma_200", "dist_high_20", "dist_high_250", "dist_low_20",
    "dist_low_250", "rsi_14", "macd", "macd_hist", "bb_z_20", "bb_width_20", "stoch_k", "adx_14",
    "cci_20", "mfi_14", "volume_z_20", "volume_ratio_5_20", "turnover_20", "amihud_20",
    "corr_market_20", "corr_market_60", "beta_60", "rel_ret_20", "weekday", "pause", "breadth_up_1",
    "breadth_sma_50", "breadth_high_20", "dispersion_1", "rank_ret_20",
)
# fmt: on
