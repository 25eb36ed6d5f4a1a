-- Vector indexes: what the server gives a build, how a build is going, and what is recorded of those that ended.

-- name: server
-- The settings that decide whether a graph fits into memory, in bytes, and how many processes build it. The folder of
-- the data is NULL for a role that may not see it.
SELECT CAST(current_setting('server_version_num') AS integer) AS version,
       pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       least(CAST(current_setting('max_parallel_maintenance_workers') AS integer),
             CAST(current_setting('max_parallel_workers') AS integer)) AS parallel_workers,
       pg_size_bytes(current_setting('min_parallel_table_scan_size')) AS parallel_table_bytes,
       current_setting('dynamic_shared_memory_type') AS shared_memory_type,
       pg_size_bytes(current_setting('min_dynamic_shared_memory')) AS reserved_shared_memory,
       (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS data_directory,
       quote_ident(current_user) AS role

-- name: set_memory
-- Sets how much memory this session's builds may take.
SELECT set_config('maintenance_work_mem', :memory, false)

-- name: counts
-- Estimates without a scan: rows of the source, receipts, and chunks, whose density at the last ANALYZE is applied to
-- the present size of their table, as the planner does. NULL if it was never analyzed. After many edits, the server's
-- statistics are nearer, which know dead chunks, unless they were lost. Also the size of that table, and how many
-- processes its owner wants for it. A table with partitions counts as the sum of them, and `largest` is the share of the
-- largest one, once that means anything.
SELECT semantic.analyzed_rows_estimate_v1(semantic_index.source) AS rows,
       semantic.analyzed_rows_estimate_v1(receipts) AS receipts,
       present.chunks, present.bytes, present.largest, present.parallel_workers
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
CROSS JOIN LATERAL (
    SELECT CASE WHEN bool_and(size = 0 OR relpages > 0 AND reltuples >= 0) THEN CAST(sum(
               CASE WHEN size > 0 THEN least(
                   reltuples / nullif(relpages, 0) * size / CAST(current_setting('block_size') AS integer),
                   CASE WHEN 2 * live >= reltuples THEN live END
               ) ELSE 0 END
           ) AS bigint) END AS chunks,
           CAST(sum(size) AS bigint) AS bytes,
           CASE WHEN sum(size) > 10000000 THEN CAST(max(size) AS double precision) / CAST(sum(size) AS double precision)
           END AS largest,
           max((SELECT CAST(option_value AS integer) FROM pg_options_to_table(reloptions)
                WHERE option_name = 'parallel_workers')) AS parallel_workers
    FROM pg_class AS part
    CROSS JOIN LATERAL (
        SELECT pg_relation_size(part.oid) AS size, pg_stat_get_live_tuples(part.oid) AS live
    ) AS measured
    WHERE part.oid = generation.chunks OR part.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = generation.chunks)
) AS present
WHERE generation.id = :generation

-- name: record_build
-- Records a build of a vector index. Statements of the worker may not be in the statistics yet, but the chunks that the
-- build read were inserted before it ended.
INSERT INTO semantic.vector_index_build
    (generation_id, file, seconds, in_memory, chunks, inserted, updated, deleted, statistics_reset)
SELECT generation.id, built.file, :seconds, :in_memory, built.chunks, greatest(present.inserted, present.deleted + built.chunks),
       present.updated, present.deleted,
       pg_stat_get_db_stat_reset_time((SELECT oid FROM pg_database WHERE datname = current_database()))
FROM semantic.generation
CROSS JOIN LATERAL semantic.vector_index_files_v1(generation.id) AS built
CROSS JOIN LATERAL semantic.chunk_counters_v1(generation.id) AS present
WHERE generation.id = :generation AND built.chunks >= 0
ON CONFLICT (generation_id) DO UPDATE
SET file = excluded.file, seconds = excluded.seconds, in_memory = excluded.in_memory, chunks = excluded.chunks,
    inserted = excluded.inserted, updated = excluded.updated, deleted = excluded.deleted,
    statistics_reset = excluded.statistics_reset, built_at = now()

-- name: builds
-- The builds of indexes that are still in use, with how their tables have changed since. Changes are NULL if the
-- server's statistics were reset or lost in the meantime.
SELECT build.generation_id, build.built_at, CAST(extract(epoch FROM now() - build.built_at) AS double precision) AS age,
       build.seconds, build.in_memory, build.chunks, generation.spec,
       CASE WHEN build.statistics_reset IS NOT DISTINCT FROM pg_stat_get_db_stat_reset_time(pg_database.oid)
                AND present.inserted >= build.inserted AND present.updated >= build.updated
                AND present.deleted >= build.deleted
            THEN present.updated - build.updated
                + greatest(present.inserted - build.inserted, present.deleted - build.deleted) END AS changed
FROM semantic.vector_index_build AS build
JOIN semantic.generation ON generation.id = build.generation_id
JOIN pg_database ON datname = current_database()
CROSS JOIN LATERAL semantic.vector_index_files_v1(generation.id) AS built
CROSS JOIN LATERAL semantic.chunk_counters_v1(generation.id) AS present
WHERE built.file = build.file

-- name: may_read_builds
-- Whether the role can read them: the owner of our schema can.
SELECT has_table_privilege('semantic.vector_index_build', 'SELECT')

-- name: index_size
-- The size of an index with all its partitions, in bytes; NULL if there is none of this name.
SELECT semantic.table_size_v1(to_regclass(:name))

-- name: index_file
-- The file of an index, the newest one if it has partitions; NULL if there is none of this name.
SELECT max(relfilenode)
FROM pg_class
WHERE oid = to_regclass(:name) OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(:name))

-- name: progress
-- How far the builds of indexes of this table are, or of its partitions, and which partition that is. Chunks are counted
-- while the graph grows, and blocks in other phases.
SELECT pid, phase, tuples_done, blocks_done, blocks_total,
       CAST(substring(relname FROM '_p([0-9]+)$') AS integer) + 1 AS partition,
       (SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass(:chunks)) AS partitions
FROM pg_stat_progress_create_index
LEFT JOIN pg_inherits ON inhrelid = relid
LEFT JOIN pg_class ON pg_class.oid = inhrelid
WHERE coalesce(inhparent, relid) = to_regclass(:chunks) AND datname = current_database()
ORDER BY pid

-- name: partitions
-- The partitions of a chunk table in order: whether its part of this index exists, is valid, and is attached. `suffix` is
-- what the name of the index has after that of the table.
SELECT CAST(part.relname AS text) AS name, own.indisvalid AS valid, attached.inhparent IS NOT NULL AS attached,
       own.indexrelid IS NOT NULL AS existing
FROM pg_inherits
JOIN pg_class AS part ON part.oid = inhrelid
LEFT JOIN pg_class AS named ON named.relnamespace = part.relnamespace AND named.relname = part.relname || :suffix
LEFT JOIN pg_index AS own ON own.indexrelid = named.oid AND own.indrelid = part.oid
LEFT JOIN pg_inherits AS attached ON attached.inhrelid = own.indexrelid
WHERE pg_inherits.inhparent = to_regclass(:chunks)
ORDER BY length(part.relname), part.relname

-- name: unanalyzed
-- Copies whose partitioned chunk table has a fifth more or fewer rows now than when it was last analyzed, by the
-- statistics of its partitions, which autovacuum keeps up to date.
SELECT generation.id
FROM semantic.generation
JOIN pg_class AS whole ON whole.oid = chunks AND relkind = 'p'
CROSS JOIN LATERAL semantic.rows_estimate_v1(chunks) AS present (rows)
WHERE pg_has_role(relowner, 'USAGE') AND abs(present.rows - reltuples) > 50 + 0.2 * greatest(reltuples, 0)

-- name: attach
-- Makes the index of a partition a part of the index of its table.
SELECT semantic.attach_index_v1(to_regclass(:whole), to_regclass(:part))

-- name: leftovers
-- Invalid indexes that REINDEX CONCURRENTLY left behind when it was canceled, or when the server crashed.
SELECT CAST(relname AS text) AS name
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
JOIN pg_am ON pg_am.oid = relam
WHERE (indrelid = to_regclass(:chunks) OR indrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(:chunks)))
  AND NOT indisvalid AND amname = 'hnsw' AND relname ~ '_cc(new|old)[0-9]*$'
ORDER BY relname

-- name: add_random_vectors
-- Adds random vectors to the sample that measures how fast the server builds an index.
INSERT INTO pg_temp.pg_semantic_sample (vector)
SELECT CAST(ARRAY(SELECT random() - 0.5 FROM generate_series(1, CAST(:dimensions AS integer)) WHERE number > 0) AS real [])
FROM generate_series(1, CAST(:count AS integer)) AS number

-- name: is_being_built
-- Whether another session is building an index of this table.
SELECT semantic.is_index_being_built_v1(to_regclass(:chunks))

-- name: basis
-- The axes of a generation's basis, in order; none if it has no basis.
SELECT CAST(axis AS text)
FROM semantic.basis
CROSS JOIN unnest(axes) WITH ORDINALITY AS axes (axis, number)
WHERE generation_id = :generation
ORDER BY number

-- name: basis_state
-- Whether all chunks of a generation have their prefix; NULL if it has no basis.
SELECT CASE WHEN filled_at IS NULL THEN 'made' ELSE 'filled' END
FROM semantic.basis
WHERE generation_id = :generation

-- name: basis_filled
-- Records that all chunks of a generation have their prefix.
UPDATE semantic.basis SET filled_at = now() WHERE generation_id = :generation AND filled_at IS NULL

-- name: store_basis
-- Stores the basis of a generation; returns whether it has none yet.
SELECT semantic.store_basis_v1(:generation, CAST(:numbers AS real []), :dimensions, :sample)
