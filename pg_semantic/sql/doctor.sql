-- The checks of `pg-semantic doctor`. Each statement is a check, and its rows are findings: the object, what was found,
-- and the statement or command that repairs it. Checks read the catalogs and our own tables; none scans a user's table.

-- name: pgvector_version
-- Releases of pgvector before 0.8.4 have bugs in vector indexes. The release that is installed on the server may not be
-- the one in the database.
SELECT 'extension vector' AS subject,
       format(
           'pgvector %s is installed in this database; %s', extversion,
           CASE WHEN CAST(string_to_array(default_version, '.') AS integer[]) < ARRAY[0, 8, 4]
                THEN format('the server has %s', default_version)
                ELSE format('the server has %s, which is newer', default_version) END
       ) AS what,
       CASE WHEN CAST(string_to_array(default_version, '.') AS integer[]) < ARRAY[0, 8, 4]
            THEN 'Install pgvector 0.8.4 or later on the server, then: ALTER EXTENSION vector UPDATE;'
            ELSE 'ALTER EXTENSION vector UPDATE;' END AS repair
FROM pg_extension
JOIN pg_available_extensions ON name = extname
WHERE extname = 'vector'
  AND CAST(string_to_array(extversion, '.') AS integer[])
      < greatest(ARRAY[0, 8, 4], CAST(string_to_array(default_version, '.') AS integer[]))

-- name: slow_signs
-- Copies whose vector index is on signs (`Compressed(bits=True)`), with a release of pgvector that is slow at them.
SELECT DISTINCT semantic_index.name AS subject,
       format('its vector index is on signs, and pgvector %s is installed in this database', extversion) AS what,
       'Install pgvector 0.8.4 or later on the server, then: ALTER EXTENSION vector UPDATE;' AS repair
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = index_id
JOIN pg_extension ON extname = 'vector'
WHERE CAST(generation.spec #>> '{compressed,bits}' AS boolean)
  AND CAST(string_to_array(extversion, '.') AS integer[]) < ARRAY[0, 8, 3]

-- name: search_path
-- Statements that name types or operators of pgvector need its schema on the search_path that a role starts with. This
-- checks the current role and the others that search. A role starts with what is set for the role, for this database or
-- for the server; a setting for the current role hides the server's own.
SELECT 'role ' || quote_ident(role.rolname) AS subject,
       format('pgvector is in schema %I, and search_path is %s', nspname, path) AS what,
       format(
           'ALTER %s SET search_path = %s;',
           concat_ws(
               ' ', CASE WHEN own IS NOT NULL THEN format('ROLE %I IN', role.rolname) END,
               format('DATABASE %I', current_database())
           ),
           concat_ws(', ', nullif(path, ''), quote_ident(nspname))
       ) AS repair
FROM pg_extension
JOIN pg_namespace ON pg_namespace.oid = extnamespace
JOIN pg_settings ON pg_settings.name = 'search_path'
JOIN pg_database ON datname = current_database()
CROSS JOIN pg_roles AS role
CROSS JOIN LATERAL (
    SELECT (array_agg(value ORDER BY setdatabase DESC) FILTER (WHERE setrole <> 0))[1] AS own,
           (array_agg(value ORDER BY setdatabase DESC) FILTER (WHERE setrole = 0))[1] AS general
    FROM pg_db_role_setting
    CROSS JOIN LATERAL unnest(setconfig) AS line
    CROSS JOIN LATERAL (VALUES (substr(line, length('search_path=') + 1))) AS part (value)
    WHERE starts_with(line, 'search_path=') AND setrole IN (0, role.oid) AND setdatabase IN (0, pg_database.oid)
) AS set_for
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN role.rolname = current_user THEN reset_val
        WHEN own IS NOT NULL OR general IS NOT NULL THEN coalesce(own, general)
        WHEN source IN ('default', 'configuration file', 'command line', 'environment variable') THEN reset_val
        ELSE boot_val
    END AS path
) AS begins_with
WHERE extname = 'vector' AND nspname <> 'pg_catalog'
  AND (role.rolname = current_user OR role.rolcanlogin AND NOT role.rolsuper AND EXISTS (
      SELECT FROM semantic.generation
      JOIN pg_class ON pg_class.oid = generation.chunks
      WHERE generation.role = 'live' AND has_table_privilege(role.oid, pg_class.oid, 'SELECT')
  ))
  AND NOT ARRAY[quote_ident(nspname), nspname] && regexp_split_to_array(path, '\s*,\s*')
ORDER BY role.rolname <> current_user, role.rolname

-- name: collation_version
-- If the operating system now sorts differently than when an index on text was built, the index does not find some
-- rows.
SELECT 'database ' || quote_ident(datname) AS subject,
       format(
           'its collation was version %s when indexes were built, and the server now has %s', datcollversion,
           pg_database_collation_actual_version(oid)
       ) AS what,
       format('REINDEX DATABASE %1$I; ALTER DATABASE %1$I REFRESH COLLATION VERSION;', datname) AS repair
FROM pg_database
WHERE datname = current_database() AND datcollversion <> pg_database_collation_actual_version(oid)

-- name: publications
-- A publication of all tables sends our queue to subscribers, where the same keys belong to other rows.
SELECT 'publication ' || quote_ident(pubname) AS subject,
       'it publishes the schema semantic, whose marks and jobs belong to this database alone' AS what,
       coalesce(
           format('CREATE PUBLICATION %I FOR TABLE %s; then let subscribers use it in place of %I',
                  pubname || '_tables', (
               SELECT string_agg(CAST(pg_class.oid AS regclass)::text, ', ' ORDER BY pg_class.oid)
               FROM pg_class
               JOIN pg_namespace ON pg_namespace.oid = relnamespace
               WHERE relkind IN ('r', 'p') AND relpersistence = 'p' AND NOT relispartition
                 AND nspname NOT IN ('pg_catalog', 'information_schema', 'semantic')
                 AND pg_class.oid NOT IN (SELECT chunks FROM semantic.generation
                                          UNION ALL SELECT receipts FROM semantic.generation)
           ), pubname),
           format('DROP PUBLICATION %I;', pubname)
       ) AS repair
FROM pg_publication
WHERE EXISTS (SELECT FROM pg_publication_tables AS sent WHERE sent.pubname = pg_publication.pubname
              AND schemaname = 'semantic')

-- name: long_transactions
-- While a transaction is open, finished marks and jobs cannot be vacuumed, and no vector index can be built.
SELECT format('process %s of %I', pid, usename) AS subject,
       format('its transaction has been open for %s minutes (%s)', extract(epoch FROM now() - xact_start)::bigint / 60,
              state) AS what,
       format('SELECT pg_terminate_backend(%s);', pid) AS repair
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND xact_start < now() - make_interval(secs => :seconds)
UNION ALL
SELECT format('prepared transaction %L', gid),
       format('it has been prepared for %s minutes', extract(epoch FROM now() - prepared)::bigint / 60),
       format('COMMIT PREPARED %1$L; or ROLLBACK PREPARED %1$L;', gid)
FROM pg_prepared_xacts
WHERE database = current_database() AND prepared < now() - make_interval(secs => :seconds)

-- name: autovacuum
-- Autovacuum keeps the queue small and the plans right.
SELECT 'server' AS subject, format('%s is off', name) AS what,
       format('ALTER SYSTEM SET %I = on; SELECT pg_reload_conf();', name) AS repair
FROM pg_settings
WHERE name IN ('autovacuum', 'track_counts') AND setting = 'off'
UNION ALL
SELECT CAST(oid AS regclass)::text, 'autovacuum is disabled for this table',
       format('ALTER TABLE %s RESET (autovacuum_enabled);', CAST(oid AS regclass))
FROM pg_class
WHERE reloptions && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0']
  AND (relnamespace = CAST('semantic' AS regnamespace)
       OR oid IN (SELECT chunks FROM semantic.generation UNION ALL SELECT receipts FROM semantic.generation
                  UNION ALL SELECT inhrelid FROM semantic.generation JOIN pg_inherits ON inhparent = chunks))

-- name: replication_role
-- Sessions with session_replication_role = replica write rows without firing ordinary triggers.
SELECT CASE WHEN setrole = 0 THEN 'database ' || quote_ident(current_database())
            ELSE 'role ' || CAST(CAST(setrole AS regrole) AS text) END AS subject,
       format('session_replication_role is set to replica for it') AS what,
       CASE WHEN setrole = 0 THEN format('ALTER DATABASE %I RESET session_replication_role;', current_database())
            ELSE format('ALTER ROLE %s%s RESET session_replication_role;', CAST(setrole AS regrole),
                        CASE WHEN setdatabase <> 0 THEN format(' IN DATABASE %I', current_database()) ELSE '' END)
       END AS repair
FROM pg_db_role_setting
WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND EXISTS (SELECT FROM unnest(setconfig) AS line WHERE line ILIKE 'session_replication_role=replica')

-- name: gin_fuzzy_search_limit
-- With this setting, a GIN index scan returns a random subset of the matching rows, and so do searches by words.
SELECT CASE WHEN setrole = 0 AND setdatabase = 0 THEN 'all roles'
            WHEN setrole = 0 THEN 'database ' || quote_ident(current_database())
            ELSE 'role ' || CAST(CAST(setrole AS regrole) AS text) END AS subject,
       format('gin_fuzzy_search_limit is set to %s for it', value) AS what,
       format('ALTER %s RESET gin_fuzzy_search_limit;', concat_ws(
           ' ', CASE WHEN setrole <> 0 THEN format('ROLE %s', CAST(setrole AS regrole))
                     WHEN setdatabase = 0 THEN 'ROLE ALL' END,
           CASE WHEN setdatabase <> 0 AND setrole <> 0 THEN 'IN' END,
           CASE WHEN setdatabase <> 0 THEN format('DATABASE %I', current_database()) END
       )) AS repair
FROM pg_db_role_setting
CROSS JOIN LATERAL unnest(setconfig) AS line
CROSS JOIN LATERAL (VALUES (split_part(line, '=', 2))) AS part (value)
WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND starts_with(line, 'gin_fuzzy_search_limit=') AND value <> '0'
UNION ALL
SELECT 'server', format('gin_fuzzy_search_limit is %s', setting),
       'ALTER SYSTEM RESET gin_fuzzy_search_limit; SELECT pg_reload_conf();'
FROM pg_settings
WHERE name = 'gin_fuzzy_search_limit' AND setting <> '0'
  AND source IN ('configuration file', 'command line', 'environment variable')

-- name: unlogged
-- An unlogged table is empty after a crash, and nothing notices that its rows are gone.
SELECT CAST(oid AS regclass)::text AS subject, 'this table is unlogged' AS what,
       format('ALTER TABLE %s SET LOGGED;', CAST(oid AS regclass)) AS repair
FROM pg_class
WHERE relkind = 'r' AND relpersistence = 'u'
  AND (oid IN (SELECT chunks FROM semantic.generation UNION ALL SELECT receipts FROM semantic.generation
               UNION ALL SELECT inhrelid FROM semantic.generation JOIN pg_inherits ON inhparent = chunks)
       OR oid IN ('semantic.mark'::regclass, 'semantic.job'::regclass, 'semantic.generation'::regclass,
                  'semantic.semantic_index'::regclass, 'semantic.encoder'::regclass))

-- name: lost_tables
-- Tables that the registry names and the database no longer has. An index whose table was dropped can be moved to the
-- table that has its name now.
SELECT semantic_index.name AS subject,
       format('the table of its source (oid %s) was dropped%s', CAST(semantic_index.source AS oid),
              ', and table ' || CAST(CAST(successor.relation AS regclass) AS text) || ' has its name now') AS what,
       CASE WHEN successor.relation IS NULL
           THEN concat(
               'DROP TABLE IF EXISTS ' || (
                   SELECT string_agg(CAST(oid AS regclass)::text, ', ') FROM pg_class WHERE oid IN (chunks, receipts)
               ) || ' CASCADE; ',
               format('SELECT semantic.unregister_index_v1(%s::oid::regclass);', CAST(chunks AS oid)))
           ELSE format('pg-semantic index adopt %s', semantic_index.name) END AS repair
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id AND generation.role = 'live'
LEFT JOIN LATERAL (
    SELECT semantic.table_by_name_v1(format('%I.%I', nspname, generation.spec ->> 'table')) AS relation
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pg_class.oid = generation.chunks
) AS successor ON true
WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = semantic_index.source)
UNION ALL
SELECT semantic_index.name, format('a table of its %s copy was dropped', generation.role),
       CASE WHEN generation.role = 'live' THEN 'pg-semantic index drop ' ELSE 'pg-semantic repair ' END
       || quote_ident(semantic_index.name)
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id
WHERE EXISTS (SELECT FROM pg_class WHERE oid = semantic_index.source)
  AND (NOT EXISTS (SELECT FROM pg_class WHERE oid = generation.chunks)
       OR NOT EXISTS (SELECT FROM pg_class WHERE oid = generation.receipts))

-- name: moved_schema
-- Tables that were moved to another schema without their semantic index.
SELECT name AS subject, format('its table %s is in another schema than its vectors', source) AS what,
       semantic.move_to_source_schema_sql_v1(id) || ';' AS repair
FROM semantic.semantic_index
WHERE semantic.move_to_source_schema_sql_v1(id) IS NOT NULL

-- name: swapped_tables
-- Indexes whose source has lost its name to another table, which was loaded next to it and then renamed.
SELECT name AS subject,
       format('it follows %s, and another table is called %I.%I now', source, nspname, declared.table_name) AS what,
       format('pg-semantic index adopt %s', name) AS repair
FROM semantic.semantic_index
JOIN pg_class ON pg_class.oid = source
JOIN pg_namespace ON pg_namespace.oid = relnamespace
CROSS JOIN LATERAL (
    SELECT spec ->> 'table' AS table_name
    FROM semantic.generation
    WHERE index_id = semantic_index.id AND role = 'live'
) AS declared
WHERE semantic.table_by_name_v1(format('%I.%I', nspname, declared.table_name)) <> semantic_index.source

-- name: triggers
-- Tables or partitions whose changes are not captured.
SELECT name AS subject,
       format('the triggers of %s (%s) are missing or disabled', relation,
              string_agg(event, ', ' ORDER BY event)) AS what,
       'pg-semantic repair ' || quote_ident(name) AS repair
FROM semantic.semantic_index
JOIN pg_class ON pg_class.oid = semantic_index.source
CROSS JOIN LATERAL semantic.missing_triggers_v1(source, name || '_capture')
GROUP BY name, relation

-- name: capture_privileges
-- The triggers run as the owner of their function, who must be able to append to the queue.
SELECT DISTINCT semantic_index.name AS subject,
       format('%s owns its capture function and may not append to semantic.mark: every write to %s fails',
              CAST(proowner AS regrole), semantic_index.source) AS what,
       format('GRANT USAGE ON SCHEMA semantic TO %1$s; GRANT INSERT ON semantic.mark TO %1$s;',
              CAST(proowner AS regrole)) AS repair
FROM semantic.semantic_index
JOIN pg_trigger ON tgrelid = semantic_index.source AND starts_with(tgname, semantic_index.name || '_capture_')
JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE NOT (has_schema_privilege(proowner, 'semantic', 'USAGE')
           AND has_table_privilege(proowner, 'semantic.mark', 'INSERT'))

-- name: foreign_keys
-- A foreign key deletes chunks and receipts together with their row. Dropping a partition with CASCADE drops this key
-- too. Adding it back is quick, because it is NOT VALID and no row is checked; no writer waits for the statement that
-- validates it. Before PostgreSQL 18, the foreign key of a partitioned table cannot be NOT VALID.
SELECT semantic_index.name AS subject,
       CASE WHEN known.name IS NULL
            THEN format('%s has no foreign key to %s that deletes its rows', known.relation, known.source)
            ELSE format('foreign key %I of %s is not validated', known.name, known.relation) END AS what,
       CASE WHEN known.name IS NULL THEN format(
           'SET lock_timeout = ''200ms''; ALTER TABLE %1$s %5$sADD CONSTRAINT %4$I FOREIGN KEY (%2$s) REFERENCES %3$s (%2$s) '
           'ON DELETE CASCADE ON UPDATE CASCADE%6$s; RESET lock_timeout; ',
           known.relation, known.key, known.source, made.name, known.drops,
           CASE WHEN known_class.relkind = 'r' OR CAST(current_setting('server_version_num') AS integer) >= 180000
                THEN ' NOT VALID' END
       ) ELSE '' END
       || format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', known.relation, coalesce(known.name, made.name)) AS repair
FROM semantic.semantic_index
CROSS JOIN LATERAL semantic.unsound_foreign_keys_v1(semantic_index.id) AS known
JOIN semantic.generation ON generation.id = known.generation_id AND semantic.is_still_unique_key_v1(known.source, spec)
JOIN pg_class AS known_class ON known_class.oid = known.relation
CROSS JOIN LATERAL (
    SELECT CAST(format(
        'semantic_%s_%s_row', generation.id, CASE known.relation WHEN generation.chunks THEN 'chunk' ELSE 'receipt' END
    ) AS name) AS name
) AS made

-- name: columns
-- Columns that an index reads and its table no longer has.
SELECT semantic_index.name AS subject,
       format('column %I, %s, is missing from %s', lost.name, lost.use, source) AS what,
       format('ALTER TABLE %s RENAME COLUMN ... TO %I; or pg-semantic index drop %s, then create it again',
              source, lost.name, semantic_index.name) AS repair
FROM semantic.semantic_index
JOIN pg_class ON pg_class.oid = source
CROSS JOIN LATERAL (
    SELECT name, 'part of its text' AS use FROM semantic.source_columns_v1(semantic_index.id) WHERE NOT there
    UNION ALL
    SELECT named.name, named.use
    FROM semantic.generation
    CROSS JOIN LATERAL (
        SELECT value ->> 'name', 'part of its key' FROM jsonb_array_elements(spec -> 'key')
        UNION ALL
        SELECT spec ->> 'policy_column', 'which policy_column names'
    ) AS named (name, use)
    LEFT JOIN pg_attribute ON attrelid = source AND attname = named.name AND NOT attisdropped
    WHERE index_id = semantic_index.id AND role = 'live' AND named.name IS NOT NULL AND attname IS NULL
) AS lost

-- name: key_types
-- Key columns that have become wider, or sort differently, since the chunk table was created; and keys that are no
-- longer unique.
SELECT semantic_index.name AS subject,
       string_agg(
           format('key column %I is %s in %s and %s in %s', altered.part, altered.wanted, source, altered.has,
                  altered.relation), '; '
       ) AS what,
       CASE WHEN bool_and(altered.castable) THEN 'pg-semantic index refresh ' || quote_ident(semantic_index.name)
            ELSE format('no vector has such a key: pg-semantic index drop %I, then create it again', semantic_index.name)
       END AS repair
FROM semantic.semantic_index
CROSS JOIN LATERAL semantic.altered_key_columns_v1(semantic_index.id) AS altered
GROUP BY semantic_index.id
UNION ALL
SELECT semantic_index.name, format('several rows of %s can have the same key', semantic_index.source),
       format('make %s unique again, or pg-semantic index drop %I and create it with the current key', (
           SELECT string_agg(quote_ident(part ->> 'name'), ', ') FROM jsonb_array_elements(spec -> 'key') AS part
       ), semantic_index.name)
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id AND role = 'live'
JOIN pg_class ON pg_class.oid = source
WHERE NOT semantic.is_still_unique_key_v1(source, spec)

-- name: problems
-- What a worker could not do for an index, as `pg-semantic status` shows it.
SELECT semantic_index.name AS subject,
       format('%s of its %s copy: %s', CASE kind
           WHEN 'sync' THEN 'workers do not sync the rows' WHEN 'build' THEN 'a worker could not build an index'
           WHEN 'capture' THEN 'a worker could not restore the capture'
           WHEN 'foreign_key' THEN 'a worker could not validate a foreign key'
           ELSE 'a worker could not adapt the key' END, generation.role, reason) AS what,
       'do what the reason says; a worker then tries again, at once with: pg-semantic worker --once' AS repair
FROM semantic.problem
JOIN semantic.generation ON generation.id = generation_id
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id

-- name: inheritance
-- To a reader, the rows of a table that inherits are rows of the parent, but the parent's key does not cover them.
SELECT name AS subject,
       format('%s inherits from its table %s, and rows of it are not indexed',
              string_agg(CAST(inhrelid AS regclass)::text, ', '), source) AS what,
       format('ALTER TABLE %s NO INHERIT %s;', min(CAST(inhrelid AS regclass)::text), source) AS repair
FROM semantic.semantic_index
JOIN pg_class ON pg_class.oid = source AND relkind = 'r'
JOIN pg_inherits ON inhparent = source
GROUP BY name, source

-- name: late_indexes
-- Vector and lexical indexes that are not built although no row is waiting to be synced first; and invalid indexes of
-- the same kinds that are left over.
SELECT semantic_index.name AS subject,
       format('%s of its %s copy is %s', wanted.what, generation.role,
              CASE WHEN built.valid IS NULL THEN 'not built'
                   ELSE 'invalid: its build was interrupted' END) AS what,
       'pg-semantic worker --once' AS repair
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id
CROSS JOIN LATERAL (
    VALUES ('the vector index', chunks, 'hnsw', true),
           ('the index on lexemes', receipts, 'gin', jsonb_typeof(spec -> 'lexical') = 'object')
) AS wanted (what, relation, method, is_wanted)
JOIN pg_class ON pg_class.oid = wanted.relation
LEFT JOIN LATERAL (
    SELECT bool_or(indisvalid) AS valid
    FROM pg_index
    JOIN pg_class AS index ON index.oid = indexrelid
    JOIN pg_am ON pg_am.oid = index.relam
    WHERE indrelid = wanted.relation AND amname = wanted.method
) AS built ON true
WHERE wanted.is_wanted AND built.valid IS NOT TRUE
  AND backfilled_at IS NOT NULL AND semantic.table_size_v1(chunks) > 0
  AND NOT EXISTS (SELECT FROM semantic.mark WHERE mark.generation_id = generation.id)
  AND NOT EXISTS (SELECT FROM semantic.job WHERE job.generation_id = generation.id AND state <> 'failed')
  AND NOT semantic.is_index_being_built_v1(wanted.relation)
UNION ALL
SELECT DISTINCT semantic_index.name, format('index %s is invalid, as after a REINDEX that was canceled', built.name),
       format('DROP INDEX CONCURRENTLY %s;', built.name)
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id
LEFT JOIN pg_inherits ON inhparent = chunks
JOIN pg_index ON indrelid IN (chunks, receipts, inhrelid) AND NOT indisvalid
CROSS JOIN LATERAL (SELECT CAST(CAST(indexrelid AS regclass) AS text)) AS built (name)
WHERE NOT semantic.is_index_being_built_v1(indrelid)
  AND EXISTS (
      SELECT FROM pg_index AS other
      JOIN pg_class AS good ON good.oid = other.indexrelid
      JOIN pg_class AS bad ON bad.oid = pg_index.indexrelid AND bad.relam = good.relam
      WHERE other.indrelid = pg_index.indrelid AND other.indisvalid AND NOT other.indisprimary
  )

-- name: partition_locks
-- A search locks each partition of the chunk table with its indexes. The server has room for about twice as many locks per
-- connection as max_locks_per_transaction says.
SELECT semantic_index.name AS subject,
       format('a search holds about %s locks, and max_locks_per_transaction is %s', wanted.locks, setting) AS what,
       format('ALTER SYSTEM SET max_locks_per_transaction = %s; then restart the server', wanted.locks) AS repair
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id AND role = 'live'
CROSS JOIN LATERAL (SELECT 5 * count(*) AS locks FROM pg_inherits WHERE inhparent = chunks) AS wanted
JOIN pg_settings ON pg_settings.name = 'max_locks_per_transaction'
WHERE wanted.locks > 2 * CAST(setting AS integer)

-- name: table_statistics
-- Tables of more than a megabyte that were never analyzed; the planner treats them as small. Autovacuum never analyzes a
-- partitioned table, only its partitions, so workers do that.
SELECT CAST(pg_class.oid AS regclass)::text AS subject, 'this table has never been analyzed' AS what,
       format('ANALYZE %s;', CAST(pg_class.oid AS regclass)) AS repair
FROM pg_class
WHERE reltuples < 0 AND semantic.table_size_v1(pg_class.oid) > 1000000
  AND (relkind = 'r' OR relkind = 'p' AND pg_class.oid IN (SELECT chunks FROM semantic.generation))
  AND pg_class.oid IN (
      SELECT chunks FROM semantic.generation UNION SELECT receipts FROM semantic.generation
      UNION SELECT inhrelid FROM semantic.generation JOIN pg_inherits ON inhparent = chunks
      UNION SELECT tree.relid FROM semantic.semantic_index CROSS JOIN LATERAL (
          SELECT source AS relid UNION SELECT relid FROM pg_partition_tree(source)
      ) AS tree
  )

-- name: term_statistics
-- A worker counts how many rows contain each word. Until then, BM25 treats every word as rare.
SELECT semantic_index.name AS subject,
       format('the statistics of words of its %s copy were never counted', generation.role) AS what,
       'pg-semantic worker --once' AS repair
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id
JOIN pg_class ON pg_class.oid = receipts
WHERE jsonb_typeof(spec -> 'lexical') = 'object' AND backfilled_at IS NOT NULL AND pg_relation_size(receipts) > 0
  AND NOT EXISTS (SELECT FROM semantic.lexicon WHERE lexicon.generation_id = generation.id)
  AND NOT EXISTS (SELECT FROM semantic.mark WHERE mark.generation_id = generation.id)
  AND NOT EXISTS (SELECT FROM semantic.job WHERE job.generation_id = generation.id AND state <> 'failed')

-- name: worker
-- Changes that have waited for a minute or more while no worker was alive.
SELECT 'worker' AS subject,
       format('no worker is alive, and the oldest of the changes that wait is %s minutes old',
              extract(epoch FROM now() - min(since))::bigint / 60) AS what,
       'pg-semantic worker' AS repair
FROM (
    SELECT min(marked_at) AS since FROM semantic.mark
    UNION ALL
    SELECT min(dirty_at) FROM semantic.job WHERE state <> 'failed'
    UNION ALL
    SELECT min(created_at) FROM semantic.generation WHERE backfilled_at IS NULL
) AS waiting
WHERE NOT EXISTS (SELECT FROM semantic.worker WHERE heartbeat_at > now() - interval '1 minute')
HAVING min(since) < now() - interval '1 minute'

-- name: backlog
-- Edits that have waited for a long time although workers are alive.
SELECT name AS subject,
       format('%s edits wait, the oldest for %s minutes, although workers are alive', count(*),
              extract(epoch FROM now() - min(waiting.since))::bigint / 60) AS what,
       'Read the log of a worker, or run more of them: pg-semantic worker' AS repair
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id
JOIN (
    SELECT generation_id, marked_at AS since FROM semantic.mark
    UNION ALL
    SELECT generation_id, dirty_at FROM semantic.job WHERE state <> 'failed' AND priority = 0
) AS waiting ON waiting.generation_id = generation.id
WHERE EXISTS (SELECT FROM semantic.worker WHERE heartbeat_at > now() - interval '1 minute')
GROUP BY semantic_index.id
HAVING min(waiting.since) < now() - make_interval(secs => :seconds)

-- name: failed_rows
-- Rows whose jobs are parked.
SELECT name AS subject,
       format('%s failed rows, such as row %s: %s', count(*), (array_agg(key ORDER BY available_at DESC))[1],
              left((array_agg(error ORDER BY available_at DESC))[1], 200)) AS what,
       'pg-semantic retry ' || quote_ident(name) AS repair
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id
JOIN semantic.job ON job.generation_id = generation.id AND state = 'failed'
GROUP BY semantic_index.id

-- name: search_functions
-- Indexes without the function that searches them from plain SQL.
SELECT name AS subject, format('it has no function %I for searches from plain SQL', name || '_search') AS what,
       format('SELECT semantic.create_search_function_v1(%s);', semantic_index.id) AS repair
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id AND role = 'live'
JOIN pg_class ON pg_class.oid = chunks
WHERE NOT EXISTS (
    SELECT FROM pg_proc
    WHERE pronamespace = relnamespace AND proname = semantic_index.name || '_search'
      AND position('semantic.search_sql_v1(asked' IN prosrc) > 0
)

-- name: privileges
-- Roles whose privileges on an index differ from their privileges on its source, in either direction.
SELECT name AS subject,
       CASE WHEN bool_or(step <> 'open')
            THEN 'its privileges are not those of its table: ' || string_agg(DISTINCT object, ', ') FILTER (WHERE step <> 'open')
            ELSE 'roles that can read its table cannot read ' || string_agg(DISTINCT object, ', ') END AS what,
       string_agg(statement, '; ' ORDER BY number) || ';' AS repair
FROM semantic.semantic_index
CROSS JOIN LATERAL semantic.privilege_statements_v1(id) WITH ORDINALITY AS due (step, object, statement, number)
GROUP BY semantic_index.id
UNION ALL
SELECT 'schema semantic', 'roles lack or exceed the privileges that searching needs: ' || string_agg(DISTINCT object, ', '),
       string_agg(statement, '; ' ORDER BY number) || ';'
FROM semantic.schema_privilege_statements_v1() WITH ORDINALITY AS due (step, object, statement, number)
HAVING count(*) > 0

-- name: worker_privileges
-- The privileges that the current role would lack as the role of a worker.
SELECT name AS subject,
       format('role %I %s', current_user, CASE
           WHEN row_security_active(source) THEN 'does not see all rows: row-level security of ' || source || ' applies'
           ELSE 'lacks privileges on ' || source || ' or on its vectors' END) AS what,
       CASE WHEN row_security_active(source) THEN format('ALTER ROLE %I BYPASSRLS;', current_user)
            ELSE format('GRANT %s TO %I;', CAST(relowner AS regrole), current_user) END AS repair
FROM semantic.semantic_index
JOIN pg_class ON pg_class.oid = source
JOIN semantic.generation ON generation.index_id = semantic_index.id AND role = 'live'
WHERE EXISTS (SELECT FROM pg_class AS kept WHERE kept.oid IN (chunks, receipts))
  AND (row_security_active(source)
       OR NOT has_table_privilege(source, 'SELECT')
       OR EXISTS (
           SELECT FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS needed (privilege)
           WHERE NOT has_table_privilege(chunks, privilege) OR NOT has_table_privilege(receipts, privilege)
       ))

-- name: pooler
-- Which server process answers, and the statement timeout, in milliseconds, that a session of this role starts with.
SELECT pg_backend_pid() AS pid, quote_ident(current_user) AS role,
       (SELECT CAST(reset_val AS integer) FROM pg_settings WHERE name = 'statement_timeout') AS statement_timeout

-- name: prompts
-- The encoder of every index as declared and, once loaded, the prompts that it actually has.
SELECT format('index %s', semantic_index.name) AS subject, semantic_index.name, generation.spec -> 'encoder' AS encoder,
       encoder.fingerprint IS NOT NULL AS is_loaded, encoder.query_prompt, encoder.document_prompt
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
JOIN semantic.encoder ON encoder.id = generation.encoder_id
WHERE generation.role = 'live'
ORDER BY semantic_index.id
