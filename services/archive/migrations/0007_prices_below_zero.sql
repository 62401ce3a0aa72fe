-- A commodity may cost less than nothing, as oil did on 20 April 2020. Prices of other classes are above 0: rows.py checks
-- each entry. What is stored already is above 0, so nothing is read for the new check.
ALTER DOMAIN market_price DROP CONSTRAINT market_price_check;
ALTER DOMAIN market_price ADD CONSTRAINT market_price_check CHECK (VALUE >= -1e18 AND VALUE <= 1e18) NOT VALID;
