-- Subscriptions that write to our tables. What they bring belongs to the workers of another cluster.
CREATE FUNCTION semantic.incoming_subscriptions_v1() RETURNS TABLE (subscription name, relations text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    RETURN QUERY
    SELECT subname, string_agg(CAST(CAST(srrelid AS regclass) AS text), ', ' ORDER BY srrelid)
    FROM pg_subscription
    JOIN pg_subscription_rel ON srsubid = pg_subscription.oid
    JOIN pg_class ON pg_class.oid = srrelid
    WHERE subenabled AND relkind <> 'S' AND (  -- since PostgreSQL 19, sequences are replicated too
        relnamespace = CAST('semantic' AS regnamespace)
        OR EXISTS (
            SELECT FROM semantic.generation LEFT JOIN pg_inherits ON inhparent = chunks
            WHERE srrelid IN (chunks, receipts, inhrelid)
        )
    )
    GROUP BY subname;
END
$body$;
