-- The processes whose locks on tables or their partitions conflict with this mode.
CREATE FUNCTION semantic.lock_holders_v1(mode text, relations regclass[]) RETURNS text[]
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN ARRAY(
    SELECT DISTINCT coalesce(CAST(held.pid AS text), 'a prepared transaction')
    FROM pg_locks AS held
    WHERE held.granted AND held.locktype = 'relation' AND held.pid IS DISTINCT FROM pg_backend_pid()
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND held.relation = ANY (
          CAST(relations AS oid[])
          || ARRAY(SELECT relid FROM unnest(relations) AS wanted, pg_partition_tree(wanted))
      )
      AND (lock_holders_v1.mode = 'ACCESS EXCLUSIVE' OR held.mode NOT IN ('AccessShareLock', 'RowShareLock'))
    ORDER BY 1
);
