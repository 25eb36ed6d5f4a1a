-- How many tokens the workers of this database send to remote encoders: in a minute, and on each day.

-- name: lazily
-- Lets this transaction commit before it is on disk. A crash of the server loses the counts of less than a second.
SELECT pg_catalog.set_config('synchronous_commit', 'off', true)

-- name: admit
-- Admits a request whose tokens take this many seconds of the limit, if the requests before it are paid for except
-- :ahead seconds. Returns how long to wait otherwise. The clock is the server's, for all workers. If it was set back,
-- the last request seems to be more than :most seconds ahead, and counting starts over.
WITH admitted AS (
    INSERT INTO semantic.token_usage AS known (day, paced_until)
    SELECT today.day, CASE
            WHEN before.paced_until BETWEEN today.at AND today.at + make_interval(secs => :most) THEN before.paced_until
            ELSE today.at
        END + make_interval(secs => :seconds)
    FROM (SELECT clock_timestamp() AS at, CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) AS day) AS today
    LEFT JOIN semantic.token_usage AS before ON before.day = today.day - 1
    ON CONFLICT (day) DO UPDATE
    SET paced_until = least(
        CASE
            WHEN known.paced_until BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(secs => :most)
                THEN known.paced_until
            ELSE clock_timestamp()
        END + make_interval(secs => :seconds),
        clock_timestamp() + make_interval(secs => :most)
    )
    WHERE known.paced_until NOT BETWEEN clock_timestamp() + make_interval(secs => :ahead)
        AND clock_timestamp() + make_interval(secs => :most)
    RETURNING day
)
SELECT CASE WHEN EXISTS (SELECT FROM admitted) THEN 0 ELSE greatest(0.001, coalesce((
    SELECT CAST(extract(epoch FROM paced_until - clock_timestamp()) AS double precision) - :ahead
    FROM semantic.token_usage
    WHERE day = CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date)
), 0)) END AS seconds

-- name: record
-- Adds tokens to those of today (UTC), and corrects the seconds that requests were admitted with.
INSERT INTO semantic.token_usage AS known (day, tokens)
VALUES (CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date), :tokens)
ON CONFLICT (day) DO UPDATE
SET tokens = known.tokens + excluded.tokens,
    paced_until = least(
        known.paced_until + make_interval(secs => :seconds), clock_timestamp() + make_interval(secs => :most)
    )

-- name: today
-- The tokens that were sent today (UTC).
SELECT coalesce((
    SELECT tokens FROM semantic.token_usage WHERE day = CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date)
), 0) AS tokens

-- name: may_read
-- Whether the role can read them: the owner of our schema can.
SELECT has_table_privilege('semantic.token_usage', 'SELECT')
