"""Marks, which capture appends and workers fold; capture on partitions; and the view ``index_status`` for operators."""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = (
    # Marks are appended and never updated, so a writer waits for no lock and meets no conflict at any isolation level.
    # A NULL key means that every row must be checked again. No index includes the key, because that would limit its
    # length. The priority is that of the job: 0 for an edit, 1 for what a large statement marks beyond its first
    # thousand rows.
    """
    CREATE TABLE semantic.mark (
        generation_id integer NOT NULL,
        key text COLLATE "C",
        marked_at timestamptz NOT NULL DEFAULT now(),
        priority smallint NOT NULL DEFAULT 0
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)
    """,
    "CREATE INDEX mark_next_idx ON semantic.mark (generation_id, priority, marked_at)",
    # The table has no key, and a publication of all tables would otherwise reject deletes from it. Inserts cost the
    # same.
    "ALTER TABLE semantic.mark REPLICA IDENTITY FULL",
    # The cluster where the jobs were created. The table has no key, so a row that is replicated here never conflicts.
    """
    CREATE TABLE semantic.cluster (
        system_identifier bigint NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "ALTER TABLE semantic.cluster REPLICA IDENTITY FULL",
    # What could let rows of a captured table bypass capture if it changed: the triggers (with the transaction that last
    # wrote them), the columns, and the file.
    """
    CREATE TABLE semantic.captured (
        index_id integer NOT NULL REFERENCES semantic.semantic_index ON DELETE CASCADE,
        relation regclass NOT NULL,
        triggers text NOT NULL,
        columns jsonb NOT NULL,
        file oid NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (index_id, relation)
    )
    """,
    # Since when rows without a job may be out of date, why, and how many have been compared since.
    """
    ALTER TABLE semantic.generation
        ADD COLUMN stale_since timestamptz,
        ADD COLUMN stale_reason text,
        ADD COLUMN backfill_rows bigint NOT NULL DEFAULT 0
    """,
    """
    ALTER TABLE semantic.worker
        ADD COLUMN rows_synced bigint NOT NULL DEFAULT 0,
        ADD COLUMN rows_per_second double precision NOT NULL DEFAULT 0
    """,
    # Why a copy is not kept in sync, or its indexes are not built, for as long as this lasts. Only the owner can read
    # it, because a message from the server may quote a value.
    """
    CREATE TABLE semantic.trouble (
        generation_id integer NOT NULL REFERENCES semantic.generation ON DELETE CASCADE,
        kind text NOT NULL CHECK (kind IN ('sync', 'build', 'key', 'capture', 'foreign_key')),
        reason text NOT NULL,
        failures integer NOT NULL DEFAULT 1,
        since timestamptz NOT NULL DEFAULT now(),
        next_at timestamptz NOT NULL,
        PRIMARY KEY (generation_id, kind)
    )
    """,
)

FUNCTIONS = (
    # The generations of a semantic index, found by its source or by a partition of the source.
    """
    CREATE FUNCTION semantic.generations_of_v1(relation regclass, index_name text) RETURNS integer[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        RETURN ARRAY(
            SELECT generation.id
            FROM semantic.semantic_index
            JOIN semantic.generation ON generation.index_id = semantic_index.id
            WHERE semantic_index.name = index_name
              AND semantic_index.source = ANY (
                  relation || ARRAY(SELECT relid FROM pg_partition_ancestors(relation))
              )
        );
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.mark_v1(relation regclass, index_name text, keys text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        INSERT INTO semantic.mark (generation_id, key)
        SELECT generation.id, marked.key
        FROM unnest(semantic.generations_of_v1(relation, index_name)) AS generation (id)
        CROSS JOIN unnest(keys) AS marked (key);
    END
    $body$
    """,
    # A table with all its partitions. ROWS is low, so that the planner looks up what is known of each one in an index.
    """
    CREATE FUNCTION semantic.tree_v1(root regclass) RETURNS TABLE (relid regclass)
    LANGUAGE sql STABLE ROWS 5 SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT root UNION SELECT partition.relid FROM pg_partition_tree(root) AS partition
    $body$
    """,
    # Triggers that are missing or don't fire as they should. A statement trigger fires only for the table that the
    # statement names, so every partition needs its own. The row trigger `replica` fires where statement triggers don't:
    # for rows that logical replication applies, and with session_replication_role = replica. For TRUNCATE, the same
    # trigger fires in both cases. ENABLE TRIGGER ALL changes these two: they then fire only with
    # session_replication_role = origin, where the condition of `replica` is never true. If the source is itself a
    # partition or inherits, the row trigger `parent` fires for statements that name the table above it. Rows of
    # statements that name the source are marked by both, which makes one job.
    """
    CREATE FUNCTION semantic.uncaptured_v1(index_source regclass, stem text)
    RETURNS TABLE (relation regclass, event text, transition text, state text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT part.relid, event.name, event.transition,
               CASE WHEN tgname IS NULL THEN 'missing' WHEN tgenabled = 'D' THEN 'disabled' ELSE 'altered' END
        FROM semantic.tree_v1(index_source) AS part
        CROSS JOIN (
            VALUES ('insert', 'REFERENCING NEW TABLE AS new_rows', 'OA'),
                   ('update', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows', 'OA'),
                   ('delete', 'REFERENCING OLD TABLE AS old_rows', 'OA'),
                   ('truncate', '', 'A'),
                   ('replica', '', 'RA'),
                   ('parent', '', 'OA')
        ) AS event (name, transition, firing)
        LEFT JOIN pg_trigger ON tgrelid = part.relid AND tgname = stem || '_' || event.name
        WHERE (tgname IS NULL OR position(CAST(tgenabled AS text) IN event.firing) = 0)
          AND (event.name <> 'parent' OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = index_source))
        ORDER BY part.relid <> index_source
    $body$
    """,
    # Creates the missing triggers and corrects altered ones; returns the relations. Triggers that someone disabled stay
    # disabled unless `enable` is true. The row triggers are created on the source, and Postgres creates them on every
    # partition. Indexes from before the row triggers have no function for them.
    """
    CREATE FUNCTION semantic.capture_v1(
        index_source regclass, capture regproc, stem text, enable boolean DEFAULT false
    ) RETURNS SETOF regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        missing record;
        replica text := (
            SELECT format('%I.%I', nspname, proname || '_replica')
            FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
            WHERE pg_proc.oid = capture
        );
    BEGIN
        FOR missing IN
            SELECT found.*, CAST(relowner AS regrole) AS owner, pg_has_role(current_user, relowner, 'USAGE') AS is_ours
            FROM semantic.uncaptured_v1(index_source, stem) AS found
            JOIN pg_class ON pg_class.oid = found.relation
            WHERE enable OR found.state <> 'disabled'
            ORDER BY found.relation <> index_source
        LOOP
            IF NOT missing.is_ours THEN
                RAISE EXCEPTION 'only a member of %, which owns table %, can create its triggers: GRANT % TO %',
                    missing.owner, missing.relation, missing.owner, quote_ident(current_user)
                USING ERRCODE = 'insufficient_privilege';
            END IF;
            IF missing.event NOT IN ('replica', 'parent') THEN
                EXECUTE format(
                    'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION %s()',
                    stem || '_' || missing.event, missing.event, missing.relation, missing.transition, capture
                );
            ELSIF to_regproc(replica) IS NULL THEN
                CONTINUE;
            ELSIF missing.relation = index_source AND missing.state = 'missing' THEN
                EXECUTE format(
                    'CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW %s EXECUTE FUNCTION %s()',
                    stem || '_' || missing.event, missing.relation,
                    CASE missing.event WHEN 'replica'
                        THEN 'WHEN (current_setting(''session_replication_role'') = ''replica'')' ELSE '' END,
                    replica
                );
            END IF;
            EXECUTE format(
                'ALTER TABLE %s ENABLE %s TRIGGER %I', missing.relation,
                CASE missing.event WHEN 'truncate' THEN 'ALWAYS' WHEN 'replica' THEN 'REPLICA' ELSE '' END,
                stem || '_' || missing.event
            );
            RETURN NEXT missing.relation;
        END LOOP;
        PERFORM semantic.record_capture_v1(id)
        FROM semantic.semantic_index
        WHERE source = index_source AND name || '_capture' = stem;
    END
    $body$
    """,
    # The type that a domain is based on, through further domains, with its length or precision. Other types are
    # returned as they are.
    """
    CREATE FUNCTION semantic.base_type_v1(kind oid) RETURNS TABLE (base oid, modifier integer)
    LANGUAGE sql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
    AS $body$
        WITH RECURSIVE under AS (
            SELECT oid, typtype, typbasetype, -1 AS modifier, typtypmod FROM pg_type WHERE oid = kind
            UNION ALL
            SELECT pg_type.oid, pg_type.typtype, pg_type.typbasetype, under.typtypmod, pg_type.typtypmod
            FROM under JOIN pg_type ON pg_type.oid = under.typbasetype
        )
        SELECT oid, modifier FROM under WHERE typtype <> 'd'
    $body$
    """,
    # The labels of every enum that values of a type can contain: the type itself, the elements of an array, the
    # attributes of a composite type, the bounds of a range, the base type of a domain, and so on.
    """
    CREATE FUNCTION semantic.labels_v1(kind oid) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        WITH RECURSIVE part AS (
            SELECT kind AS oid
            UNION
            SELECT next_part.oid
            FROM part
            JOIN pg_type ON pg_type.oid = part.oid
            CROSS JOIN LATERAL (
                SELECT typbasetype
                UNION ALL SELECT typelem
                UNION ALL SELECT atttypid FROM pg_attribute
                    WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped
                UNION ALL SELECT rngsubtype FROM pg_range WHERE pg_type.oid IN (rngtypid, rngmultitypid)
            ) AS next_part (oid)
            WHERE next_part.oid <> 0
        )
        SELECT string_agg(enumlabel, ',' ORDER BY enumtypid, enumsortorder)
        FROM part JOIN pg_enum ON enumtypid = part.oid
    $body$
    """,
    # The current state of the source and of every partition, to compare with `semantic.captured`.
    """
    CREATE FUNCTION semantic.capture_state_v1(known_index integer)
    RETURNS TABLE (relation regclass, triggers text, columns jsonb, file oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT CAST(pg_class.oid AS regclass),
               coalesce((
                   SELECT string_agg(concat_ws(' ', tgname, tgenabled, pg_trigger.xmin), ', ' ORDER BY tgname)
                   FROM pg_trigger
                   WHERE tgrelid = pg_class.oid AND tgname IN (
                       SELECT semantic_index.name || '_capture_' || event
                       FROM unnest('{insert,update,delete,truncate,replica,parent}'::text[]) AS event
                   )
               ), ''),
               coalesce((
                   SELECT jsonb_object_agg(
                       attname, concat_ws(
                           ' ', attnum, atttypid, atttypmod, pg_get_expr(adbin, adrelid),
                           CASE WHEN atttypid >= 16384 THEN semantic.labels_v1(atttypid) END
                       )
                   )
                   FROM pg_attribute
                   LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum AND attgenerated = 'v'
                   WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped AND attname IN (
                       SELECT jsonb_array_elements_text(spec -> 'columns')
                       FROM semantic.generation
                       WHERE index_id = known_index
                       UNION
                       SELECT jsonb_array_elements(spec -> 'key') ->> 'name'
                       FROM semantic.generation
                       WHERE index_id = known_index
                   )
               ), '{}'),
               relfilenode
        FROM semantic.semantic_index
        CROSS JOIN LATERAL semantic.tree_v1(semantic_index.source) AS part
        JOIN pg_class ON pg_class.oid = part.relid
        WHERE semantic_index.id = known_index
    $body$
    """,
    """
    CREATE FUNCTION semantic.was_never_written_v1(relation regclass) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
    RETURN (SELECT relkind IN ('r', 'p') AND pg_relation_size(oid) = 0 FROM pg_class WHERE oid = relation)
    """,
    # Has every row of an index compared with its vectors again, page by page. A generation whose first backfill has not
    # begun needs no other one, unless `always` is true.
    """
    CREATE FUNCTION semantic.restart_backfill_v1(known_index integer, reason text, always boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        WITH restarted AS (
            UPDATE semantic.generation
            SET stale_since = coalesce(stale_since, now()), stale_reason = reason,
                backfill_after = NULL  -- which may no longer be a key
            WHERE index_id = known_index AND (always OR backfill_after IS NOT NULL OR backfilled_at IS NOT NULL)
            RETURNING id
        )
        INSERT INTO semantic.mark (generation_id) SELECT id FROM restarted;
    END
    $body$
    """,
    # Records the tables of an index as they are now. If they changed, rows may have bypassed capture, so all are
    # compared again. Returns the changes.
    """
    CREATE FUNCTION semantic.record_capture_v1(known_index integer) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known boolean;
        reason text;
    BEGIN
        PERFORM FROM semantic.semantic_index WHERE id = known_index FOR NO KEY UPDATE;  -- one at a time
        known := EXISTS (SELECT FROM semantic.captured WHERE index_id = known_index);
        reason := semantic.capture_changes_v1(known_index, false);
        IF reason IS NOT NULL THEN
            PERFORM semantic.restart_backfill_v1(known_index, reason, known);
        END IF;
        DELETE FROM semantic.captured
        WHERE index_id = known_index AND relation NOT IN (
            SELECT state.relation FROM semantic.capture_state_v1(known_index) AS state
        );
        INSERT INTO semantic.captured AS before (index_id, relation, triggers, columns, file)
        SELECT known_index, * FROM semantic.capture_state_v1(known_index)
        ON CONFLICT (index_id, relation) DO UPDATE
        SET triggers = excluded.triggers, columns = before.columns || excluded.columns, file = excluded.file,
            recorded_at = now();
        RETURN reason;
    END
    $body$
    """,
    # The table with this name. A view with the old name of a table that was renamed doesn't count.
    """
    CREATE FUNCTION semantic.table_named_v1(name text) RETURNS regclass
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN (SELECT CAST(oid AS regclass) FROM pg_class WHERE oid = to_regclass(name) AND relkind IN ('r', 'p'))
    """,
    # Whether a unique index guarantees that no two rows of a table have the same key. True if a column of the key was
    # renamed or dropped, which is a problem of its own.
    """
    CREATE FUNCTION semantic.is_key_v1(known_source oid, spec jsonb) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT EXISTS (
            SELECT FROM pg_index
            WHERE indrelid = known_source AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL
              AND indnkeyatts = jsonb_array_length(spec -> 'key') AND indnkeyatts = (
                  SELECT count(*)
                  FROM generate_series(0, indnkeyatts - 1) AS place
                  JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[place]
                  WHERE spec -> 'key' @> jsonb_build_array(jsonb_build_object('name', attname))
              )
        ) OR EXISTS (
            SELECT FROM jsonb_array_elements(spec -> 'key') AS part
            LEFT JOIN pg_attribute
                ON attrelid = known_source AND attname = part ->> 'name' AND attnum > 0 AND NOT attisdropped
            WHERE attname IS NULL
        )
    $body$
    """,
    # Why the source of an index is not the table that its declaration names, or NULL if it is. The table was dropped,
    # replaced by another one that has its name now, or given another key. A table that was only renamed is followed.
    """
    CREATE FUNCTION semantic.source_trouble_v1(known_index integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT CASE
            WHEN source.oid IS NULL AND named.oid IS NULL THEN format(
                'its table %s was dropped: pg-semantic index drop %s', named.name, semantic_index.name)
            WHEN source.oid IS NULL THEN format(
                'its table %s was dropped, and another has that name now: pg-semantic index adopt %s',
                named.name, semantic_index.name)
            WHEN named.oid <> source.oid THEN format(
                'table %s is not the one that was indexed, which is now called %s: '
                'pg-semantic index adopt %s', named.name, CAST(source.oid AS regclass), semantic_index.name)
            WHEN NOT semantic.is_key_v1(source.oid, generation.spec) THEN format(
                'several rows of %s can have the same %s, which was its key: make it unique again, or '
                'pg-semantic index drop %s and create the index with the current key',
                CAST(source.oid AS regclass), (
                    SELECT string_agg(quote_ident(part ->> 'name'), ', ')
                    FROM jsonb_array_elements(generation.spec -> 'key') AS part
                ), semantic_index.name)
        END
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id AND generation.role = 'live'
        LEFT JOIN pg_class AS source ON source.oid = semantic_index.source
        LEFT JOIN pg_class AS chunks ON chunks.oid = generation.chunks
        LEFT JOIN pg_namespace ON pg_namespace.oid = chunks.relnamespace
        CROSS JOIN LATERAL (
            SELECT format('%I.%I', nspname, generation.spec ->> 'table') AS name,
                   CAST(semantic.table_named_v1(format('%I.%I', nspname, generation.spec ->> 'table')) AS oid) AS oid
        ) AS named
        WHERE semantic_index.id = known_index
    $body$
    """,
    # Tables of an index whose foreign key to the source is missing or not validated. The foreign key cascades, is
    # enforced, and covers exactly the key and the carried column. Any others must be dropped: `drops` has the first
    # actions of an ALTER TABLE that does this.
    """
    CREATE FUNCTION semantic.foreign_keys_v1(known_index integer)
    RETURNS TABLE (
        relation regclass, generation_id integer, source regclass, key text, name name, valid boolean, drops text
    )
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT part.relation, generation.id, semantic_index.source, wanted.columns, conname, convalidated,
               (
                   SELECT coalesce(string_agg(format('DROP CONSTRAINT %I, ', other.conname), ''), '')
                   FROM pg_constraint AS other
                   WHERE other.conrelid = part.relation AND other.confrelid = semantic_index.source
                     AND other.contype = 'f' AND other.conparentid = 0 AND pg_constraint.oid IS NULL
               )
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id
        JOIN pg_class AS source ON source.oid = semantic_index.source
        CROSS JOIN LATERAL (VALUES (generation.chunks), (generation.receipts)) AS part (relation)
        JOIN pg_class ON pg_class.oid = part.relation
        CROSS JOIN LATERAL (
            SELECT string_agg(quote_ident(named.name), ', ' ORDER BY named.number) AS columns,
                   array_agg(attnum) AS numbers
            FROM (
                SELECT part.value ->> 'name', part.number
                FROM jsonb_array_elements(generation.spec -> 'key') WITH ORDINALITY AS part (value, number)
                UNION ALL
                SELECT generation.spec ->> 'rights_by', 1000  -- the carried column
            ) AS named (name, number)
            LEFT JOIN pg_attribute ON attrelid = part.relation AND attname = named.name AND NOT attisdropped
            WHERE named.number < 1000 OR named.name IS NOT NULL AND NOT generation.spec -> 'key' @>
                jsonb_build_array(jsonb_build_object('name', named.name))
        ) AS wanted
        LEFT JOIN pg_constraint
            ON conrelid = part.relation AND confrelid = semantic_index.source AND contype = 'f' AND conparentid = 0
            AND confdeltype = 'c' AND confupdtype = 'c' AND conkey @> wanted.numbers AND conkey <@ wanted.numbers
            AND to_jsonb(pg_constraint) -> 'conenforced' IS DISTINCT FROM 'false'  -- new in PostgreSQL 18
        WHERE semantic_index.id = known_index AND convalidated IS NOT TRUE
    $body$
    """,
    # How the tables of an index differ from what was recorded, in words; NULL if they don't. A missing column is not a
    # difference: capture reports it, and another column that takes its name later is a difference.
    #
    # With `also_harmless`, this includes changes that must be recorded but need no comparison of rows: a new partition
    # that was never written to, and one that is gone, because the foreign keys keep a partition from going while its
    # rows have chunks.
    """
    CREATE FUNCTION semantic.capture_changes_v1(known_index integer, also_harmless boolean) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT string_agg(compared.reason, ', ') FROM (
            SELECT different.reason
            FROM semantic.capture_state_v1(known_index) AS found
            FULL JOIN (SELECT * FROM semantic.captured WHERE index_id = known_index) AS known USING (relation)
            CROSS JOIN (
                SELECT NOT EXISTS (SELECT FROM semantic.foreign_keys_v1(known_index) WHERE name IS NULL) AS keyed
            ) AS foreign_keys
            CROSS JOIN LATERAL (SELECT CASE
                WHEN found.relation IS NULL THEN CASE
                    WHEN NOT also_harmless AND keyed THEN NULL
                    WHEN EXISTS (SELECT FROM pg_class WHERE oid = known.relation)
                    THEN format('%s is no longer part of the table', known.relation) ELSE 'a partition was dropped' END
                WHEN known.relation IS NULL AND (also_harmless OR NOT semantic.was_never_written_v1(found.relation))
                THEN format('%s was not captured before', found.relation)
                WHEN found.triggers <> known.triggers THEN format('the triggers of %s were changed', found.relation)
                WHEN EXISTS (
                    SELECT FROM jsonb_each(known.columns) AS before WHERE before.value <> found.columns -> before.key
                ) THEN format('columns of %s were changed', found.relation)
                WHEN found.file <> known.file THEN format('%s was rewritten', found.relation)
            END) AS different (reason)
            WHERE different.reason IS NOT NULL
            ORDER BY relation
            LIMIT 3
        ) AS compared
    $body$
    """,
    # Adds the foreign keys that an index lacks, not validated; returns whether any was missing.
    """
    CREATE FUNCTION semantic.add_foreign_keys_v1(known_index integer) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        missing record;
        found_any boolean := false;
    BEGIN
        FOR missing IN SELECT * FROM semantic.foreign_keys_v1(known_index) AS known WHERE known.name IS NULL LOOP
            EXECUTE format(
                'ALTER TABLE %s %sADD FOREIGN KEY (%s) REFERENCES %s (%s) '
                'ON UPDATE CASCADE ON DELETE CASCADE NOT VALID',
                missing.relation, missing.drops, missing.key, missing.source, missing.key
            );
            found_any := true;
        END LOOP;
        RETURN found_any;
    END
    $body$
    """,
    # Adds back foreign keys that were dropped: DROP TABLE ... CASCADE of one partition drops those of all. They are
    # validated once the rows that were deleted in the meantime have been found. Returns whether any was missing.
    """
    CREATE FUNCTION semantic.restore_foreign_keys_v1(known_index integer) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        IF NOT EXISTS (SELECT FROM semantic.foreign_keys_v1(known_index) AS known WHERE known.name IS NULL) THEN
            RETURN false;
        END IF;
        PERFORM pg_advisory_xact_lock(723628197, known_index);  -- a refresh drops them and adds them back
        IF NOT semantic.add_foreign_keys_v1(known_index) THEN
            RETURN false;
        END IF;
        PERFORM semantic.restart_backfill_v1(known_index, 'its foreign keys were dropped', true);
        RETURN true;
    END
    $body$
    """,
    # Validates the foreign keys of one table of an index whose rows have all been compared; waits while a refresh runs.
    """
    CREATE FUNCTION semantic.validate_foreign_key_v1(known_index integer, known_relation regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        doubtful record;
    BEGIN
        PERFORM pg_advisory_xact_lock(723628197, known_index);
        FOR doubtful IN
            SELECT known.*
            FROM semantic.foreign_keys_v1(known_index) AS known
            JOIN semantic.generation ON generation.id = known.generation_id
            WHERE known.name IS NOT NULL AND generation.backfilled_at IS NOT NULL AND generation.stale_since IS NULL
              AND known.relation = known_relation
        LOOP
            EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', doubtful.relation, doubtful.name);
        END LOOP;
    END
    $body$
    """,
    # Everything that keeps rows from being captured or compared, in words; NULL if nothing does.
    """
    CREATE FUNCTION semantic.capture_trouble_v1(known_index integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT string_agg(said.trouble, '; ') FROM (
            SELECT semantic.source_trouble_v1(known_index)
            UNION ALL
            SELECT DISTINCT format('triggers of %s are %s: pg-semantic repair', lacking.relation, lacking.state)
            FROM semantic.semantic_index
            JOIN pg_class ON pg_class.oid = semantic_index.source
            CROSS JOIN semantic.uncaptured_v1(semantic_index.source, semantic_index.name || '_capture') AS lacking
            WHERE semantic_index.id = known_index
            UNION ALL
            SELECT DISTINCT format(
                '%s has no foreign key to %s: a worker puts it back', lacking.relation, lacking.source
            )
            FROM semantic.foreign_keys_v1(known_index) AS lacking
            JOIN semantic.generation ON generation.id = lacking.generation_id
            WHERE lacking.name IS NULL AND semantic.is_key_v1(lacking.source, generation.spec)
            UNION ALL
            SELECT format('rows of %s, which inherits from %s, are not indexed', string_agg(
                       CAST(CAST(inhrelid AS regclass) AS text), ', ' ORDER BY inhrelid), semantic_index.source)
            FROM semantic.semantic_index
            JOIN pg_class ON pg_class.oid = semantic_index.source AND pg_class.relkind <> 'p'
            JOIN pg_inherits ON inhparent = semantic_index.source
            WHERE semantic_index.id = known_index
            GROUP BY semantic_index.source
        ) AS said (trouble)
    $body$
    """,
    # How the virtual generated columns of an index are computed, in its table and in partitions; NULL if it has none.
    # The comment on the capture function has the same text until an expression changes.
    """
    CREATE FUNCTION semantic.computed_columns_v1(known_index integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT string_agg(
            format('%s.%I: %s', part.relid, attname, pg_get_expr(adbin, adrelid)), '; ' ORDER BY part.relid, attname
        )
        FROM semantic.semantic_index
        CROSS JOIN LATERAL semantic.tree_v1(source) AS part
        JOIN pg_attribute ON attrelid = part.relid AND attgenerated = 'v'
        JOIN pg_attrdef ON adrelid = part.relid AND adnum = attnum
        WHERE semantic_index.id = known_index AND attname IN (
            SELECT jsonb_array_elements_text(spec -> 'columns') FROM semantic.generation WHERE index_id = known_index
        )
    $body$
    """,
    # Whether virtual generated columns are now computed from other columns than the ones that capture compares.
    """
    CREATE FUNCTION semantic.outdated_v1(index_source regclass, function_name text) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT EXISTS (
            SELECT FROM semantic.semantic_index
            JOIN pg_class AS source ON source.oid = semantic_index.source
            JOIN pg_proc ON pronamespace = source.relnamespace AND proname = function_name
            WHERE semantic_index.source = index_source AND semantic_index.name || '_capture' = function_name
              AND semantic.computed_columns_v1(semantic_index.id)
                  <> coalesce(obj_description(pg_proc.oid, 'pg_proc'), '')
        )
    $body$
    """,
    # What a worker checks every few seconds. This reads catalogs and the registry, but no row of a user's table.
    # `functions` means that the capture functions must be created again, which only their owner can do.
    """
    CREATE FUNCTION semantic.detect_v1()
    RETURNS TABLE (
        index_id integer, missing boolean, functions boolean, foreign_keys boolean, doubtful boolean, changes text,
        trouble text
    )
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT semantic_index.id,
               EXISTS (
                   SELECT FROM semantic.uncaptured_v1(semantic_index.source, semantic_index.name || '_capture') AS part
                   WHERE part.state <> 'disabled'
               ) OR known.outdated,
               known.outdated OR 2 > (
                   SELECT count(*) FROM pg_proc
                   WHERE pronamespace = source.relnamespace
                     AND proname IN (semantic_index.name || '_capture', semantic_index.name || '_capture_replica')
               ),
               coalesce(bool_or(lacking.relation IS NOT NULL AND lacking.name IS NULL), false),
               coalesce(bool_or(
                   lacking.name IS NOT NULL AND generation.backfilled_at IS NOT NULL AND generation.stale_since IS NULL
               ), false),
               semantic.capture_changes_v1(semantic_index.id, true),
               semantic.capture_trouble_v1(semantic_index.id)
        FROM semantic.semantic_index
        JOIN pg_class AS source ON source.oid = semantic_index.source
        CROSS JOIN LATERAL (
            SELECT semantic.outdated_v1(semantic_index.source, semantic_index.name || '_capture') AS outdated
        ) AS known
        LEFT JOIN LATERAL semantic.foreign_keys_v1(semantic_index.id) AS lacking ON true
        LEFT JOIN semantic.generation ON generation.id = lacking.generation_id
        GROUP BY semantic_index.id, source.relnamespace, known.outdated
        ORDER BY semantic_index.id
    $body$
    """,
    # The system identifier that initdb gave the cluster; NULL if the role cannot read it.
    """
    CREATE FUNCTION semantic.system_identifier_v1() RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        IF has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') THEN
            RETURN (SELECT system_identifier FROM pg_control_system());
        END IF;
        RETURN NULL;
    END
    $body$
    """,
    # Subscriptions that write to our tables. What they bring belongs to the workers of another cluster.
    """
    CREATE FUNCTION semantic.subscriptions_v1() RETURNS TABLE (subscription name, relations text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        RETURN QUERY
        SELECT subname, string_agg(CAST(CAST(srrelid AS regclass) AS text), ', ' ORDER BY srrelid)
        FROM pg_subscription
        JOIN pg_subscription_rel ON srsubid = pg_subscription.oid
        JOIN pg_class ON pg_class.oid = srrelid
        WHERE subenabled AND (
            relnamespace = CAST('semantic' AS regnamespace)
            OR EXISTS (SELECT FROM semantic.generation WHERE srrelid IN (chunks, receipts))
        )
        GROUP BY subname;
    END
    $body$
    """,
    # Makes this cluster the one whose workers process the jobs; returns whether it was another one before. If so, the
    # claims of the workers there end, and every row is compared again, because a restore or a subscription may have
    # bypassed capture.
    """
    CREATE FUNCTION semantic.settle_v1() RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        here bigint := semantic.system_identifier_v1();
        moved boolean;
    BEGIN
        IF here IS NULL OR (SELECT array_agg(system_identifier) = ARRAY[here] FROM semantic.cluster) THEN
            RETURN false;
        END IF;
        LOCK TABLE semantic.cluster IN EXCLUSIVE MODE;
        moved := EXISTS (SELECT FROM semantic.cluster WHERE system_identifier <> here);
        DELETE FROM semantic.cluster;
        INSERT INTO semantic.cluster (system_identifier) VALUES (here);
        IF moved THEN
            UPDATE semantic.job
            SET version = version + 1, state = 'pending', claim = NULL, lease_until = NULL
            WHERE state = 'processing';
            PERFORM semantic.restart_backfill_v1(id, 'the database came from another cluster', true)
            FROM semantic.semantic_index;
        END IF;
        RETURN moved;
    END
    $body$
    """,
    # NULL if the role cannot read the table, or while the table is locked for longer than lock_timeout.
    """
    CREATE FUNCTION semantic.truncated_rows_v1(receipts regclass) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        counted bigint;
    BEGIN
        IF has_table_privilege(receipts, 'SELECT') THEN
            EXECUTE format('SELECT count(*) FROM %s WHERE truncated', receipts) INTO counted;
        END IF;
        RETURN counted;
    EXCEPTION WHEN lock_not_available THEN
        RETURN NULL;
    END
    $body$
    """,
    # The planner's estimate over all partitions; NULL before the first ANALYZE or autovacuum.
    """
    CREATE FUNCTION semantic.rows_estimate_v1(relation regclass) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT sum(reltuples)::bigint
        FROM pg_class
        WHERE oid IN (SELECT relation UNION SELECT relid FROM pg_partition_tree(relation) WHERE isleaf)
          AND relkind <> 'p' AND reltuples >= 0
    $body$
    """,
    # The planner's estimate of the size of a table with all its partitions, without TOAST and indexes. Takes no locks.
    """
    CREATE FUNCTION semantic.bytes_v1(relation regclass) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT sum(relpages)::bigint * current_setting('block_size')::bigint
        FROM pg_class
        WHERE oid IN (SELECT relation UNION SELECT relid FROM pg_partition_tree(relation))
    $body$
    """,
)

VIEW = """
    CREATE VIEW semantic.index_status AS
    SELECT
        source_schema.nspname || '.' || semantic_index.name AS index_name,
        semantic_index.source,
        generation.id AS generation_id,
        generation.role,
        encoder.reference AS encoder,
        encoder.dimensions,
        generation.backfilled_at IS NOT NULL AS backfilled,
        semantic.rows_estimate_v1(semantic_index.source) AS rows_estimate,
        semantic.rows_estimate_v1(generation.receipts) AS synced_estimate,
        semantic.rows_estimate_v1(generation.chunks) AS chunks_estimate,
        semantic.truncated_rows_v1(generation.receipts) AS truncated,
        semantic.bytes_v1(semantic_index.source) + semantic.bytes_v1(generation.receipts)
            + semantic.bytes_v1(generation.chunks) AS bytes,
        jobs.pending + marks.pending AS pending,
        jobs.processing,
        jobs.failed,
        extract(epoch FROM now() - least(jobs.oldest, marks.oldest))::double precision AS oldest_pending_seconds,
        (
            SELECT count(DISTINCT relation)
            FROM semantic.uncaptured_v1(semantic_index.source, semantic_index.name || '_capture')
        ) AS uncaptured,
        (
            SELECT string_agg(concat(kind, ': ', reason), '; ' ORDER BY kind)
            FROM semantic.trouble
            WHERE trouble.generation_id = generation.id AND has_table_privilege('semantic.trouble', 'SELECT')
        ) AS trouble,
        (SELECT count(*) FROM semantic.worker WHERE heartbeat_at > now() - interval '1 minute') AS workers_alive,
        (
            SELECT coalesce(sum(rows_per_second), 0)
            FROM semantic.worker
            WHERE heartbeat_at > now() - interval '1 minute'
        ) AS rows_per_second,
        generation.stale_since,
        generation.stale_reason,
        CASE
            WHEN generation.stale_since IS NULL OR NOT semantic.sees_all_v1(generation.id) THEN NULL
            WHEN generation.backfilled_at IS NOT NULL THEN 0
            WHEN semantic.rows_estimate_v1(semantic_index.source) > 0 THEN least(1, generation.backfill_rows
                / CAST(semantic.rows_estimate_v1(semantic_index.source) AS double precision))
        END AS reconciled,
        concat_ws(
            '; ', semantic.capture_trouble_v1(semantic_index.id),
            CASE WHEN source.oid IS NOT NULL
                THEN semantic.capture_changes_v1(semantic_index.id, true)
                    || ': rows may be out of date until a worker has compared them'
            END
        ) AS capture_trouble
    FROM semantic.generation
    JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
    JOIN semantic.encoder ON encoder.id = generation.encoder_id
    JOIN pg_class AS chunks ON chunks.oid = generation.chunks
    LEFT JOIN pg_class AS source ON source.oid = semantic_index.source
    JOIN pg_namespace AS source_schema ON source_schema.oid = coalesce(source.relnamespace, chunks.relnamespace)
    LEFT JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE state = 'pending') AS pending,
            count(*) FILTER (WHERE state = 'processing') AS processing,
            count(*) FILTER (WHERE state = 'failed') AS failed,
            min(dirty_at) FILTER (WHERE state <> 'failed') AS oldest
        FROM semantic.job
        WHERE job.generation_id = generation.id
    ) AS jobs ON semantic.sees_all_v1(generation.id)
    LEFT JOIN LATERAL (
        SELECT count(*) AS pending, min(marked_at) AS oldest
        FROM semantic.mark
        WHERE mark.generation_id = generation.id
    ) AS marks ON semantic.sees_all_v1(generation.id)
"""

COMMENT = """
    COMMENT ON VIEW semantic.index_status IS
    'One row per semantic index and generation. Columns named _estimate come from the planner (pg_class.reltuples), '
    'because counting would scan the tables. Jobs and marks are counted, and NULL for a role that cannot '
    'read all rows. workers_alive and rows_per_second cover all indexes. '
    'trouble says why an index is not kept in sync or not built, for roles that can read semantic.trouble. '
    'Since stale_since, rows without a job may be out of date; reconciled is the share of rows compared since then. '
    'capture_trouble says what keeps rows from being captured.'
"""

GRANTS = ("GRANT SELECT ON semantic.index_status, semantic.captured TO PUBLIC",)


def upgrade() -> None:
    for statement in (*TABLES, *FUNCTIONS, VIEW, COMMENT, *GRANTS):
        op.execute(statement)
    op.execute("SELECT semantic.settle_v1()")


def downgrade() -> None:
    op.execute("DROP VIEW semantic.index_status")
    op.execute(
        "DROP FUNCTION semantic.settle_v1, semantic.subscriptions_v1, semantic.system_identifier_v1, "
        "semantic.detect_v1, semantic.outdated_v1, semantic.computed_columns_v1, semantic.capture_trouble_v1, "
        "semantic.validate_foreign_key_v1, semantic.restore_foreign_keys_v1, semantic.add_foreign_keys_v1, "
        "semantic.foreign_keys_v1, semantic.source_trouble_v1, semantic.is_key_v1, semantic.base_type_v1, "
        "semantic.labels_v1, "
        "semantic.table_named_v1, "
        "semantic.record_capture_v1, semantic.restart_backfill_v1, semantic.capture_changes_v1, "
        "semantic.was_never_written_v1, "
        "semantic.capture_state_v1, semantic.bytes_v1, semantic.rows_estimate_v1, semantic.truncated_rows_v1, "
        "semantic.capture_v1, "
        "semantic.uncaptured_v1, semantic.tree_v1, "
        "semantic.mark_v1, semantic.generations_of_v1"
    )
    op.execute("DROP TABLE semantic.mark, semantic.trouble, semantic.captured, semantic.cluster")
    op.execute(
        "ALTER TABLE semantic.generation DROP COLUMN stale_since, DROP COLUMN stale_reason, DROP COLUMN backfill_rows"
    )
    op.execute("ALTER TABLE semantic.worker DROP COLUMN rows_synced, DROP COLUMN rows_per_second")
