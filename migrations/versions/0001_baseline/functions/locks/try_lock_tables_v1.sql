-- Locks tables and their partitions, in this order, within a fifth of a second in total; skips those that are gone.
-- If the role may set deadlock_timeout, the server cancels an autovacuum that is in the way.
CREATE FUNCTION semantic.try_lock_tables_v1(mode text, relations regclass[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms'
AS $body$
DECLARE
    deadline timestamptz := clock_timestamp() + interval '200 ms';
    usual text := current_setting('deadlock_timeout');
    can_hurry boolean := has_parameter_privilege('deadlock_timeout', 'SET');
    part record;
BEGIN
    PERFORM set_config('deadlock_timeout', '50ms', true) WHERE can_hurry;
    FOR part IN
        SELECT CAST(CAST(tree.relid AS regclass) AS text) AS name
        FROM unnest(relations) WITH ORDINALITY AS wanted (relation, number)
        CROSS JOIN LATERAL (
            SELECT relation AS relid, 0 AS level
            UNION ALL
            SELECT relid, level FROM pg_partition_tree(relation) WHERE level > 0
        ) AS tree
        JOIN pg_class ON pg_class.oid = tree.relid
        ORDER BY wanted.number, tree.level, tree.relid
    LOOP
        PERFORM set_config('lock_timeout', CAST(CAST(
            greatest(1, 1000 * extract(epoch FROM deadline - clock_timestamp())) AS integer
        ) AS text), true);
        EXECUTE format('LOCK TABLE ONLY %s IN %s MODE', part.name, mode);
    END LOOP;
    PERFORM set_config('deadlock_timeout', usual, true) WHERE can_hurry;
END
$body$;
