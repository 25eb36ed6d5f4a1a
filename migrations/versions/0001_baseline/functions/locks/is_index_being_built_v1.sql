-- Whether another connection is building an index of a table or of its partitions. Its locks show this, which every role
-- can see.
CREATE FUNCTION semantic.is_index_being_built_v1(relation oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (
    SELECT FROM pg_locks AS held
    WHERE held.granted AND held.pid <> pg_backend_pid()
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (
          (held.relation = is_index_being_built_v1.relation OR held.relation IN (
              SELECT inhrelid FROM pg_inherits WHERE inhparent = is_index_being_built_v1.relation
          ))
          AND held.mode IN ('ShareUpdateExclusiveLock', 'ShareLock')
          AND held.pid IN (SELECT pid FROM pg_stat_progress_create_index)
          -- or the lock that a worker takes before it drops an index whose build was interrupted
          OR held.locktype = 'advisory' AND held.classid = 723628198 AND held.objid = is_index_being_built_v1.relation
      )
);
