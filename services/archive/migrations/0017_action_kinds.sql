-- Spin-offs, mergers and rights beside splits, dividends and renames. The bounds are those of services/market/actions.py.
ALTER TABLE actions
    DROP CONSTRAINT actions_kind_check,
    DROP CONSTRAINT actions_check,
    DROP CONSTRAINT actions_check1,
    DROP CONSTRAINT actions_check2,
    DROP CONSTRAINT actions_ratio_check;
ALTER TABLE actions
    ADD CONSTRAINT actions_kind_check
        CHECK (kind IN ('split', 'dividend', 'rename', 'spin_off', 'merger', 'rights')),
    ADD CONSTRAINT actions_ratio_check CHECK (ratio >= 1e-6 AND ratio <= 1e6 AND (ratio <> 1 OR kind <> 'split')),
    ADD CONSTRAINT actions_value_check CHECK (
        CASE
            WHEN withdrawn THEN num_nonnulls(ratio, amount, new_symbol) = 0
            WHEN kind = 'split' THEN ratio IS NOT NULL AND num_nonnulls(amount, new_symbol) = 0
            WHEN kind = 'dividend' THEN amount IS NOT NULL AND num_nonnulls(ratio, new_symbol) = 0
            WHEN kind = 'rename' THEN new_symbol IS NOT NULL AND num_nonnulls(ratio, amount) = 0
            WHEN kind = 'merger' THEN num_nonnulls(amount, new_symbol) > 0
            ELSE new_symbol IS NOT NULL AND amount IS NULL
        END
    );
