-- What the database knows of its semantic indexes, generations and encoders.

-- name: installed
-- Whether the schema of ours is there, and the version of pgvector.
SELECT to_regclass('semantic.history') IS NOT NULL AS schema_installed,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector

-- name: pgvector_out_of_reach
-- The schema of pgvector, quoted, where the session does not find its types by their names alone.
SELECT CAST(CAST(extnamespace AS regnamespace) AS text)
FROM pg_extension
WHERE extname = 'vector' AND extnamespace <> ALL (
    CAST(CAST(current_schemas(true) AS text[]) AS regnamespace[])
)

-- name: own_session
-- What a session of ours is set to, as far as the server has such settings.
SELECT pg_catalog.set_config(name, value, false)
FROM (VALUES ('default_transaction_read_only', 'off'), ('idle_session_timeout', '0'), ('transaction_timeout', '0'),
             ('standard_conforming_strings', 'on'), ('escape_string_warning', 'on'), ('quote_all_identifiers', 'off')) AS ours (name, value)
WHERE pg_catalog.current_setting(name, true) IS NOT NULL

-- name: own_transaction
-- What else a transaction of ours is set to, or a session that is ours alone: functions and operators without a schema
-- are the server's, whatever others of that name there are, and PostgreSQL 17 and later do not end it by the clock. This
-- statement still meets the path of the role, so it names the schema of each function.
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', :local) AS path,
       CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL
           THEN pg_catalog.set_config('transaction_timeout', '0', :local) END AS timeout

-- name: pgvector_schema
-- The schema that pgvector is in, quoted.
SELECT quote_ident(nspname)
FROM pg_extension
JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'vector'

-- name: find_pgvector
-- Has a statement that creates a table find the types of pgvector by their names.
SELECT set_config('search_path', concat_ws(', ', 'pg_catalog', quote_ident(nspname), 'pg_temp'), true)
FROM pg_extension
JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'vector'

-- name: revision
-- The revision that the schema of ours is at.
SELECT version_num FROM semantic.history

-- name: generations
-- Every generation whose chunk table is there, with the current name of the source (a rename is followed), what puts its
-- tables beside that when it was moved to another schema, and whether the source is the table that was declared.
SELECT generation.id, generation.role, semantic.spec_v1(generation.spec, generation.chunks) AS spec,
       generation.backfilled_at IS NOT NULL AS backfilled,
       source_schema.nspname AS schema, coalesce(source.relname, generation.spec ->> 'table') AS table,
       semantic_index.name, encoder.fingerprint, semantic_index.id AS index_id,
       CASE WHEN chunks.relnamespace <> source.relnamespace THEN semantic.apart_v1(semantic_index.id) END AS apart,
       source.oid IS NULL OR NOT semantic.is_key_v1(source.oid, generation.spec) AS gone,
       source.relkind = 'p' AS partitioned,
       semantic.source_trouble_v1(semantic_index.id) AS trouble,
       semantic.key_operators_v1(source.oid, generation.spec) AS operators
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
JOIN semantic.encoder ON encoder.id = generation.encoder_id
JOIN pg_class AS chunks ON chunks.oid = generation.chunks
LEFT JOIN pg_class AS source ON source.oid = semantic_index.source
JOIN pg_namespace AS source_schema ON source_schema.oid = coalesce(source.relnamespace, chunks.relnamespace)
ORDER BY semantic_index.id, generation.id

-- name: chunk_table
-- The chunk table of a generation.
SELECT CAST(chunks AS text) FROM semantic.generation WHERE id = :generation

-- name: tables
-- The chunk and receipt tables of every generation, by the names that they have now.
SELECT pg_namespace.nspname AS schema, pg_class.relname AS name
FROM semantic.generation
JOIN pg_class ON pg_class.oid IN (generation.chunks, generation.receipts)
JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace

-- name: live
-- The live generation of the index whose chunk table has this number; of a chunk table that was live when the transaction
-- took its snapshot it may be another. And all generations that the index has.
SELECT generation.id, generation.role, semantic.spec_v1(generation.spec, generation.chunks) AS spec,
       generation.backfilled_at IS NOT NULL AS backfilled,
       source_schema.nspname AS schema, source.relname AS table, semantic_index.name, encoder.fingerprint, NULL AS apart,
       NULL AS operators,
       semantic_index.id AS index_id, source.relkind = 'p' AS partitioned,
       source.oid IS NULL OR NOT semantic.is_key_v1(source.oid, generation.spec) AS gone,
       CASE WHEN source.oid IS NULL OR NOT semantic.is_key_v1(source.oid, generation.spec) THEN semantic.source_trouble_v1(semantic_index.id) END AS trouble,
       ARRAY(SELECT id FROM semantic.generation AS kept WHERE kept.index_id = generation.index_id) AS kept
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
JOIN semantic.encoder ON encoder.id = generation.encoder_id
LEFT JOIN pg_class AS source ON source.oid = semantic_index.source
LEFT JOIN pg_namespace AS source_schema ON source_schema.oid = source.relnamespace
WHERE generation.role = 'live'
  AND generation.index_id = (SELECT index_id FROM semantic.generation WHERE chunks = CAST(:chunks AS oid))

-- name: stored
-- How the semantic index of a chunk table was created, or is to be from its next switch on, and whether it is of that
-- source table still. A view may have the name of a source that was renamed.
SELECT newest.spec,
       CASE WHEN to_regclass(:source) IS NOT NULL AND semantic.table_named_v1(:source) IS NULL
           THEN semantic.source_trouble_v1(semantic_index.id) IS NULL
           ELSE semantic_index.source = to_regclass(:source) END AS same_source,
       semantic.source_trouble_v1(semantic_index.id) AS trouble
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
JOIN semantic.generation AS newest ON newest.index_id = semantic_index.id AND newest.role IN ('live', 'next')
WHERE generation.chunks = to_regclass(:chunks)
ORDER BY newest.role DESC
LIMIT 1

-- name: columns
-- The columns of a relation, in order, and which of them can be text columns of a semantic index.
SELECT CAST(attname AS text) AS name, format_type(atttypid, atttypmod) AS type, semantic.is_text_v1(atttypid) AS is_text
FROM pg_attribute
WHERE attrelid = to_regclass(:source) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum

-- name: source
-- What a relation is, and how its primary key is checked.
SELECT CAST(relation.relkind AS text) AS kind, CAST(relation.relpersistence AS text) AS persistence,
       condeferrable AS deferrable, CAST(amname AS text) AS method, current_setting('server_encoding') AS encoding
FROM pg_class AS relation
LEFT JOIN pg_constraint ON conrelid = relation.oid AND contype = 'p'
LEFT JOIN pg_class AS key_index ON key_index.oid = conindid
LEFT JOIN pg_am ON pg_am.oid = key_index.relam
WHERE relation.oid = to_regclass(:source)

-- name: source_key
-- The columns of a table's primary key, in order: types by their names from anywhere, that of a domain being the type it
-- is over, whose values need no check; whether it is one over an enum; whether values travel in binary, and whether the
-- equality of the key can merge or hash, as joins of any size need it.
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
-- The first worker to load an encoder records what it loaded; later ones compare.
UPDATE semantic.encoder
SET fingerprint = :fingerprint, revision = :revision, max_tokens = :max_tokens, first_loaded_at = now(),
    query_prompt = coalesce(:query_prompt, query_prompt), document_prompt = coalesce(:document_prompt, document_prompt)
WHERE id = :id AND fingerprint IS NULL

-- name: pinned_encoder
-- What was recorded for an encoder.
SELECT reference, revision, fingerprint FROM semantic.encoder WHERE id = :id

-- name: lock_backfill
-- Takes the backfill of a generation, or nothing when another worker has it or it is done.
SELECT backfill_after, stale_since IS NOT NULL AS again
FROM semantic.generation
WHERE id = :generation AND backfilled_at IS NULL
FOR UPDATE SKIP LOCKED

-- name: advance_backfill
-- Remembers the last key that was enqueued, and whether it was the last there is. Where the next backfill has been asked
-- for, rows may be stale still.
UPDATE semantic.generation
SET backfill_after = :after, backfilled_at = CASE WHEN :done THEN now() END, backfill_rows = backfill_rows + :rows,
    stale_since = CASE WHEN again.due THEN stale_since END, stale_reason = CASE WHEN again.due THEN stale_reason END
FROM (
    SELECT NOT :done OR EXISTS (SELECT FROM semantic.mark WHERE generation_id = :generation AND key IS NULL) AS due
) AS again
WHERE id = :generation

-- name: start_worker
-- Signs a worker in; those silent for a day are forgotten.
WITH gone AS (DELETE FROM semantic.worker WHERE heartbeat_at < now() - interval '1 day')
INSERT INTO semantic.worker (host, pid) VALUES (:host, :pid) RETURNING id

-- name: worker_heartbeat
-- A worker is alive, and this is what it has done and how fast it was since the last time.
UPDATE semantic.worker SET heartbeat_at = now(), rows_synced = :rows, rows_per_second = :rate WHERE id = :id

-- name: stop_worker
-- Signs a worker out.
DELETE FROM semantic.worker WHERE id = :id

-- name: backfilled_seconds
-- How long ago every row of a generation had been given a job that needed one.
SELECT CAST(extract(epoch FROM now() - backfilled_at) AS double precision) FROM semantic.generation WHERE id = :id

-- name: workers_alive
-- Workers heard of in the last minute, three heartbeats, and their pace together.
SELECT count(*), CAST(coalesce(sum(rows_per_second), 0) AS double precision)
FROM semantic.worker
WHERE heartbeat_at > now() - interval '1 minute'

-- name: index_status
-- The view for operators; counts of rows are estimates.
SELECT * FROM semantic.index_status

-- name: note_trouble
-- Why a generation is not kept in sync, or not built, and when that is tried again: each time after twice as long. Gives
-- the seconds until then.
INSERT INTO semantic.trouble AS known (generation_id, kind, reason, next_at)
SELECT id, :kind, :reason, now() + make_interval(secs => :first)
FROM semantic.generation
WHERE id = :generation
ON CONFLICT (generation_id, kind) DO UPDATE
SET reason = excluded.reason, failures = known.failures + 1,
    next_at = now() + make_interval(secs => least(CAST(:first AS double precision) * 2 ^ least(known.failures, 20), :most))
RETURNING CAST(extract(epoch FROM next_at - now()) AS double precision)

-- name: forget_trouble
-- The trouble of these generations is over.
DELETE FROM semantic.trouble WHERE generation_id = ANY (CAST(:generations AS integer[])) AND kind = :kind

-- name: put_off
-- Seconds until something is tried again that failed; no row when it has not failed.
SELECT CAST(extract(epoch FROM next_at - now()) AS double precision)
FROM semantic.trouble
WHERE generation_id = :generation AND kind = :kind

-- name: troubles
-- What is not as it should be with each generation.
SELECT generation_id, kind, reason, failures, CAST(extract(epoch FROM now() - since) AS double precision) AS seconds,
       CAST(greatest(extract(epoch FROM next_at - now()), 0) AS double precision) AS next_seconds
FROM semantic.trouble
ORDER BY generation_id, kind DESC

-- name: altered_keys
-- Copies whose key columns have another type or collation than those of the source, in words; whether their tables are
-- small, by what the planner believes of them with TOAST and indexes, since that waits for no lock; what of the
-- user's depends on the columns, for which the server would refuse to alter them in any copy of the index; and whether
-- the server can cast the old key to the new one.
SELECT generation_id,
       string_agg(DISTINCT format('%I is %s there and %s in the index', altered.part, wanted, has), ', ') AS said,
       bool_and((
           SELECT sum(part.relpages) * CAST(current_setting('block_size') AS bigint)
           FROM pg_class AS own
           JOIN pg_class AS part ON part.oid IN (own.oid, own.reltoastrelid)
               OR part.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (own.oid, own.reltoastrelid))
           WHERE own.oid = relation
       ) < :small) AS small,
       (
           SELECT string_agg(DISTINCT pg_describe_object(classid, objid, 0), ', ')
           FROM semantic.altered_key_v1(semantic_index.id) AS column_of
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
CROSS JOIN LATERAL semantic.altered_key_v1(semantic_index.id) AS altered
GROUP BY semantic_index.id, generation_id

-- name: forget_keys
-- The trouble with altered keys is over, but for these generations.
DELETE FROM semantic.trouble WHERE kind = 'key' AND generation_id <> ALL (CAST(:altered AS integer[]))

-- name: unlink_key
-- Drops the foreign keys of a generation's index before its tables are written again.
SELECT semantic.unlink_key_v1(index_id) FROM semantic.generation WHERE id = :generation

-- name: link_key
-- Puts them back, not validated.
SELECT semantic.link_key_v1(index_id) FROM semantic.generation WHERE id = :generation

-- name: validate_key
-- Deletes chunks and receipts that have no row, and validates the foreign keys.
SELECT semantic.validate_key_v1(index_id) FROM semantic.generation WHERE id = :generation

-- name: refresh_key
-- Gives the tables of all copies of a generation's index the key that the source has.
SELECT semantic.refresh_key_v1(index_id, CAST(:key AS jsonb)) FROM semantic.generation WHERE id = :generation

-- name: uncaptured
-- The source or partitions of it on which triggers of the capture are missing or disabled; the source, when capture does
-- not know how its virtual generated columns are computed by now.
SELECT CAST(relation AS text) FROM semantic.uncaptured_v1(CAST(:source AS regclass), :stem)
UNION
SELECT CAST(CAST(:source AS regclass) AS text) WHERE semantic.outdated_v1(CAST(:source AS regclass), :stem)

-- name: named
-- An error unless a generation's source still has this name: see `semantic.require_named_v1`.
SELECT semantic.require_named_v1(:generation, :source)

-- name: detect
-- What is otherwise about the tables of each index than was recorded, and what keeps rows from being captured.
SELECT * FROM semantic.detect_v1()

-- name: record_capture
-- Records the tables of an index as they are, and has all rows compared; gives what was otherwise.
SELECT semantic.record_capture_v1(:index)

-- name: restore_foreign_keys
-- Puts back the foreign keys of an index that were dropped.
SELECT semantic.restore_foreign_keys_v1(:index)

-- name: compare
-- Has every row of an index compared with its vectors, and what has no row deleted.
SELECT semantic.restart_backfill_v1(:index, :reason, true)

-- name: doubtful
-- Tables of an index whose foreign key can be validated, since all rows were compared.
SELECT CAST(known.relation AS oid)
FROM semantic.foreign_keys_v1(:index) AS known
JOIN semantic.generation ON generation.id = known.generation_id
WHERE known.name IS NOT NULL AND generation.backfilled_at IS NOT NULL AND generation.stale_since IS NULL

-- name: validate_foreign_key
-- Validates the foreign key of such a table.
SELECT semantic.validate_foreign_key_v1(:index, CAST(CAST(:relation AS oid) AS regclass))

-- name: end_validation
-- Ends a validation for somebody who waits for one of the tables that it reads, or when a worker stops.
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
-- Subscriptions that write to tables of ours.
SELECT subscription, relations FROM semantic.subscriptions_v1()

-- name: settle
-- Makes this cluster the one that jobs are worked on in; gives whether it was another.
SELECT semantic.settle_v1()

-- name: declared_source
-- The name of the table that an index was declared on, whatever table has it now.
SELECT format('%I.%I', nspname, spec ->> 'table')
FROM semantic.generation
JOIN pg_class ON pg_class.oid = chunks
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE index_id = :index AND role = 'live'

-- name: adopt
-- Moves an index to another table.
SELECT semantic.adopt_v1(:index, to_regclass(:table))

-- name: cancel_build
-- Ends builds of the late indexes of a semantic index, whichever connection they run on.
SELECT pg_cancel_backend(pid)
FROM pg_stat_progress_create_index
WHERE relid IN (to_regclass(:chunks), to_regclass(:receipts)) AND datname = current_database()

-- name: give_way
-- Ends builds of late indexes on a table that somebody waits for, to lock or to empty it: the wait may be a circle,
-- through a transaction that the build waits for.
SELECT pg_cancel_backend(build.pid)
FROM pg_stat_progress_create_index AS build
WHERE build.relid IN (to_regclass(:chunks), to_regclass(:receipts)) AND build.datname = current_database()
  AND EXISTS (
      SELECT FROM pg_locks AS wanted
      WHERE wanted.relation = build.relid AND wanted.database = build.datid AND NOT wanted.granted
        AND wanted.mode <> 'ShareUpdateExclusiveLock'
  )

-- name: index_state
-- Whether an index of that name is there, usable, and being built right now, or another of the same table.
SELECT index.indisvalid AS valid, semantic.is_building_v1(index.indrelid) AS building
FROM pg_index AS index
WHERE index.indexrelid = to_regclass(:name)

-- name: claim_build
-- Keeps other workers from dropping and building an index of a table, for as long as this session lasts or until it lets
-- go; false if another session does so already. Locks are numbered by signed integers.
SELECT pg_try_advisory_lock(723628198, CAST(CAST(CAST(to_regclass(:table) AS bigint) AS bit(32)) AS integer))

-- name: release_build
-- Lets go of what `claim_build` took.
SELECT pg_advisory_unlock(723628198, CAST(CAST(CAST(to_regclass(:table) AS bigint) AS bit(32)) AS integer))

-- name: late
-- Jobs and marks of a generation that are not of edits of the last moments: of backfill, or older.
SELECT count(*) FROM (
    SELECT FROM semantic.job
    WHERE generation_id = :generation AND state <> 'failed'
      AND (priority > 0 OR dirty_at < now() - make_interval(secs => :seconds))
    UNION ALL
    SELECT FROM semantic.mark
    WHERE generation_id = :generation AND (key IS NULL OR marked_at < now() - make_interval(secs => :seconds))
) AS waiting

-- name: size
-- Bytes of a generation with its indexes.
SELECT pg_total_relation_size(chunks) + pg_total_relation_size(receipts)
FROM semantic.generation
WHERE id = :generation

-- name: role_seconds
-- For how long a generation has had its role.
SELECT CAST(extract(epoch FROM now() - role_since) AS double precision)
FROM semantic.generation
WHERE id = :generation

-- name: switch
-- Makes a generation live that has this role; the one that was gets a role beside it.
SELECT semantic.switch_generation_v1(:generation, :role)

-- name: forget_ghosts
-- Forgets the copies of a generation's index whose tables were dropped without a word to us; gives the roles they had.
SELECT semantic.forget_ghosts_v1(index_id) FROM semantic.generation WHERE id = :generation

-- name: lock_index
-- Locks all tables of a generation's index, the source first.
SELECT semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_v1(index_id, NULL))
FROM semantic.generation
WHERE id = :generation

-- name: forget_next
-- Drops the copy that is being built beside a generation, if there is one.
SELECT semantic.forget_generation_v1(beside.id, true)
FROM semantic.generation
JOIN semantic.generation AS beside ON beside.index_id = generation.index_id AND beside.role = 'next'
WHERE generation.id = :generation

-- name: drop
-- Drops a generation that has this role, and not only since a moment ago.
SELECT semantic.drop_generation_v1(:generation, :role, :seconds)

-- name: readable_columns
-- Columns of a table that the asking role may read, in order.
SELECT CAST(attname AS text)
FROM pg_attribute
WHERE attrelid = CAST(:source AS regclass) AND attnum > 0 AND NOT attisdropped
    AND has_column_privilege(attrelid, attnum, 'SELECT')
ORDER BY attnum
