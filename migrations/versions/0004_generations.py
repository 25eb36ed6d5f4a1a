"""Generations: several copies of a semantic index, kept true side by side, one of them live.

The tables of a copy are named after its role, and renamed when that changes. Two views have the copy's own number in
their names, which stays: who reads and writes through these never meets another copy.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

COLUMNS = "ALTER TABLE semantic.generation ADD COLUMN role_since timestamptz NOT NULL DEFAULT now()"

FUNCTIONS = (
    # A view has the rights of who asks, so what it needs to be granted is granted to all.
    """
    CREATE FUNCTION semantic.expose_v1(generation_id integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        shown record;
    BEGIN
        FOR shown IN
            SELECT 'chunks_' || id AS name, chunks AS relation FROM semantic.generation WHERE id = generation_id
            UNION ALL
            SELECT 'receipts_' || id, receipts FROM semantic.generation WHERE id = generation_id
        LOOP
            EXECUTE format(
                'CREATE VIEW semantic.%I WITH (security_invoker) AS SELECT * FROM %s', shown.name, shown.relation
            );
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON semantic.%I TO PUBLIC', shown.name);
        END LOOP;
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.register_index_v2(
        index_name text, index_source regclass, index_chunks regclass, index_receipts regclass,
        index_encoder_id bigint, index_spec jsonb
    ) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        made integer;
    BEGIN
        PERFORM semantic.unregister_index_v2(generation.chunks)  -- of tables dropped without a word to us
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        WHERE generation.role = 'live' AND NOT EXISTS (SELECT FROM pg_class WHERE oid = semantic_index.source);
        made := semantic.register_index_v1(
            index_name, index_source, index_chunks, index_receipts, index_encoder_id, index_spec
        );
        PERFORM semantic.expose_v1(made);
        RETURN made;
    END
    $body$
    """,
    # How long DDL of ours waits for tables that others use, in seconds: SET semantic.lock_seconds = 120. It ends well
    # before a statement_timeout would.
    """
    CREATE FUNCTION semantic.lock_seconds_v1() RETURNS double precision
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN least(
        CAST(coalesce(nullif(current_setting('semantic.lock_seconds', true), ''), '30') AS double precision),
        0.8 * CAST(nullif(
            extract(epoch FROM CAST(current_setting('statement_timeout') AS interval)), 0
        ) AS double precision)
    )
    """,
    # Locks tables and their partitions, in this order, within a fifth of a second in all; those that are gone are
    # passed over. A role that may set deadlock_timeout has an autovacuum that is in the way cancelled by the server.
    """
    CREATE FUNCTION semantic.lock_once_v1(mode text, relations regclass[]) RETURNS void
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
    $body$
    """,
    # The processes whose locks on tables or their partitions are in the way of this mode.
    """
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
    )
    """,
    # The lock that every DDL of ours on a user's table begins with. Whoever waits for a lock makes others wait behind
    # it: so this waits for a fifth of a second, gives back what it has got, and tries again after a pause, for as long
    # as lock_seconds_v1 says. A transaction that has locked a table that others write to does not try again, since they
    # would wait meanwhile. Ends builds of late indexes, whose locks last for minutes, and which a worker begins again.
    """
    CREATE FUNCTION semantic.lock_v1(mode text, VARIADIC relations regclass[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        deadline timestamptz := clock_timestamp() + make_interval(secs => semantic.lock_seconds_v1());
        longest_pause double precision := 0.05;
        is_last boolean := EXISTS (
            SELECT FROM pg_locks
            WHERE pid = pg_backend_pid() AND granted AND locktype = 'relation'
              AND pg_locks.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
              AND (relation = ANY (relations) OR relation IN (SELECT source FROM semantic.semantic_index))
        );
        first_holders text[];
        holders text[];
    BEGIN
        IF mode NOT IN ('SHARE ROW EXCLUSIVE', 'ACCESS EXCLUSIVE') THEN
            RAISE EXCEPTION 'lock mode % is unknown', quote_literal(mode) USING ERRCODE = 'invalid_parameter_value';
        END IF;
        LOOP
            PERFORM pg_cancel_backend(build.pid)
            FROM pg_stat_progress_create_index AS build
            JOIN pg_stat_activity AS builder ON builder.pid = build.pid
            WHERE mode = 'ACCESS EXCLUSIVE' AND build.relid = ANY (relations)
              AND build.relid IN (SELECT unnest(ARRAY[chunks, receipts]) FROM semantic.generation)
              AND pg_has_role(builder.usesysid, 'USAGE');
            BEGIN
                PERFORM semantic.lock_once_v1(mode, relations);
                RETURN;
            EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
                holders := semantic.lock_holders_v1(mode, relations);
                first_holders := coalesce(first_holders, holders);
                IF is_last OR clock_timestamp() > deadline THEN
                    RAISE EXCEPTION 'tables (%) are in use by other transactions (pid: %)',
                        array_to_string(array_remove(relations, NULL), ', '),
                        coalesce(
                            (SELECT string_agg(pid, ', ') FROM unnest(holders) AS pid WHERE pid = ANY (first_holders)),
                            nullif(array_to_string(holders, ', '), ''),
                            'gone by now'
                        )
                    USING ERRCODE = 'lock_not_available',
                        HINT = CASE WHEN is_last
                            THEN 'Other tables are locked in this transaction, so it cannot wait for these: do this in '
                                'a transaction of its own. '
                            ELSE '' END
                            || 'Try again when they have ended; SELECT pg_terminate_backend(pid) ends one.';
                END IF;
            END;
            PERFORM pg_sleep(random() * longest_pause);
            longest_pause := least(1, longest_pause * 2);
        END LOOP;
    END
    $body$
    """,
    # The source of an index, the views and the tables of one of its copies, or of all: in the order in which they are
    # locked, which is that of writers (source, then tables) and of workers and searchers (views, then tables).
    """
    CREATE FUNCTION semantic.relations_v1(known_index integer, only_generation integer) RETURNS regclass[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN ARRAY(
        SELECT part.relation
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id
        CROSS JOIN LATERAL (
            VALUES (1, source), (2, to_regclass('semantic.chunks_' || generation.id)),
                   (2, to_regclass('semantic.receipts_' || generation.id)), (3, chunks), (3, receipts)
        ) AS part (place, relation)
        JOIN pg_class ON pg_class.oid = part.relation
        WHERE semantic_index.id = known_index AND generation.id = coalesce(only_generation, generation.id)
        GROUP BY part.place, part.relation
        ORDER BY part.place, part.relation
    )
    """,
    # Deletes up to so many marks, and as many jobs, of copies that were dropped; gives how many it deleted. Whether
    # there are any is asked of the indexes, generation by generation, and so costs next to nothing.
    """
    CREATE FUNCTION semantic.sweep_v1(most integer) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $body$
        WITH RECURSIVE marked (id) AS (
            SELECT min(generation_id) FROM semantic.mark
            UNION ALL
            SELECT (SELECT min(generation_id) FROM semantic.mark WHERE generation_id > marked.id)
            FROM marked WHERE marked.id IS NOT NULL
        ), queued (id) AS (
            SELECT min(generation_id) FROM semantic.job
            UNION ALL
            SELECT (SELECT min(generation_id) FROM semantic.job WHERE generation_id > queued.id)
            FROM queued WHERE queued.id IS NOT NULL
        ), marks AS (
            DELETE FROM semantic.mark WHERE ctid = ANY (ARRAY(
                SELECT mark.ctid FROM semantic.mark
                WHERE generation_id = ANY (ARRAY(SELECT id FROM marked EXCEPT SELECT id FROM semantic.generation))
                LIMIT most
            ))
            RETURNING 1
        ), jobs AS (
            DELETE FROM semantic.job WHERE ctid = ANY (ARRAY(
                SELECT job.ctid FROM semantic.job
                WHERE generation_id = ANY (ARRAY(SELECT id FROM queued EXCEPT SELECT id FROM semantic.generation))
                LIMIT most
            ))
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM marks) + (SELECT count(*) FROM jobs)
    $body$
    """,
    # Drops the tables of a copy, its views, and what is known of it. The tables of the live one are left to who calls.
    # Marks go before jobs: a worker that is making jobs of them is waited for, and its jobs are found. What there is of
    # these beyond ten thousand is left for sweep_v1, since the source is locked meanwhile.
    """
    CREATE FUNCTION semantic.forget_generation_v1(generation_id integer, and_tables boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        gone semantic.generation;
        doomed record;
    BEGIN
        PERFORM semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_v1(index_id, id))
        FROM semantic.generation
        WHERE id = generation_id;
        SELECT * INTO gone FROM semantic.generation WHERE id = generation_id FOR UPDATE;
        FOR doomed IN
            SELECT 'VIEW' AS kind, CAST(CAST(pg_class.oid AS regclass) AS text) AS name
            FROM (VALUES ('semantic.chunks_' || gone.id), ('semantic.receipts_' || gone.id)) AS view (name)
            JOIN pg_class ON pg_class.oid = to_regclass(view.name)
            UNION ALL
            SELECT 'TABLE', CAST(CAST(oid AS regclass) AS text)
            FROM pg_class
            WHERE and_tables AND oid IN (gone.chunks, gone.receipts)
            ORDER BY kind DESC, name
        LOOP
            EXECUTE format('DROP %s %s', doomed.kind, doomed.name);
        END LOOP;
        DELETE FROM semantic.mark WHERE ctid = ANY (
            ARRAY(SELECT mark.ctid FROM semantic.mark WHERE mark.generation_id = gone.id LIMIT 10000)
        );
        DELETE FROM semantic.job WHERE ctid = ANY (
            ARRAY(SELECT job.ctid FROM semantic.job WHERE job.generation_id = gone.id LIMIT 10000)
        );
        DELETE FROM semantic.generation WHERE id = gone.id;
        DELETE FROM semantic.encoder
        WHERE id = gone.encoder_id
          AND NOT EXISTS (SELECT FROM semantic.generation WHERE generation.encoder_id = encoder.id);
    END
    $body$
    """,
    # Forgets copies whose chunk table was dropped without a word to us, and what waits for copies that are not there.
    # Gives the roles that are free now.
    """
    CREATE FUNCTION semantic.forget_ghosts_v1(known_index integer) RETURNS text[]
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        ghosts integer[];
        roles text[];
    BEGIN
        SELECT array_agg(id), array_agg(role) INTO ghosts, roles
        FROM semantic.generation
        WHERE index_id = known_index AND role <> 'live' AND NOT EXISTS (SELECT FROM pg_class WHERE oid = chunks);
        PERFORM semantic.sweep_v1(10000);  -- before anything is locked
        PERFORM semantic.forget_generation_v1(id, true) FROM unnest(ghosts) AS id;
        RETURN coalesce(roles, '{}');
    END
    $body$
    """,
    # Drops a copy that has this role, and has had it for some seconds: searchers may ask one that was live before.
    """
    CREATE FUNCTION semantic.drop_generation_v1(generation_id integer, expected text, seconds double precision)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known semantic.generation;
    BEGIN
        PERFORM semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_v1(index_id, id))
        FROM semantic.generation
        WHERE id = generation_id AND role = expected AND role <> 'live';
        SELECT * INTO known FROM semantic.generation WHERE id = generation_id FOR UPDATE;
        IF known.role IS DISTINCT FROM expected OR known.role = 'live'
            OR known.role_since > clock_timestamp() - make_interval(secs => seconds) THEN
            RAISE EXCEPTION 'generation % is not % any more, or only since a moment ago', generation_id, expected
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Look at its status, and try again.';
        END IF;
        PERFORM semantic.forget_generation_v1(generation_id, true);
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.unregister_index_v2(index_chunks regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        gone integer := (SELECT index_id FROM semantic.generation WHERE chunks = index_chunks);
    BEGIN
        PERFORM semantic.forget_generation_v1(id, chunks <> index_chunks)
        FROM semantic.generation
        WHERE index_id = gone
        ORDER BY id DESC;
        DELETE FROM semantic.semantic_index WHERE id = gone;
    END
    $body$
    """,
    # What makes two copies different; a spec that is older than BM25 says nothing of it.
    """
    CREATE FUNCTION semantic.recipe_v1(spec jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN jsonb_build_object('lexical', NULL) || (spec - '{name,table,schema,key}'::text[])
    """,
    # What puts the parts of an index into the schema that its source was moved to; NULL where they are beside it.
    """
    CREATE FUNCTION semantic.apart_v1(known_index integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT string_agg(
            format('ALTER %s %s SET SCHEMA %I', part.kind, part.name, nspname), '; ' ORDER BY part.kind DESC, part.name
        ) || CASE WHEN bool_or(part.kind = 'FUNCTION') AND to_regproc('semantic.make_search_v1') IS NOT NULL
            THEN format('; SELECT semantic.make_search_v1(%s)', known_index) ELSE ''
        END
        FROM semantic.semantic_index
        JOIN pg_class AS source ON source.oid = semantic_index.source
        JOIN pg_namespace ON pg_namespace.oid = source.relnamespace
        CROSS JOIN LATERAL (
            SELECT 'TABLE' AS kind, CAST(CAST(pg_class.oid AS regclass) AS text) AS name, relnamespace AS place
            FROM semantic.generation
            JOIN pg_class ON pg_class.oid IN (generation.chunks, generation.receipts)
            WHERE generation.index_id = semantic_index.id
            UNION
            SELECT 'FUNCTION', CAST(CAST(pg_proc.oid AS regprocedure) AS text), pg_proc.pronamespace
            FROM pg_trigger
            JOIN pg_proc AS capture ON capture.oid = tgfoid
            JOIN pg_proc ON pg_proc.oid = tgfoid
                OR pg_proc.pronamespace = capture.pronamespace AND pg_proc.proname = semantic_index.name || '_search'
                    AND position('semantic.search_v1(asked' IN pg_proc.prosrc) > 0
            WHERE tgrelid = source.oid AND capture.proname = semantic_index.name || '_capture'
        ) AS part (kind, name, place)
        WHERE semantic_index.id = known_index AND part.place <> source.relnamespace
    $body$
    """,
    # Refuses columns that the text of rows can not be made of: what is not there or, for a copy to be begun, not text.
    """
    CREATE FUNCTION semantic.require_columns_v1(index_source regclass, spec jsonb, to_begin boolean) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        wanting record;
    BEGIN
        SELECT named.value AS name, format_type(atttypid, atttypmod) AS type INTO wanting
        FROM jsonb_array_elements_text(spec -> 'columns') WITH ORDINALITY AS named (value, number)
        LEFT JOIN pg_attribute
            ON attrelid = index_source AND attname = named.value AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_type ON pg_type.oid = atttypid
        WHERE typcategory IS NULL OR to_begin AND typcategory <> 'S'
        ORDER BY named.number
        LIMIT 1;
        IF FOUND AND wanting.type IS NULL THEN
            RAISE EXCEPTION 'table % has no column %, and a copy with columns % reads it',
                index_source, quote_ident(wanting.name), spec -> 'columns'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = CASE WHEN to_begin THEN 'Name text columns that are there.'
                    ELSE 'A copy that reads what is gone can only be dropped (pg-semantic generation drop).' END;
        ELSIF FOUND THEN
            RAISE EXCEPTION 'column % of table % is not text but %',
                quote_ident(wanting.name), index_source, wanting.type
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Name text columns.';
        END IF;
    END
    $body$
    """,
    # The columns that any copy of an index is made of, whether they are there, and whether the live one is.
    """
    CREATE FUNCTION semantic.columns_v1(known_index integer) RETURNS TABLE (name text, there boolean, by_live boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT named.value, count(attname) > 0, bool_or(generation.role = 'live')
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id
        CROSS JOIN jsonb_array_elements_text(generation.spec -> 'columns') AS named (value)
        LEFT JOIN pg_attribute
            ON attrelid = semantic_index.source AND attname = named.value AND attnum > 0 AND NOT attisdropped
        WHERE semantic_index.id = known_index
        GROUP BY named.value
    $body$
    """,
    # The columns that capture compares: a virtual generated column, of PostgreSQL 18, is in no transition table, so the
    # columns that it is computed from stand in for it. Partitions may each compute it in their own way.
    """
    CREATE FUNCTION semantic.captured_columns_v1(known_index integer, index_source regclass)
    RETURNS TABLE (name text, there boolean, by_live boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        WITH virtual AS (
            SELECT generated.attname AS name, pg_attrdef.oid AS expression, part.relid
            FROM (SELECT index_source AS relid UNION SELECT relid FROM pg_partition_tree(index_source)) AS part
            JOIN pg_attribute AS generated ON generated.attrelid = part.relid AND generated.attgenerated = 'v'
            JOIN pg_attrdef ON adrelid = part.relid AND adnum = generated.attnum
        )
        SELECT name, there, by_live
        FROM semantic.columns_v1(known_index)
        WHERE name NOT IN (SELECT virtual.name FROM virtual)
        UNION
        SELECT base.attname, true, true
        FROM semantic.columns_v1(known_index) AS read
        JOIN virtual ON virtual.name = read.name
        JOIN pg_depend
            ON classid = CAST('pg_attrdef' AS regclass) AND objid = virtual.expression
            AND refclassid = CAST('pg_class' AS regclass) AND refobjid = virtual.relid AND refobjsubid > 0
        JOIN pg_attribute AS base
            ON base.attrelid = virtual.relid AND base.attnum = refobjsubid AND base.attgenerated = ''
    $body$
    """,
    # The condition that an old row and a new one have the same key, by the operators of the index that keeps the key
    # unique: they need not be in pg_catalog. Refuses a key that a FULL JOIN can not be made on.
    """
    CREATE FUNCTION semantic.same_key_v1(index_source regclass, key text[]) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        comparison record;
    BEGIN
        SELECT string_agg(
                   format('old_rows.%1$I OPERATOR(%2$I.%3$s) new_rows.%1$I', attname, nspname, coalesce(oprname, '=')),
                   ' AND ' ORDER BY number
               ) AS condition,
               bool_and(coalesce(oprcanmerge, true)) OR bool_and(coalesce(oprcanhash, true)) AS can_join,
               string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY number) AS columns
        INTO comparison
        FROM unnest(key) WITH ORDINALITY AS named (name, number)
        JOIN pg_attribute ON attrelid = index_source AND attname = named.name AND NOT attisdropped
        LEFT JOIN LATERAL (
            SELECT opcfamily, opcintype
            FROM pg_index
            CROSS JOIN unnest(indkey, indclass) AS part (attnum, opclass)
            JOIN pg_opclass ON pg_opclass.oid = part.opclass
            WHERE indrelid = index_source AND indisunique AND indpred IS NULL
              AND part.attnum = pg_attribute.attnum
            ORDER BY indisprimary DESC, indexrelid
            LIMIT 1
        ) AS unique_by ON true
        LEFT JOIN pg_amop
            ON amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype AND amopstrategy = 3
        LEFT JOIN pg_operator ON pg_operator.oid = amopopr
        JOIN pg_namespace ON pg_namespace.oid = coalesce(oprnamespace, CAST('pg_catalog' AS regnamespace));
        IF NOT comparison.can_join THEN
            RAISE EXCEPTION 'the key of table % (%) can not be joined on: its equality operator can neither merge nor '
                'hash', index_source, comparison.columns
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Declare the operator with MERGES or HASHES (CREATE OPERATOR), or give the table a key of another '
                    'type.';
        END IF;
        RETURN comparison.condition;
    END
    $body$
    """,
    # Makes the function of the capture, which marks a row for all copies when a column changes that any is made of: so
    # only the registry can say which columns these are. Waits for writers whose changes were not marked for all. Where
    # a copy that is not live reads a column that is gone, writes go on as if it did not; should the column come back,
    # all rows are looked at for that copy.
    """
    CREATE FUNCTION semantic.watch_v1(index_name text, index_source regclass, function_name text, statement text)
    RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known_index integer := (
            SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
        );
        place record;
    BEGIN
        IF semantic.apart_v1(known_index) IS NOT NULL THEN
            RAISE EXCEPTION 'table % is in another schema than semantic index %', index_source, index_name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = format('Put all of it beside the table: %s.', semantic.apart_v1(known_index));
        END IF;
        PERFORM semantic.lock_v1('SHARE ROW EXCLUSIVE', index_source);
        FOR place IN
            SELECT '/*function*/' AS mark, format('%I.%I', nspname, function_name) AS filling
            FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE pg_class.oid = index_source
            UNION ALL
            SELECT '/*generations*/', string_agg(format('(%s)', id), ', ' ORDER BY id)
            FROM semantic.generation
            WHERE index_id = known_index
            UNION ALL
            SELECT '/*same_key*/', replace(
                semantic.same_key_v1(
                    index_source,
                    ARRAY(SELECT part ->> 'name' FROM jsonb_array_elements(generation.spec -> 'key') AS part)
                ),
                '''', ''''''
            )
            FROM semantic.generation
            WHERE index_id = known_index AND role = 'live'
            UNION ALL
            SELECT rows.mark, replace(
                coalesce(string_agg(
                    format(
                        CASE WHEN read.there OR read.by_live THEN 'CAST(%1$s.%2$I AS TEXT) COLLATE "C"'
                            ELSE 'pg_catalog.to_jsonb(%1$s) ->> %2$L' END,
                        rows.alias, read.name
                    ),
                    ', ' ORDER BY read.name
                ), 'NULL'),
                '''', ''''''
            )
            FROM (VALUES ('/*old_text*/', 'old_rows'), ('/*new_text*/', 'new_rows')) AS rows (mark, alias)
            LEFT JOIN semantic.captured_columns_v1(known_index, index_source) AS read ON true
            GROUP BY rows.mark
        LOOP
            statement := replace(statement, place.mark, place.filling);
        END LOOP;
        EXECUTE statement;
        INSERT INTO semantic.mark (generation_id)
        SELECT DISTINCT generation.id
        FROM semantic.generation
        JOIN semantic.columns_v1(known_index) AS read ON generation.spec -> 'columns' ? read.name
        WHERE generation.index_id = known_index AND generation.role <> 'live' AND NOT read.there;
    END
    $body$
    """,
    # Makes sure that an index is as a change expects it to be: live, or to come, and then abandoned for what comes now.
    """
    CREATE FUNCTION semantic.prepare_generation_v1(index_name text, index_source regclass, was jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known_index integer := (
            SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
        );
        newest record;
    BEGIN
        PERFORM semantic.forget_ghosts_v1(known_index);
        SELECT id, role, semantic.recipe_v1(spec) AS recipe INTO newest
        FROM semantic.generation
        WHERE index_id = known_index AND role IN ('live', 'next')
        ORDER BY role DESC
        LIMIT 1;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no semantic index % on table %', index_name, index_source
            USING ERRCODE = 'undefined_object';
        ELSIF newest.recipe <> semantic.recipe_v1(was) THEN
            RAISE EXCEPTION 'semantic index % is not what this change was made for: its % copy is %, and not %',
                index_name, newest.role, newest.recipe, semantic.recipe_v1(was)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'A copy that is being built has to be switched to, or dropped, first.';
        ELSIF newest.role = 'next' THEN
            PERFORM semantic.forget_generation_v1(newest.id, true);
        ELSE
            PERFORM semantic.lock_v1('SHARE ROW EXCLUSIVE', index_source);
        END IF;
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.begin_generation_v1(
        index_name text, index_source regclass, next_chunks regclass, next_receipts regclass,
        next_encoder_id bigint, target jsonb
    ) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known_index integer := (
            SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
        );
        made integer;
    BEGIN
        PERFORM semantic.require_columns_v1(index_source, target, true);
        PERFORM CAST(target #>> '{lexical,config}' AS regconfig);
        INSERT INTO semantic.encoder (id, reference, dimensions)
        VALUES (next_encoder_id, target #>> '{encoder,reference}', (target #>> '{encoder,dimensions}')::integer)
        ON CONFLICT DO NOTHING;
        INSERT INTO semantic.generation (index_id, role, encoder_id, chunks, receipts, spec)
        VALUES (known_index, 'next', next_encoder_id, next_chunks, next_receipts, target)
        RETURNING id INTO made;
        PERFORM semantic.same_rights_v1(pair.live, pair.next, NOT relrowsecurity)  -- it has no policies yet
        FROM semantic.generation
        CROSS JOIN LATERAL (VALUES (chunks, next_chunks), (receipts, next_receipts)) AS pair (live, next)
        JOIN pg_class ON pg_class.oid = pair.live
        WHERE index_id = known_index AND role = 'live';
        PERFORM semantic.expose_v1(made);
        RETURN made;
    END
    $body$
    """,
    # A table, and the indexes that are named after it.
    """
    CREATE FUNCTION semantic.rename_v1(relation regclass, stem text, new_stem text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        named record;
    BEGIN
        FOR named IN
            SELECT 'INDEX' AS kind, CAST(CAST(indexrelid AS regclass) AS text) AS old, relname AS name
            FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE indrelid = relation AND starts_with(relname, stem)
            UNION ALL
            SELECT 'TABLE', CAST(relation AS text), relname FROM pg_class WHERE oid = relation
        LOOP
            EXECUTE format(
                'ALTER %s %s RENAME TO %I', named.kind, named.old, new_stem || substr(named.name, length(stem) + 1)
            );
        END LOOP;
    END
    $body$
    """,
    # What a table's owner has granted to others, on all of it or on a column.
    """
    CREATE FUNCTION semantic.grants_v1(relation regclass)
    RETURNS TABLE (grantee text, privilege text, of_column name, is_grantable boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(granted.grantee AS regrole) AS text) END,
               granted.privilege_type, part.of_column, granted.is_grantable
        FROM pg_class
        CROSS JOIN LATERAL (
            SELECT NULL, relacl
            UNION ALL
            SELECT attname, attacl FROM pg_attribute WHERE attrelid = pg_class.oid AND NOT attisdropped
        ) AS part (of_column, acl)
        CROSS JOIN LATERAL aclexplode(part.acl) AS granted
        WHERE pg_class.oid = relation AND granted.grantee <> relowner
    $body$
    """,
    # Who owns and may use the live copy, and nobody else, owns and may use another; or, for now, its owner alone.
    """
    CREATE FUNCTION semantic.same_rights_v1(live regclass, other regclass, and_grants boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        owner oid := (SELECT relowner FROM pg_class WHERE oid = live);
        granted record;
    BEGIN
        IF owner <> (SELECT relowner FROM pg_class WHERE oid = other) THEN
            EXECUTE format('ALTER TABLE %s OWNER TO %s', other, CAST(owner AS regrole));
        END IF;
        FOR granted IN SELECT DISTINCT grantee FROM semantic.grants_v1(other) LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', other, granted.grantee);
        END LOOP;
        FOR granted IN
            SELECT *
            FROM semantic.grants_v1(live)
            WHERE and_grants AND (of_column IS NULL OR EXISTS (
                SELECT FROM pg_attribute WHERE attrelid = other AND attname = of_column AND NOT attisdropped
            ))
        LOOP
            EXECUTE format(
                'GRANT %s%s ON %s TO %s%s', granted.privilege,
                coalesce(' (' || quote_ident(granted.of_column) || ')', ''), other, granted.grantee,
                CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            );
        END LOOP;
    END
    $body$
    """,
    # Refuses a copy that would show rows which the live one hides. Policies are not compared: with none, none is shown.
    """
    CREATE FUNCTION semantic.require_row_security_v1(live regclass, other regclass) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        here pg_class;
        there pg_class;
    BEGIN
        SELECT * INTO here FROM pg_class WHERE oid = live;
        SELECT * INTO there FROM pg_class WHERE oid = other;
        IF (here.relrowsecurity, here.relforcerowsecurity) <> (there.relrowsecurity, there.relforcerowsecurity) THEN
            RAISE EXCEPTION 'row-level security of % is not as that of %, which is live', other, live
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format(
                'Run: ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY%s.', other,
                CASE WHEN here.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END,
                CASE WHEN here.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END,
                CASE WHEN here.relrowsecurity THEN '; and CREATE POLICY, as for the live copy' ELSE '' END
            );
        END IF;
    END
    $body$
    """,
    # A copy of this role becomes live; the one that was becomes the previous one, or next again when it goes back.
    """
    CREATE FUNCTION semantic.switch_generation_v1(generation_id integer, switched text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        stem text;
        of_source regclass;
        becomes text := CASE switched WHEN 'next' THEN 'previous' ELSE 'next' END;
        live semantic.generation;
        chosen semantic.generation;
    BEGIN
        PERFORM semantic.lock_v1('ACCESS EXCLUSIVE', one.chunks, one.receipts, another.chunks, another.receipts)
        FROM semantic.generation AS one  -- before rows of the registry, which a worker would have to wait for
        JOIN semantic.generation AS another ON another.index_id = one.index_id AND another.id = generation_id
        WHERE one.role = 'live' AND another.role = switched AND switched <> 'live';
        SELECT * INTO chosen FROM semantic.generation WHERE id = generation_id AND role = switched FOR UPDATE;
        SELECT * INTO live FROM semantic.generation WHERE index_id = chosen.index_id AND role = 'live' FOR UPDATE;
        SELECT name, source INTO stem, of_source FROM semantic.semantic_index WHERE id = chosen.index_id;
        IF live.id IS NULL OR chosen.id IS NULL OR switched = 'live' THEN
            RAISE EXCEPTION 'generation % is not % any more: somebody else was at it', generation_id, switched
            USING ERRCODE = 'object_not_in_prerequisite_state';
        ELSIF EXISTS (SELECT FROM semantic.generation WHERE index_id = live.index_id AND role = becomes) THEN
            RAISE EXCEPTION 'semantic index % has a % copy already', stem, becomes
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Drop that copy first.';
        END IF;
        PERFORM semantic.require_columns_v1(of_source, chosen.spec, false);
        PERFORM semantic.require_row_security_v1(pair.live, pair.chosen),
                semantic.same_rights_v1(pair.live, pair.chosen, true)
        FROM (VALUES (live.chunks, chosen.chunks), (live.receipts, chosen.receipts)) AS pair (live, chosen);
        PERFORM semantic.rename_v1(relation, stem, stem || '__' || becomes)
        FROM unnest(ARRAY[live.chunks, live.receipts]) AS relation;
        PERFORM semantic.rename_v1(relation, stem || '__' || switched, stem)
        FROM unnest(ARRAY[chosen.chunks, chosen.receipts]) AS relation;
        UPDATE semantic.generation SET role = becomes, role_since = now() WHERE id = live.id;
        UPDATE semantic.generation SET role = 'live', role_since = now() WHERE id = chosen.id;
    END
    $body$
    """,
    # Takes the begin of a copy back, whether it is live by now or not: then the one before is live again. That need not
    # be the one that this took the place of, which may never have been live.
    """
    CREATE FUNCTION semantic.withdraw_generation_v1(
        index_name text, index_source regclass, target jsonb, was jsonb
    ) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known_index integer := (
            SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
        );
    BEGIN
        PERFORM semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_v1(known_index, NULL));
        PERFORM semantic.switch_generation_v1(previous.id, 'previous')
        FROM semantic.generation AS previous
        JOIN semantic.generation AS live ON live.index_id = known_index AND live.role = 'live'
        WHERE previous.index_id = known_index AND previous.role = 'previous'
          AND semantic.recipe_v1(live.spec) = semantic.recipe_v1(target);
        PERFORM semantic.forget_generation_v1(id, true)
        FROM semantic.generation
        WHERE index_id = known_index AND role = 'next' AND semantic.recipe_v1(spec) = semantic.recipe_v1(target);
        IF EXISTS (
            SELECT FROM semantic.generation
            WHERE index_id = known_index AND role = 'live' AND semantic.recipe_v1(spec) <> semantic.recipe_v1(was)
        ) THEN
            IF NOT FOUND THEN
                RAISE EXCEPTION 'semantic index % can not go back: the copy before was dropped, or changed since',
                    index_name
                USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Declare what is wanted, and make a migration for that.';
            END IF;
            RAISE WARNING 'semantic index % is live as it was before the copy that this one took the place of',
                index_name
            USING HINT = 'To have that copy again, begin it anew.';
        END IF;
    END
    $body$
    """,
    # What a statement asks before it compares a vector with those of a table.
    """
    CREATE FUNCTION semantic.require_encoder_v1(index_chunks regclass, asked text, asked_dimensions integer)
    RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known record;
    BEGIN
        SELECT encoder.reference, encoder.dimensions INTO known
        FROM semantic.generation
        JOIN semantic.encoder ON encoder.id = generation.encoder_id
        WHERE generation.chunks = index_chunks;
        IF known.reference = asked AND known.dimensions = asked_dimensions THEN
            RETURN true;
        END IF;
        RAISE EXCEPTION '% has vectors of encoder % (% dimensions), and the query vector is of % (% dimensions)',
            index_chunks, known.reference, known.dimensions, asked, asked_dimensions
        USING ERRCODE = 'invalid_parameter_value',
            HINT = 'The index was switched to another encoder, or is declared with one that it has not got yet.';
    END
    $body$
    """,
)


def upgrade() -> None:
    for statement in (COLUMNS, *FUNCTIONS):
        op.execute(statement)
    op.execute("SELECT semantic.expose_v1(id) FROM semantic.generation")


def downgrade() -> None:
    op.execute("""
        DO $body$
        BEGIN
            IF EXISTS (SELECT FROM semantic.generation WHERE role <> 'live') THEN
                RAISE EXCEPTION 'there are semantic indexes of several generations'
                USING ERRCODE = 'dependent_objects_still_exist',
                    HINT = 'Drop those that are not live, with pg-semantic generation drop.';
            END IF;
            EXECUTE coalesce(
                (SELECT string_agg(format('DROP VIEW semantic.chunks_%s, semantic.receipts_%s', id, id), ';')
                 FROM semantic.generation),
                'SELECT'
            );
        END
        $body$
    """)
    op.execute(
        "DROP FUNCTION semantic.require_encoder_v1, semantic.withdraw_generation_v1, "
        "semantic.switch_generation_v1, semantic.rename_v1, semantic.begin_generation_v1, "
        "semantic.prepare_generation_v1, semantic.watch_v1, semantic.same_key_v1, semantic.captured_columns_v1, "
        "semantic.columns_v1, semantic.require_columns_v1, "
        "semantic.apart_v1, semantic.recipe_v1, semantic.require_row_security_v1, semantic.same_rights_v1, "
        "semantic.grants_v1, semantic.drop_generation_v1, semantic.unregister_index_v2, semantic.forget_ghosts_v1, "
        "semantic.forget_generation_v1, semantic.sweep_v1, semantic.relations_v1, semantic.lock_v1, "
        "semantic.lock_holders_v1, semantic.lock_once_v1, semantic.lock_seconds_v1, semantic.register_index_v2, "
        "semantic.expose_v1"
    )
    op.execute("ALTER TABLE semantic.generation DROP COLUMN role_since")
