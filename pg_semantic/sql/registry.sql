-- What the database knows about its semantic indexes, generations and encoders.

-- name: installed
-- Whether our schema exists, and the version of pgvector.
SELECT to_regclass('semantic.history') IS NOT NULL AS schema_installed,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector

-- name: pgvector_out_of_reach
-- The schema of pgvector, quoted, if the session doesn't find its types by their unqualified names.
SELECT CAST(CAST(extnamespace AS regnamespace) AS text)
FROM pg_extension
WHERE extname = 'vector' AND extnamespace <> ALL (
    CAST(CAST(current_schemas(true) AS text[]) AS regnamespace[])
)

-- name: own_session
-- The settings of our own sessions, as far as the server has them.
SELECT pg_catalog.set_config(name, value, false)
FROM (VALUES ('default_transaction_read_only', 'off'), ('idle_session_timeout', '0'), ('transaction_timeout', '0'),
             ('standard_conforming_strings', 'on'), ('escape_string_warning', 'on'), ('quote_all_identifiers', 'off')) AS ours (name, value)
WHERE pg_catalog.current_setting(name, true) IS NOT NULL

-- name: own_transaction
-- Further settings of our own transactions, or of sessions that are ours alone. Functions and operators without a
-- schema are then the server's, whatever others have the same name, and PostgreSQL 17 and later set no time limit on
-- the transaction. This statement still runs with the role's search_path, so it names the schema of each function.
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', :local) AS path,
       CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL
           THEN pg_catalog.set_config('transaction_timeout', '0', :local) END AS timeout

-- name: pgvector_schema
-- The schema of pgvector, quoted.
SELECT quote_ident(nspname)
FROM pg_extension
JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'vector'

-- name: find_pgvector
-- Lets a statement that creates a table find the types of pgvector by name.
SELECT set_config('search_path', concat_ws(', ', 'pg_catalog', quote_ident(nspname), 'pg_temp'), true)
FROM pg_extension
JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'vector'

-- name: revision
-- The revision that our schema is at.
SELECT version_num FROM semantic.history

-- name: generations
-- Every generation whose chunk table exists. Includes the current name of the source (renames are followed), the
-- statements that move the generation's tables next to a source that is in another schema now, and whether the source
-- is still the table that was declared.
SELECT generation.id, generation.role, semantic.current_spec_v1(generation.spec, generation.chunks) AS spec,
       generation.backfilled_at IS NOT NULL AS backfilled,
       source_schema.nspname AS schema, coalesce(source.relname, generation.spec ->> 'table') AS table,
       semantic_index.name, encoder.fingerprint, encoder.document_fingerprint, encoder.revision,
       semantic_index.id AS index_id,
       CASE WHEN chunks.relnamespace <> source.relnamespace THEN semantic.move_to_source_schema_sql_v1(semantic_index.id) END AS apart,
       source.oid IS NULL OR NOT semantic.is_still_unique_key_v1(source.oid, generation.spec) AS gone,
       source.relkind = 'p' AS partitioned,
       semantic.source_problem_v1(semantic_index.id) AS problem,
       semantic.key_operators_v1(source.oid, generation.spec) AS operators
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
JOIN semantic.encoder ON encoder.id = generation.encoder_id
JOIN pg_class AS chunks ON chunks.oid = generation.chunks
LEFT JOIN pg_class AS source ON source.oid = semantic_index.source
JOIN pg_namespace AS source_schema ON source_schema.oid = coalesce(source.relnamespace, chunks.relnamespace)
ORDER BY semantic_index.id, generation.id

-- name: stored_tables
-- The chunk and receipt tables of a generation, and whether an insert of chunks maintains a vector index.
SELECT CAST(chunks AS text) AS chunks, CAST(receipts AS text) AS receipts, EXISTS (
    SELECT FROM pg_index
    JOIN pg_class ON pg_class.oid = pg_index.indexrelid
    JOIN pg_am ON pg_am.oid = pg_class.relam
    WHERE pg_index.indrelid = generation.chunks AND pg_index.indisready AND pg_am.amname = 'hnsw'
) AS is_indexed
FROM semantic.generation
WHERE id = :generation

-- name: tables
-- The chunk and receipt tables of every generation and their partitions, by their current names.
SELECT pg_namespace.nspname AS schema, pg_class.relname AS name
FROM semantic.generation
LEFT JOIN pg_inherits ON inhparent = generation.chunks
JOIN pg_class ON pg_class.oid IN (generation.chunks, generation.receipts, inhrelid)
JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace

-- name: live
-- The live generation of every index, and all generations of that index. Used as a subquery, with a condition on
-- index_id that names a chunk table of the index: another one may be live than the one that was declared.
SELECT generation.id, generation.role, semantic.current_spec_v1(generation.spec, generation.chunks) AS spec,
       generation.backfilled_at IS NOT NULL AS backfilled,
       source_schema.nspname AS schema, source.relname AS table, semantic_index.name, encoder.fingerprint,
       encoder.document_fingerprint, encoder.revision, NULL AS apart,
       NULL AS operators,
       semantic_index.id AS index_id, source.relkind = 'p' AS partitioned,
       source.oid IS NULL OR NOT semantic.is_still_unique_key_v1(source.oid, generation.spec) AS gone,
       CASE WHEN source.oid IS NULL OR NOT semantic.is_still_unique_key_v1(source.oid, generation.spec) THEN semantic.source_problem_v1(semantic_index.id) END AS problem,
       ARRAY(SELECT id FROM semantic.generation AS kept WHERE kept.index_id = generation.index_id) AS kept
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
JOIN semantic.encoder ON encoder.id = generation.encoder_id
LEFT JOIN pg_class AS source ON source.oid = semantic_index.source
LEFT JOIN pg_namespace AS source_schema ON source_schema.oid = source.relnamespace
WHERE generation.role = 'live'

-- name: stored
-- How the semantic index with this chunk table was declared, or will be after its next switch, and whether it still
-- belongs to this source table. A view may have the name of a source that was renamed.
SELECT newest.spec,
       CASE WHEN to_regclass(:source) IS NOT NULL AND semantic.table_by_name_v1(:source) IS NULL
           THEN semantic.source_problem_v1(semantic_index.id) IS NULL
           ELSE semantic_index.source = to_regclass(:source) END AS same_source,
       semantic.source_problem_v1(semantic_index.id) AS problem
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
JOIN semantic.generation AS newest ON newest.index_id = semantic_index.id AND newest.role IN ('live', 'next')
WHERE generation.chunks = to_regclass(:chunks)
ORDER BY newest.role DESC
LIMIT 1

-- name: columns
-- The columns of a relation, in order, and which of them can be text columns of a semantic index.
SELECT CAST(attname AS text) AS name, format_type(atttypid, atttypmod) AS type, semantic.is_text_type_v1(atttypid) AS is_text
FROM pg_attribute
WHERE attrelid = to_regclass(:source) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum

-- name: source
-- What kind of relation this is, and how its primary key is checked.
SELECT CAST(relation.relkind AS text) AS kind, CAST(relation.relpersistence AS text) AS persistence,
       condeferrable AS deferrable, CAST(amname AS text) AS method, current_setting('server_encoding') AS encoding
FROM pg_class AS relation
LEFT JOIN pg_constraint ON conrelid = relation.oid AND contype = 'p'
LEFT JOIN pg_class AS key_index ON key_index.oid = conindid
LEFT JOIN pg_am ON pg_am.oid = key_index.relam
WHERE relation.oid = to_regclass(:source)

-- name: source_key
-- The columns of a table's primary key, in order. Types have names that work with any search_path; a domain is given as
-- the type that it is based on, whose values need no check. Also: whether a column is a domain over an enum, whether
-- its values can travel in binary, and whether the equality operator of the key supports merge or hash joins, which
-- joins of any size need.
SELECT CAST(attname AS text) AS name,
       format_type(base.oid, CASE pg_type.typtype WHEN 'd' THEN under.modifier ELSE atttypmod END) || CASE
           WHEN attcollation <> base.typcollation THEN
               ' COLLATE ' || quote_ident(nspname) || '.' || quote_ident(collname)
           ELSE ''
       END AS type,
       format_type(base.oid, NULL) AS base,
       pg_type.typtype = 'd' AND base.typtype = 'e' AS domain_over_enum,
       pg_type.typsend <> 0 AND pg_type.typreceive <> 0 AS binary,
       EXISTS (
           SELECT FROM pg_amop JOIN pg_operator ON pg_operator.oid = amopopr
           WHERE amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype AND amopstrategy = 3
               AND (oprcanmerge OR oprcanhash)
       ) AS joinable
FROM pg_constraint
JOIN pg_index ON indexrelid = conindid
CROSS JOIN LATERAL unnest(conkey, CAST(indclass AS oid[])) WITH ORDINALITY AS part (number, class, place)
JOIN pg_attribute ON attrelid = conrelid AND attnum = part.number
JOIN pg_type ON pg_type.oid = atttypid
CROSS JOIN LATERAL (
    WITH RECURSIVE domain AS (
        SELECT pg_type.oid, pg_type.typtype, pg_type.typbasetype, pg_type.typtypmod, -1 AS modifier
        UNION ALL
        SELECT inner_type.oid, inner_type.typtype, inner_type.typbasetype, inner_type.typtypmod, domain.typtypmod
        FROM domain JOIN pg_type AS inner_type ON inner_type.oid = domain.typbasetype
    )
    SELECT oid, modifier FROM domain WHERE typtype <> 'd'
) AS under
JOIN pg_type AS base ON base.oid = under.oid
JOIN pg_opclass ON pg_opclass.oid = part.class
LEFT JOIN pg_collation ON pg_collation.oid = attcollation
LEFT JOIN pg_namespace ON pg_namespace.oid = collnamespace
WHERE conrelid = to_regclass(:source) AND contype = 'p'
ORDER BY part.place

-- name: pin_encoder
-- The first worker that loads an encoder records what it loaded; later workers compare theirs.
UPDATE semantic.encoder
SET fingerprint = :fingerprint, document_fingerprint = :document_fingerprint, revision = :revision,
    max_tokens = :max_tokens, first_loaded_at = now(),
    query_prompt = coalesce(:query_prompt, query_prompt), document_prompt = coalesce(:document_prompt, document_prompt)
WHERE id = :id AND fingerprint IS NULL

-- name: pinned_encoder
-- What was recorded for an encoder.
SELECT reference, revision, fingerprint FROM semantic.encoder WHERE id = :id

-- name: lock_backfill
-- Locks the first backfill of a generation, or a later one that compares; no row if another worker has it, or if there
-- is none to do.
SELECT backfill_after
FROM semantic.generation
WHERE id = :generation AND backfilled_at IS NULL AND (stale_since IS NULL) = :first
FOR UPDATE SKIP LOCKED

-- name: advance_backfill
-- Records the last key that was looked at, and whether the backfill is finished. If another backfill has been requested,
-- rows may still be stale.
UPDATE semantic.generation
SET backfill_after = :after, backfilled_at = CASE WHEN :done THEN now() END, backfill_rows = backfill_rows + :rows,
    stale_since = CASE WHEN again.due THEN stale_since END, stale_reason = CASE WHEN again.due THEN stale_reason END
FROM (
    SELECT NOT :done OR EXISTS (SELECT FROM semantic.mark WHERE generation_id = :generation AND key IS NULL) AS due
) AS again
WHERE id = :generation

-- name: start_worker
-- Registers a worker, and deletes workers that have been silent for a day.
WITH gone AS (DELETE FROM semantic.worker WHERE heartbeat_at < now() - interval '1 day')
INSERT INTO semantic.worker (host, pid) VALUES (:host, :pid) RETURNING id

-- name: worker_heartbeat
-- Records that a worker is alive, what it has done, its speed since the last heartbeat, and why it pauses backfill.
UPDATE semantic.worker
SET heartbeat_at = now(), rows_synced = :rows, rows_per_second = :rate, paused = :paused
WHERE id = :id

-- name: replication
-- How much WAL the server has written since it was made, which standby is behind most, in seconds, and which slot
-- retains most: a lost one retains nothing, even if it still has a position. Whether a standby's lag is hidden from this
-- role. Runs with the role's search_path, so it names the schema of each function.
SELECT
    pg_catalog.pg_wal_lsn_diff(wal.lsn, '0/0') AS wal_bytes,
    standbys.hidden, last.application_name AS standby, last.lag, kept.slot_name AS slot, kept.retained
FROM (SELECT pg_catalog.pg_current_wal_insert_lsn() AS lsn) AS wal
CROSS JOIN (
    SELECT coalesce(pg_catalog.bool_or(state IS NULL), false) AS hidden FROM pg_catalog.pg_stat_replication
) AS standbys
LEFT JOIN LATERAL (
    SELECT application_name, CAST(EXTRACT(epoch FROM replay_lag) AS double precision) AS lag
    FROM pg_catalog.pg_stat_replication
    WHERE replay_lag IS NOT NULL
    ORDER BY replay_lag DESC
    LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT slot_name, pg_catalog.pg_wal_lsn_diff(wal.lsn, restart_lsn) AS retained
    FROM pg_catalog.pg_replication_slots
    WHERE restart_lsn IS NOT NULL AND wal_status <> 'lost'
    ORDER BY retained DESC
    LIMIT 1
) AS kept ON true

-- name: stop_worker
-- Unregisters a worker.
DELETE FROM semantic.worker WHERE id = :id

-- name: backfilled_seconds
-- Seconds since every row of a generation that needed a job has had one.
SELECT CAST(extract(epoch FROM now() - backfilled_at) AS double precision) FROM semantic.generation WHERE id = :id

-- name: workers_alive
-- How many workers sent a heartbeat in the last minute (three heartbeat intervals), their combined speed, and why they
-- pause backfill.
SELECT count(*) AS workers, CAST(coalesce(sum(rows_per_second), 0) AS double precision) AS rows_per_second,
       array_agg(DISTINCT paused) FILTER (WHERE paused IS NOT NULL) AS paused
FROM semantic.worker
WHERE heartbeat_at > now() - interval '1 minute'

-- name: index_status
-- The view for operators; row counts are estimates.
SELECT * FROM semantic.index_status

-- name: waiting_rows
-- How many rows wait in all indexes: marks, jobs, and rows that a first backfill has yet to reach. Of the view's columns,
-- the server computes only these.
SELECT CAST(sum(pending + processing + coalesce(greatest(rows_estimate - backfill_rows, 0), 0)) AS bigint)
FROM semantic.index_status

-- name: note_problem
-- Records why a generation is not kept in sync, or not built, and when that is tried again: each time after twice as
-- long. Returns the seconds until then.
INSERT INTO semantic.problem AS known (generation_id, kind, reason, next_at)
SELECT id, :kind, :reason, now() + make_interval(secs => :first)
FROM semantic.generation
WHERE id = :generation
ON CONFLICT (generation_id, kind) DO UPDATE
SET reason = excluded.reason, failures = known.failures + 1,
    next_at = now() + make_interval(secs => least(CAST(:first AS double precision) * 2 ^ least(known.failures, 20), :most))
RETURNING CAST(extract(epoch FROM next_at - now()) AS double precision)

-- name: forget_problem
-- Deletes problems of these generations, which are over.
DELETE FROM semantic.problem WHERE generation_id = ANY (CAST(:generations AS integer[])) AND kind = :kind

-- name: put_off
-- Seconds until a failed operation is tried again; no row if it has not failed.
SELECT CAST(extract(epoch FROM next_at - now()) AS double precision)
FROM semantic.problem
WHERE generation_id = :generation AND kind = :kind

-- name: problems
-- The problems of each generation.
SELECT generation_id, kind, reason, failures, CAST(extract(epoch FROM now() - since) AS double precision) AS seconds,
       CAST(greatest(extract(epoch FROM next_at - now()), 0) AS double precision) AS next_seconds
FROM semantic.problem
ORDER BY generation_id, kind DESC

-- name: altered_keys
-- Copies whose key columns differ in type or collation from those of the source, in words. Also: whether their tables
-- are small, by the planner's estimate with TOAST and indexes, which needs no lock; which objects of the user's depend
-- on the columns, so that the server would refuse to alter them in any copy of the index; and whether the server can
-- cast the old key to the new one.
SELECT generation_id,
       string_agg(DISTINCT format('%I is %s there and %s in the index', altered.part, wanted, has), ', ') AS said,
       bool_and((
           SELECT sum(part.relpages) * CAST(current_setting('block_size') AS bigint)
           FROM pg_class AS own
           LEFT JOIN pg_inherits ON inhrelid = own.oid
           JOIN pg_class AS part ON part.oid IN (own.oid, own.reltoastrelid)
               OR part.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (own.oid, own.reltoastrelid))
           WHERE relation IN (own.oid, inhparent)
       ) < :small) AS small,
       (
           SELECT string_agg(DISTINCT pg_describe_object(classid, objid, 0), ', ')
           FROM semantic.altered_key_columns_v1(semantic_index.id) AS column_of
           JOIN pg_attribute ON attrelid = column_of.relation AND attname = column_of.part
           JOIN pg_depend ON refclassid = CAST('pg_class' AS regclass) AND refobjid = attrelid AND refobjsubid = attnum
           LEFT JOIN pg_rewrite ON classid = CAST('pg_rewrite' AS regclass) AND pg_rewrite.oid = objid
           LEFT JOIN pg_class AS view ON view.oid = ev_class
           WHERE classid IN (
                   CAST('pg_rewrite' AS regclass), CAST('pg_policy' AS regclass), CAST('pg_trigger' AS regclass),
                   CAST('pg_proc' AS regclass)
               )
             AND view.relnamespace IS DISTINCT FROM CAST('semantic' AS regnamespace)
             AND NOT (classid = CAST('pg_policy' AS regclass)
                      AND coalesce(obj_description(objid, 'pg_policy'), '') LIKE 'Made and followed by pg_semantic%')
       ) AS dependents,
       bool_and(castable) AS castable
FROM semantic.semantic_index
JOIN pg_class AS source ON source.oid = semantic_index.source
CROSS JOIN LATERAL semantic.altered_key_columns_v1(semantic_index.id) AS altered
GROUP BY semantic_index.id, generation_id

-- name: forget_keys
-- Deletes problems with altered keys, except that of these generations.
DELETE FROM semantic.problem WHERE kind = 'key' AND generation_id <> ALL (CAST(:altered AS integer[]))

-- name: unlink_key
-- Drops the foreign keys of a generation's index before its tables are rewritten.
SELECT semantic.refresh_key_1_drop_foreign_keys_v1(index_id) FROM semantic.generation WHERE id = :generation

-- name: link_key
-- Adds them back, not validated.
SELECT semantic.refresh_key_3_add_foreign_keys_v1(index_id) FROM semantic.generation WHERE id = :generation

-- name: validate_key
-- Deletes chunks and receipts without a row, and validates the foreign keys.
SELECT semantic.refresh_key_4_validate_v1(index_id) FROM semantic.generation WHERE id = :generation

-- name: refresh_key
-- Gives the tables of all copies of a generation's index the key that the source has.
SELECT semantic.refresh_key_2_alter_types_v1(index_id, CAST(:key AS jsonb)) FROM semantic.generation WHERE id = :generation

-- name: uncaptured
-- The source or those of its partitions where capture triggers are missing or disabled. Also the source, if capture
-- doesn't know how its virtual generated columns are computed now.
SELECT CAST(relation AS text) FROM semantic.missing_triggers_v1(CAST(:source AS regclass), :stem)
UNION
SELECT CAST(CAST(:source AS regclass) AS text) WHERE semantic.is_capture_function_outdated_v1(CAST(:source AS regclass), :stem)

-- name: named
-- Raises an error unless a generation's source still has this name: see `semantic.require_source_not_renamed_v1`.
SELECT semantic.require_source_not_renamed_v1(:generation, :source)

-- name: detect
-- How the tables of each index differ from what was recorded, and what keeps rows from being captured.
SELECT * FROM semantic.detect_changes_past_capture_v1()

-- name: record_capture
-- Records the tables of an index as they are now. If they changed, has all rows compared and returns the changes.
SELECT semantic.record_capture_state_v1(:index)

-- name: restore_foreign_keys
-- Adds back the foreign keys of an index that were dropped.
SELECT semantic.restore_foreign_keys_v1(:index)

-- name: compare
-- Has every row of an index compared with its vectors, and orphans deleted.
SELECT semantic.restart_backfill_v1(:index, :reason, true)

-- name: doubtful
-- Tables of an index whose foreign key can be validated, because all rows have been compared.
SELECT CAST(known.relation AS oid)
FROM semantic.unsound_foreign_keys_v1(:index) AS known
JOIN semantic.generation ON generation.id = known.generation_id
WHERE known.name IS NOT NULL AND generation.backfilled_at IS NOT NULL AND generation.stale_since IS NULL

-- name: validate_foreign_key
-- Validates the foreign key of such a table.
SELECT semantic.validate_foreign_key_v1(:index, CAST(CAST(:relation AS oid) AS regclass))

-- name: end_validation
-- Cancels a validation when another session waits for one of the tables that it reads, or when a worker stops.
SELECT pg_cancel_backend(held.pid)
FROM pg_locks AS held
WHERE held.pid = CAST(:pid AS integer) AND held.relation = CAST(:relation AS oid)
  AND held.granted AND held.mode = 'ShareUpdateExclusiveLock'
  AND (
      CAST(:closing AS boolean)
      OR EXISTS (
          SELECT FROM pg_locks AS wanted
          JOIN pg_locks AS read ON read.database = wanted.database AND read.relation = wanted.relation
          WHERE NOT wanted.granted AND wanted.mode <> 'ShareUpdateExclusiveLock' AND read.pid = held.pid
      )
  )

-- name: subscriptions
-- Subscriptions that write to our tables.
SELECT subscription, relations FROM semantic.incoming_subscriptions_v1()

-- name: settle
-- Makes this cluster the one whose workers process the jobs; returns whether it was another one before.
SELECT semantic.adopt_cluster_v1()

-- name: declared_source
-- The name of the table that an index was declared on, whichever table has it now.
SELECT format('%I.%I', nspname, spec ->> 'table')
FROM semantic.generation
JOIN pg_class ON pg_class.oid = chunks
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE index_id = :index AND role = 'live'

-- name: adopt
-- Moves an index to another table.
SELECT semantic.move_index_to_table_v1(:index, to_regclass(:table))

-- name: cancel_build
-- Cancels builds of the late indexes of a semantic index: that of one session, or behind a transaction pooler, where
-- sessions aren't known, any.
SELECT pg_cancel_backend(pid)
FROM pg_stat_progress_create_index
LEFT JOIN pg_inherits ON inhrelid = relid
WHERE coalesce(inhparent, relid) IN (to_regclass(:chunks), to_regclass(:receipts)) AND datname = current_database()
  AND pid = coalesce(CAST(:pid AS integer), pid)

-- name: give_way
-- Cancels builds of late indexes on a table that another session waits to lock or truncate. The wait may be circular,
-- through a transaction that the build waits for.
SELECT pg_cancel_backend(build.pid)
FROM pg_stat_progress_create_index AS build
LEFT JOIN pg_inherits ON inhrelid = build.relid
WHERE coalesce(inhparent, build.relid) IN (to_regclass(:chunks), to_regclass(:receipts)) AND build.datname = current_database()
  AND EXISTS (
      SELECT FROM pg_locks AS wanted
      WHERE wanted.relation IN (build.relid, inhparent) AND wanted.database = build.datid AND NOT wanted.granted AND wanted.mode <> 'ShareUpdateExclusiveLock'
  )

-- name: index_state
-- Whether an index is valid, and whether it, or another index of the same table, is being built right now.
SELECT index.indisvalid AS valid, semantic.is_index_being_built_v1(index.indrelid) AS building
FROM pg_index AS index
WHERE index.indexrelid = to_regclass(:name)

-- name: claim_build
-- Keeps other workers from dropping and building an index of a table until this session ends or releases the claim;
-- false if another session has it. The lock takes signed integers.
SELECT pg_try_advisory_lock(723628198, CAST(CAST(CAST(to_regclass(:table) AS bigint) AS bit(32)) AS integer))

-- name: release_build
-- Releases what `claim_build` took.
SELECT pg_advisory_unlock(723628198, CAST(CAST(CAST(to_regclass(:table) AS bigint) AS bit(32)) AS integer))

-- name: late
-- Counts the jobs and marks of a generation that belong to its backfill or are older than the last few moments.
SELECT count(*) FROM (
    SELECT FROM semantic.job
    WHERE generation_id = :generation AND state <> 'failed'
      AND (priority > 0 OR dirty_at < now() - make_interval(secs => :seconds))
    UNION ALL
    SELECT FROM semantic.mark
    WHERE generation_id = :generation AND (key IS NULL OR marked_at < now() - make_interval(secs => :seconds))
) AS waiting

-- name: size
-- The size of a generation with its indexes, in bytes.
SELECT CAST(sum(pg_total_relation_size(part.relation)) AS bigint)
FROM semantic.generation
CROSS JOIN LATERAL (
    SELECT chunks UNION ALL SELECT receipts UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = chunks
) AS part (relation)
WHERE id = :generation

-- name: role_seconds
-- For how many seconds a generation has had its role.
SELECT CAST(extract(epoch FROM now() - role_since) AS double precision)
FROM semantic.generation
WHERE id = :generation

-- name: switch
-- Makes a generation that has this role live. The one that was live becomes `previous` or `next`.
SELECT semantic.switch_generation_v1(:generation, :role)

-- name: forget_ghosts
-- Deletes the copies of a generation's index whose tables were dropped by hand; returns the roles that they had.
SELECT semantic.delete_generations_without_tables_v1(index_id) FROM semantic.generation WHERE id = :generation

-- name: lock_index
-- Locks all tables of a generation's index, the source first.
SELECT semantic.lock_tables_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_in_lock_order_v1(index_id, NULL))
FROM semantic.generation
WHERE id = :generation

-- name: forget_next
-- Drops the copy that is being built next to a generation, if there is one.
SELECT semantic.delete_generation_v1(next_copy.id, true)
FROM semantic.generation
JOIN semantic.generation AS next_copy ON next_copy.index_id = generation.index_id AND next_copy.role = 'next'
WHERE generation.id = :generation

-- name: drop
-- Drops a generation that has had this role for at least this many seconds.
SELECT semantic.drop_generation_v1(:generation, :role, :seconds)

-- name: readable_columns
-- The columns of a table that the current role can read, in order.
SELECT CAST(attname AS text)
FROM pg_attribute
WHERE attrelid = CAST(:source AS regclass) AND attnum > 0 AND NOT attisdropped
    AND has_column_privilege(attrelid, attnum, 'SELECT')
ORDER BY attnum
