-- How many tokens workers have sent to remote encoders on each day (UTC), whichever encoder it was: an account pays for
-- all of them. Outlives the indexes. Only the owner can read it, because it tells how much text there is.
CREATE TABLE semantic.token_usage (
    day date PRIMARY KEY,
    tokens bigint NOT NULL DEFAULT 0,
    paced_until timestamptz NOT NULL DEFAULT clock_timestamp()  -- when the requests so far are within the limit per minute
) WITH (fillfactor = 50);
